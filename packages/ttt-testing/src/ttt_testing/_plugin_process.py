"""The tests of another board in a process of its own: ttnn keeps one cluster a process.

The two talk over pipes: a line with the name of a test goes there, its reports come back as lines of JSON, and then `null`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TextIO

import pytest

_LAST = 2000  # characters of what a process that crashed had said
_PATIENCE = 60  # seconds for it to end when it has nothing more to do


class BoardProcess:
    """A pytest that has collected the named tests and runs those that it is asked for, on a board."""

    def __init__(self, board: str, names: Sequence[str], config: pytest.Config) -> None:
        self._board, self._config = board, config
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        asked, self._ask = _pipe()
        self._answer, answered = _pipe()
        channel = f"--ttt-channel={asked.fileno()},{answered.fileno()}"
        command = [sys.executable, "-m", "pytest", *_carried(config), f"--ttt-device={board}", channel]
        if backend := config.getoption("--ttt-backend"):
            command.append(f"--ttt-backend={backend}")
        with asked, answered, tempfile.NamedTemporaryFile("w", prefix="ttt-tests-") as listed:
            listed.write("\n".join(names))
            listed.flush()
            self._process = subprocess.Popen(
                [*command, f"@{listed.name}"],
                cwd=config.rootpath,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=(asked.fileno(), answered.fileno()),
            )
            self._answer.readline()  # it has read the list

    def run(self, name: str) -> list[pytest.TestReport]:
        """Reports of setup, call and teardown, and of expectations in between; a failure if the process ends before the last."""
        found: list[pytest.TestReport] = []
        try:
            print(name, file=self._ask, flush=True)
            for line in self._answer:
                if (data := json.loads(line)) is None:
                    break
                found.append(self._config.hook.pytest_report_from_serializable(config=self._config, data=data))
        except BrokenPipeError:
            pass
        return found if any(report.when == "teardown" for report in found) else [*found, self._lost(name)]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._end()
        self._output.close()

    def _end(self) -> int:
        """Its exit code; it ends by itself when there is nothing more to ask."""
        self._ask.close()
        self._answer.close()
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _lost(self, name: str) -> pytest.TestReport:
        code = self._end()
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")[-_LAST:]
        now = time.time()
        return pytest.TestReport(
            nodeid=name,
            location=(name.split("::")[0], None, name),
            keywords={},
            outcome="failed",
            longrepr=f"The process for {self._board} ended in this test with exit code {code}. It said last:\n{said}",
            when="call",
            start=now,
            stop=now,
        )


class Serving:
    """In the process of a board: runs what it is asked for, in place of pytest's own loop."""

    def __init__(self, config: pytest.Config, channel: str) -> None:
        asked, answered = map(int, channel.split(","))
        self._config = config
        self._asked = os.fdopen(asked, encoding="utf-8")
        self._answered = os.fdopen(answered, "w", encoding="utf-8")

    def pytest_collection_finish(self) -> None:
        self._answer("ready")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for line in self._asked:
            if (item := items.get(line.rstrip("\n"))) is not None:
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            self._answer(None)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._answer(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def _answer(self, data: object) -> None:
        print(json.dumps(data), file=self._answered, flush=True)


def _pipe() -> tuple[TextIO, TextIO]:
    reading, writing = os.pipe()
    return os.fdopen(reading, encoding="utf-8"), os.fdopen(writing, "w", encoding="utf-8")


def _carried(config: pytest.Config) -> list[str]:
    """The options that decide how tests are found and run; not those that choose, show or distribute them."""
    carried = [f"--rootdir={config.rootpath}", "-q", "-p", "no:cacheprovider"]
    if config.pluginmanager.hasplugin("xdist"):
        carried += ["-p", "no:xdist"]
    carried += ["-c", str(config.inipath)] if config.inipath else []
    carried += [f"--override-ini={given}" for given in config.getoption("override_ini") or ()]
    for plugin in dict.fromkeys(["ttt_testing.plugin", *(config.getoption("plugins") or ())]):
        carried += ["-p", plugin]
    return [*carried, f"--import-mode={config.getoption('importmode')}", f"--tb={config.getoption('tbstyle')}"]
