"""The pytest plugin: fixtures `mesh` and `shadow`, the mark `ttt_device`, one process a board, one item an expectation.

It is loaded by every pytest of an environment that has ttt-testing, so it imports torch and ttnn only where a test needs them.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from ttt_testing._plugin_process import BoardProcess, Serving
from ttt_testing.suite_report import SuiteFailed, listening

if TYPE_CHECKING:
    from ttt_testing.expectations import Item
    from ttt_testing.values import Values

__all__ = ["mesh", "shadow"]

DEFAULT_BOARD = "n150"
_BOARD: pytest.StashKey[str | None] = pytest.StashKey()
_NAME: pytest.StashKey[str] = pytest.StashKey()  # before xdist adds the group to it
_PROCESSES: pytest.StashKey[dict[str, BoardProcess]] = pytest.StashKey()
_OUTCOMES = {"passed": "passed", "failed": "failed", "not available": "skipped"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ttt", "Tenstorrent devices")
    group.addoption("--ttt-device", default=DEFAULT_BOARD, metavar="NAME", help="board of tests without a mark (n150)")
    group.addoption(
        "--ttt-backend",
        default=None,
        choices=("mock", "simulator", "silicon"),
        help="how boards are opened; a card if there is one, else a mock, unless given",
    )
    group.addoption("--ttt-channel", default=None, help="used between the processes of boards")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ttt_device(*names): run with the fixture `mesh` once on each of these boards")
    config.stash[_PROCESSES] = {}
    if channel := config.getoption("--ttt-channel"):
        config.pluginmanager.register(Serving(config, channel))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = [str(name).lower() for mark in metafunc.definition.iter_markers("ttt_device") for name in mark.args]
    if names and "mesh" in metafunc.fixturenames:
        metafunc.parametrize("mesh", list(dict.fromkeys(names)), indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of one board stand together, and stay on one worker of xdist; those of this process's own board come first."""
    own = _own_board(config)
    grouped = config.pluginmanager.hasplugin("xdist")
    for item in items:
        marked = next((str(name).lower() for mark in item.iter_markers("ttt_device") for name in mark.args), None)
        board = getattr(item, "callspec", None) and item.callspec.params.get("mesh")  # type: ignore[attr-defined]
        item.stash[_BOARD] = board if isinstance(board, str) else marked
        item.stash[_NAME] = item.nodeid
        if grouped and item.stash[_BOARD]:
            item.add_marker(pytest.mark.xdist_group(f"ttt-{item.stash[_BOARD]}"))
    others = sorted({board for item in items if (board := item.stash[_BOARD]) not in (None, own)}, key=str)
    order = {None: 0, own: 0} | {board: number for number, board in enumerate(others, start=1)}
    items.sort(key=lambda item: order[item.stash[_BOARD]])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A test of another board than this process's runs in a process of that board, which answers for it."""
    board = item.stash.get(_BOARD, None)
    if board is None or board == _own_board(item.config):
        return None
    processes = item.config.stash[_PROCESSES]
    if board not in processes or not processes[board].alive:  # after a crash the next test gets a new one
        names = [other.stash[_NAME] for other in item.session.items if other.stash.get(_BOARD, None) == board]
        processes[board] = BoardProcess(board, names, item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in processes[board].run(item.stash[_NAME]):
        report.nodeid = item.nodeid
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Each expectation that a suite judges meanwhile is an item of its own."""
    _check_board(item)
    with listening(lambda found: item.ihook.pytest_runtest_logreport(report=_report(item, found))):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A suite's failures have been reported, each by itself: the test that ran it says how many, without repeating them."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, SuiteFailed):
        report.longrepr = f"{str(call.excinfo.value).splitlines()[0]}: each is reported as an item of its own."
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """An expectation's item gets a name of its own, and counts as a collected test so that progress ends at 100%.

    This happens where reports are shown: on the way there, from xdist's workers say, it has its test's name.
    """
    name, session = getattr(report, "ttt_item", None), _sessions[-1]
    if name is None or hasattr(session.config, "workerinput") or session.config.getoption("--ttt-channel"):
        return
    path, line, domain = report.location
    report.nodeid, report.location = f"{report.nodeid}::{name}", (path, line, f"{domain} {name}")
    session.testscollected += 1


_sessions: list[pytest.Session] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    _sessions.append(session)


def pytest_sessionfinish(session: pytest.Session) -> None:
    _sessions.remove(session)
    for process in session.config.stash[_PROCESSES].values():
        process.close()


@pytest.fixture(scope="module")
def mesh(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The board that the mark `ttt_device` names, else --ttt-device, opened for the tests of a module."""
    from ttt_hw import open_mesh

    name = getattr(request, "param", None) or _own_board(request.config)
    with open_mesh(name, backend=request.config.getoption("--ttt-backend")) as device:
        yield device


@pytest.fixture
def shadow(request: pytest.FixtureRequest) -> Iterator[Values]:
    """Values of every ttnn operation in the test, in float32; with parametrize("shadow", ["device"], indirect=True) rounded."""
    from ttt_testing.values import shadow as open_shadow

    with ExitStack() as stack:
        yield stack.enter_context(open_shadow(getattr(request, "param", "none")))


def _own_board(config: pytest.Config) -> str:
    return str(config.getoption("--ttt-device")).lower()


def _check_board(item: pytest.Item) -> None:
    """A `mesh` of the project's own conftest.py does not know the mark."""
    wanted, opened = item.stash.get(_BOARD, None), getattr(item, "funcargs", {}).get("mesh")
    if wanted is None or opened is None:
        return
    from ttt_hw import board, board_of

    if board_of(opened).name != board(wanted).name:
        pytest.fail(
            f"The mark says {wanted}, and the fixture `mesh` opened {board_of(opened).name}. A `mesh` of your own overrides that "
            "of ttt-testing: remove it, or leave the mark out.",
            pytrace=False,
        )


def _report(item: pytest.Item, found: Item) -> pytest.TestReport:
    path, line, _ = item.location
    now = time.time()
    why: Any = {"passed": None, "failed": str(found)}.get(found.status, (path, line or 0, f"{found.name}: {found.got}"))
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome=_OUTCOMES[found.status],  # type: ignore[arg-type]
        longrepr=why,
        when="call",
        duration=0.0,
        start=now,
        stop=now,
        ttt_item=found.name,
    )
