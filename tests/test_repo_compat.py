"""The matrix: its plan stays small, its cells see what is planted, and a run that is killed goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console
from tools.compat import Repository as Versions, main, run_cells
from tools.compat_cell import Result, Step, Work, imported
from tools.compat_plan import Candidate, Cell, Plan, Universe, plan, together
from tools.compat_report import known_good, markdown, picture, shown, unsupported_of
from tools.fixture_repository import Repository, small_packages
from tools.history import working_tree
from tools.releases import uv_version
from tools.workspace import ROOT, packages

HARNESS = '''\
"""Stands in for the conformance kit."""

import json

import ttt_extra


def app(arguments: list[str]) -> int:
    """Says that all is well."""
    result = {"implementation": "alpha", "status": "passed" if ttt_extra.fine else "failed"}
    print(json.dumps({"backend": "mock", "results": [result]}))
    return 0
'''
ENTRY_POINT = '\n[project.entry-points."ttt.conformance"]\nalpha = "ttt_alpha:made"\n'
MADE = (
    '\n\ndef make(mesh: object) -> tuple[Alpha, None]:\n    """One."""\n    return Alpha(AlphaSpec(dim=4)), None\n\n\n'
)
MADE += 'made = {"protocol": "norm", "make": make}\n'


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """The small packages and, with a package that it needs, a harness; alpha has an entry point."""
    repository = small_packages(tmp_path / "repository")
    repository.package("ttt-extra", "0.1.0", '"""More."""\n\n__all__ = ["fine"]\n\nfine = True\n')
    repository.package(
        "ttt-testing", "0.1.0", '"""Tests."""\n\n__all__: list[str] = []\n', needs=["ttt-extra>=0.1.0,<0.2"]
    )
    repository.write("packages/ttt-testing/src/ttt_testing/commands.py", HARNESS)
    pyproject = repository.root / "packages/ttt-alpha/pyproject.toml"
    pyproject.write_text(pyproject.read_text() + ENTRY_POINT)
    source = repository.root / repository.source("ttt-alpha")
    source.write_text(source.read_text().replace('"scale"]', '"made", "make", "scale"]') + MADE)
    repository.commit("A harness")
    return repository


def record(repository: Repository, package: str, version: str) -> None:
    """As a release does it, and nothing else."""
    file = repository.root / "releases.toml"
    folder = f"packages/{package}"
    row = f'package = "{package}"\nversion = "{version}"\nfolder = "{folder}"\nuv = "{uv_version()}"\n'
    row += f'tree = "{working_tree(repository.root, folder)}"\n'
    file.write_text((file.read_text() if file.exists() else "") + f"[[release]]\n{row}\n")
    repository.commit(f"Release {package} {version}")


def tried(repository: Repository, subject: str, direction: str) -> Result:
    """The cell of the newest of a package with everything lowest or highest."""
    versions = Versions(repository.root)
    universe = versions.universe()
    cells = [
        cell
        for cell in plan(universe, "boundary").cells
        if cell.subject == subject
        and cell.third_party == direction
        and dict(cell.versions)[subject] == universe.newest(subject).version
    ]
    works = [versions.work(cell, universe) for cell in cells[:1]]
    (result,) = run_cells(works, versions.store, Console(quiet=True))
    return result


def ended(result: Result) -> dict[str, str]:
    return {step.name: step.status for step in result.steps}


def test_a_good_cell(repository: Repository) -> None:
    result = tried(repository, "ttt-alpha", "highest")
    assert ended(result) == {
        "install": "passed", "import": "passed", "example": "skipped", "types": "passed", "conformance": "passed",
    }, result  # fmt: skip
    assert result.steps[3].detail == "1 Protocols"


def test_a_false_lower_bound(repository: Repository) -> None:
    """Beta uses what a later ttt-core has, and still says that the first one is enough."""
    record(repository, "ttt-core", "1.0.0")
    core = repository.source("ttt-core")
    repository.replace(core, '"SizeError",', '"SizeError", "helper",')
    repository.replace(core, "class Tensor(", 'def helper() -> int:\n    """One."""\n    return 1\n\n\nclass Tensor(')
    repository.replace(repository.source("ttt-beta"), "from ttt_core import Norm", "from ttt_core import helper, Norm")
    repository.commit()
    assert tried(repository, "ttt-beta", "highest").passed
    result = tried(repository, "ttt-beta", "lowest")
    assert dict(result.cell.versions)["ttt-core"] == "1.0.0"
    assert ended(result)["import"] == "failed"
    assert "cannot import name 'helper'" in result.steps[-1].detail


def test_a_renamed_parameter_of_an_older_release(repository: Repository) -> None:
    """A break of types alone: nothing of it shows when the package is imported."""
    record(repository, "ttt-alpha", "0.1.0")
    repository.replace(repository.source("ttt-alpha"), "factor: float = 2.0", "times: float = 2.0")
    repository.replace(repository.source("ttt-alpha"), "x * factor", "x * times")
    repository.replace(repository.source("ttt-beta"), "factor=2.0", "times=2.0")
    repository.commit()
    result = tried(repository, "ttt-beta", "lowest")
    assert ended(result)["types"] == "failed"
    assert 'Unexpected keyword argument "times"' in result.steps[-1].detail


def test_a_missing_dependency_that_the_harness_would_mask(repository: Repository) -> None:
    source = repository.source("ttt-alpha")
    repository.replace(source, "from ttt_core import Tensor", "import ttt_extra\nfrom ttt_core import Tensor")
    result = tried(repository, "ttt-alpha", "highest")
    assert ended(result) == {"install": "passed", "import": "failed"}
    assert "No module named 'ttt_extra'" in result.steps[-1].detail
    repository.replace(
        "packages/ttt-alpha/pyproject.toml", "dependencies = [\n", 'dependencies = [\n    "ttt-extra>=0.1.0,<0.2",\n'
    )
    assert tried(repository, "ttt-alpha", "highest").passed


@pytest.mark.parametrize("line", ["import torch", "try:\n    import torch\nexcept ImportError:\n    torch = None"])
def test_a_leaf_that_imports_torch(repository: Repository, line: str) -> None:
    """Even where it could do without."""
    repository.replace(
        repository.source("ttt-alpha"), "from ttt_core import Tensor", f"{line}\nfrom ttt_core import Tensor"
    )
    result = tried(repository, "ttt-alpha", "highest")
    assert ended(result)["import"] == "failed"
    assert "torch" in result.steps[-1].detail


def test_a_class_that_does_not_keep_its_protocol(repository: Repository) -> None:
    repository.replace(
        repository.source("ttt-alpha"), "def forward(self, x: Tensor, /)", "def forward(self, x: Tensor, y: int, /)"
    )
    result = tried(repository, "ttt-alpha", "highest")
    assert ended(result)["types"] == "failed"
    assert "Incompatible return value" in result.steps[-1].detail


def test_a_range_that_nothing_fits(repository: Repository) -> None:
    repository.replace("packages/ttt-beta/pyproject.toml", "ttt-core>=1.0.0,<2", "ttt-core>=1.4.0,<2")
    made = plan(Versions(repository.root).universe(), "boundary")
    assert all(cell.subject != "ttt-beta" for cell in made.cells)
    assert any(line.startswith("ttt-beta 0.1.0") and "it needs ttt-core<2,>=1.4.0" in line for line in made.impossible)


def test_killed_and_started_again(repository: Repository) -> None:
    """What was finished stays as it is, what was not is run, and nothing is reported before all has run."""
    code = "import sys; from pathlib import Path; from tools.compat import main; sys.exit(main([], Path(sys.argv[1])))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(repository.root)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = repository.root / "build" / "compat" / "results"
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("*.json"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    report = repository.root / "docs" / "compat" / "matrix.json"
    assert not report.exists()

    assert main([], repository.root) == 0
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}
    document = json.loads(report.read_text())
    assert len(before) < len(after)
    assert before.items() <= after.items()
    assert {cell["key"] for cell in document["cells"]} == {name.removesuffix(".json") for name in after}
    good = (report.parent / "known-good.txt").read_text()
    assert {"ttt-alpha==0.1.0", "ttt-beta==0.1.0", "ttt-core==1.0.0"} <= set(good.splitlines())


def test_a_red_cell_is_run_again_and_a_green_one_is_not(repository: Repository) -> None:
    versions = Versions(repository.root)
    universe = versions.universe()
    works = [versions.work(cell, universe) for cell in plan(universe, "boundary").cells[:2]]
    ran: list[str] = []

    def attempt(work: Work, folder: Path, cache: Path) -> Result:
        ran.append(work.cell.name)
        status = "failed" if work is works[0] else "passed"
        return Result(key=work.key, cell=work.cell, steps=(Step(name="install", status=status),))  # type: ignore[arg-type]

    for _ in range(2):
        results = run_cells(works, versions.store, Console(quiet=True), attempt=attempt)
        assert [result.passed for result in results] == [False, True]
    assert sorted(ran) == sorted([works[0].cell.name, works[1].cell.name, works[0].cell.name])


def test_a_changed_wheel_is_another_cell(repository: Repository) -> None:
    def key() -> str:
        versions = Versions(repository.root)
        universe = versions.universe()
        cell = next(cell for cell in plan(universe, "boundary").cells if cell.subject == "ttt-alpha")
        return versions.work(cell, universe).key

    first = key()
    assert key() == first
    repository.replace(repository.source("ttt-core"), "A tensor.", "An array.")
    assert key() != first


def test_the_changed_tier_is_what_changed_and_its_direct_users(repository: Repository) -> None:
    for name, version in (
        ("ttt-core", "1.0.0"),
        ("ttt-alpha", "0.1.0"),
        ("ttt-beta", "0.1.0"),
        ("ttt-extra", "0.1.0"),
        ("ttt-testing", "0.1.0"),
    ):
        record(repository, name, version)
    assert Versions(repository.root).changed == set()
    repository.replace(repository.source("ttt-alpha"), "A leaf.", "The leaf.")
    versions = Versions(repository.root)
    assert versions.changed == {"ttt-alpha"}
    made = plan(versions.universe(), "changed", changed=versions.changed)
    assert [cell.subject for cell in made.cells] == ["ttt-alpha", "ttt-beta"]


def simulated(lines: int, *, names: tuple[str, ...] = tuple(packages())) -> Universe:
    """The packages of this repository with some released lines each, all on ttt-core 1."""
    among = packages()
    candidates = [Candidate(name="ttnn", version=f"0.{80 + number}.0") for number in range(lines)]
    for name in names:
        for number in range(1, lines + 1):
            wanted = []
            for requirement in map(Requirement, among[name].project["dependencies"]):
                if requirement.name == "ttt-core":
                    wanted.append("ttt-core>=1.1.0,<2")
                elif requirement.name in among:
                    wanted.append(f"{requirement.name}>=0.{number}.0,<0.{number + 1}")
                elif requirement.name == "ttnn":
                    wanted.append(f"ttnn>=0.80,<0.{80 + lines}")
            version = f"{1 if name == 'ttt-core' else 0}.{number}.0"
            candidates.append(Candidate(name=name, version=version, requirements=tuple(map(Requirement, wanted))))
    return Universe(candidates, ["3.10", "3.12"])


def test_the_number_of_cells_grows_linearly() -> None:
    universe = simulated(5)
    assert len(universe.packages) == 13
    counts = [len(plan(simulated(lines), "boundary").cells) for lines in (3, 4, 5, 6)]
    assert counts[2] + len(together(universe).cells) <= 45, counts
    steps = {after - before for before, after in pairwise(counts)}
    assert max(steps) <= 4, counts


def test_the_boundary_plan_covers_both_ends_and_older_lines() -> None:
    universe = simulated(3)
    made = plan(universe, "boundary")
    assert made.impossible == ()
    for name in universe.packages:
        mine = [
            cell
            for cell in made.cells
            if cell.subject == name and dict(cell.versions)[name] == universe.newest(name).version
        ]
        low, high = mine[:2]
        assert (low.python, high.python) == ("3.10", "3.12")
        assert low.ttnn in (None, "0.80.0")
        assert high.ttnn in (None, "0.82.0")
    lowest = next(cell for cell in made.cells if cell.subject == "ttt-norm" and cell.third_party == "lowest")
    assert dict(lowest.versions)["ttt-core"] == "1.1.0"
    old = [cell for cell in made.cells if dict(cell.versions).get("ttt-norm") == "0.1.0"]
    assert any(dict(cell.versions)["ttt-core"] == "1.3.0" for cell in old)
    assert len(plan(universe, "pairwise").cells) >= len(made.cells)


def test_versions_are_chosen_so_that_all_ranges_hold() -> None:
    def candidate(name: str, version: str, *needs: str, python: str = "") -> Candidate:
        return Candidate(
            name=name, version=version, requirements=tuple(map(Requirement, needs)), requires_python=python
        )

    universe = Universe(
        [
            candidate("a", "1.0"),
            candidate("a", "1.1", python=">=3.12"),
            candidate("b", "0.1.0", "a<1.1"),
            candidate("b", "0.2.0", "a>=1.1"),
            candidate("c", "0.1.0", "b", "a"),
        ],
        ["3.10", "3.12"],
    )
    (c,) = universe.versions["c"]
    assert universe.choose(c, "highest", "3.12") == {"a": "1.1", "b": "0.2.0", "c": "0.1.0"}
    assert universe.choose(c, "highest", "3.10") == {"a": "1.0", "b": "0.1.0", "c": "0.1.0"}
    assert universe.choose(c, "lowest", "3.12", {"a": "1.1"}) == {"a": "1.1", "b": "0.2.0", "c": "0.1.0"}
    assert universe.choose(c, "lowest", "3.10", {"a": "1.1"}) is None


def result_of(subject: str, *, passed: bool = True, whole: bool = False, **versions: str) -> Result:
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    cell = Cell(
        subject=subject, versions=tuple(named.items()), python="3.12", third_party="highest", whole=whole, why="a test"
    )
    step = Step(name="types", status="passed" if passed else "failed", detail="" if passed else "x <y>")
    return Result(key=subject, cell=cell, steps=(step,))


def test_the_known_good_set_is_of_green_cells_alone() -> None:
    good = result_of("b", whole=True, a="0.1.0", b="0.2.0+gabc", ttnn="0.81.1")
    assert known_good([good, result_of("c", passed=False, c="1")]) == {
        "a": "0.1.0",
        "b": "0.2.0+gabc",
        "ttnn": "0.81.1",
    }
    assert known_good([good, result_of("c", passed=False, whole=True, c="1")]) == {}
    assert known_good([result_of("c", c="1")]) == {}


def test_the_report_shows_each_cell_once_and_what_failed() -> None:
    results = [result_of("a", a="0.1.0", ttnn="0.80.0"), result_of("b", passed=False, b="0.1.0+gabc", a="0.1.0")]
    text = markdown(results, ["b 9 cannot be installed"], unsupported_of(["0.76.0", "0.81.1"]))
    assert text.count("✓ |") == 1
    assert "| b 0.1.0 (next) |" in text
    assert "x <y>" in text
    assert "* 0.76.0: no golden functions" in text
    assert "0.81.1:" not in text
    drawn = picture(results)
    assert drawn.count("<title>") == 2
    assert "x &lt;y&gt;" in drawn
    assert shown("0.1.0") == "0.1.0"


def test_imports_of_an_example() -> None:
    assert imported("import ttt_a.b\nfrom ttt_c import d\n") == {"ttt_a", "ttt_c"}
    assert imported(">>> from ttt_a import b\n>>> b()\n1\n") == {"ttt_a"}


def test_an_empty_plan_reports_nothing(repository: Repository) -> None:
    assert run_cells([], repository.root / "build", Console(quiet=True)) == []
    assert Plan(cells=()).impossible == ()
