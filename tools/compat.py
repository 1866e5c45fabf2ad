"""Which versions of the packages, of ttnn and of Python go together: tried, in environments that hold built wheels alone.

    nox -s compat                              boundary: every bound that is declared, in some 30 cells
    nox -s compat -- --tier changed            what changed since its last release, and its users (a default check)
    nox -s compat -- --ttnn all                with every ttnn release in range, not those at its ends alone
    nox -s compat -- ttt-norm --again          cells of one package, also those that are finished

A finished cell is kept by all that went into it, and is not run again: a run that was killed goes on where it was. A boundary
run of everything writes docs/compat/: the matrix as a page, as Markdown and as JSON, and the known-good set.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import get_ident

from packaging.requirements import Requirement
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.compat_cell import HARNESS, Result, Work, constraints, try_cell
from tools.compat_plan import Candidate, Cell, Plan, Universe, plan, together
from tools.compat_report import known_good, print_table, write_report
from tools.drift import snapshots
from tools.releases import Release, build, head, releases
from tools.wheels import WORKERS
from tools.workspace import ROOT, packages, read_toml

TTNN_PYTHON = ">=3.10,<3.13,!=3.11.*"  # those it has wheels for
LEFT_SECONDS = 3600  # no cell takes as long


class Repository:
    """The versions of a repository's packages, and their wheels."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.store = root / "build" / "compat"
        self.heads = {name: head(name, root) for name in packages(root)}
        files = sorted(root.glob("models/*/pyproject.toml"))
        self.models = {name: head(name, root) for name in (read_toml(file)["project"]["name"] for file in files)}
        self.released = [each for each in releases(root=root) if each.package in self.heads]
        every = [*self.released, *self.heads.values(), *self.models.values()]
        self.releases = {(release.package, release.version): release for release in every}
        self.pythons = [line for line in (ROOT / ".python-version").read_text().split() if line]

    @property
    def changed(self) -> set[str]:
        """Packages and models that are not as they were last released."""
        released = {(release.package, release.tree) for release in releases(root=self.root)}
        now = [*self.heads.values(), *self.models.values()]
        return {each.package for each in now if (each.package, each.tree) not in released}

    def universe(self, *, released: bool = False) -> Universe:
        """All versions; or the releases alone, with the head of what has none."""
        heads = list(self.heads.values())
        if released:
            known = {release.package for release in self.released}
            heads = [each for each in heads if each.package not in known]
        chosen = {(each.package, each.version): each for each in [*self.released, *heads]}
        ttnn = [Candidate(name="ttnn", version=str(each), requires_python=TTNN_PYTHON) for each in snapshots()]
        models = [] if released else map(_candidate, self.models.values())
        return Universe([*map(_candidate, chosen.values()), *ttnn], self.pythons, models=models)

    def work(self, cell: Cell, universe: Universe) -> Work:
        """A cell with its wheels, built if they are not yet."""
        versions = dict(cell.versions)
        harness = self._harness(cell, universe)
        return Work(
            cell=cell,
            wheels={name: self.wheel(name, version) for name, version in versions.items() if name != "ttnn"},
            harness=None
            if harness is None
            else {
                name: self.wheel(name, version)
                for name, version in harness.items()
                if name not in versions and name != "ttnn"
            },
            constraints=constraints(self.root),
        )

    def wheel(self, package: str, version: str) -> Path:
        return build(self.releases[package, version], self.store / "wheels", self.root)

    def _harness(self, cell: Cell, universe: Universe) -> dict[str, str] | None:
        """The newest conformance kit that goes with the versions of a cell, and what it needs."""
        for candidate in reversed(universe.versions.get(HARNESS, [])):
            if found := universe.choose(candidate, "highest", cell.python, dict(cell.versions)):
                return found
        return None


def _candidate(release: Release) -> Candidate:
    return Candidate(
        name=release.package,
        version=release.version,
        requirements=tuple(Requirement(text) for text in release.dependencies),
        requires_python=release.requires_python,
    )


def run_cells(
    works: Sequence[Work],
    store: Path,
    console: Console,
    *,
    again: bool = False,
    attempt: Callable[..., Result] = try_cell,
) -> list[Result]:
    """A result for each, from the store if it was green before; those that end are kept at once, so that none is run twice."""
    results: dict[str, Result] = {}
    finished = store / "results"
    for folder in (finished, store / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    for left in (store / "work").iterdir():  # by a run that was killed
        if time.time() - left.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    for work in works:
        file = finished / f"{work.key}.json"
        if file.exists() and not again:
            kept = Result.of_json(json.loads(file.read_text()))
            if kept.passed:
                results[work.key] = Result(key=kept.key, cell=work.cell, steps=kept.steps)
    open_ = {work.key: work for work in works if work.key not in results}

    def attempted(work: Work) -> Result:
        with tempfile.TemporaryDirectory(dir=store / "work") as folder:
            result = attempt(work, Path(folder) / "cell", store / f"mypy-{get_ident() % 997}")
        new = finished / f"{work.key}.{os.getpid()}.new"
        new.write_text(json.dumps(result.to_json(), indent=1))
        new.replace(finished / f"{work.key}.json")
        return result

    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(WORKERS) as pool:
        bar = progress.add_task("", total=len(works), completed=len(results))
        futures = [pool.submit(attempted, work) for work in open_.values()]
        try:
            for future in as_completed(futures):
                result = future.result()
                results[result.key] = result
                progress.advance(bar)
                if not result.passed:
                    step = result.steps[-1]
                    console.print(f"{result.cell.name}: {step.name} failed\n{step.detail}", markup=False)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [results[work.key] for work in works]


def narrowed(made: Plan, names: Iterable[str]) -> Plan:
    wanted = set(names)
    return Plan(
        cells=tuple(cell for cell in made.cells if not wanted or cell.subject in wanted), impossible=made.impossible
    )


def merged(plans: Iterable[Plan]) -> Plan:
    plans = list(plans)
    return Plan(
        cells=tuple(dict.fromkeys(cell for each in plans for cell in each.cells)),
        impossible=tuple(dict.fromkeys(line for each in plans for line in each.impossible)),
    )


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PACKAGE", help="whose cells to run; default: all")
    parser.add_argument("--tier", choices=("changed", "boundary", "pairwise", "full"), default="boundary")
    parser.add_argument("--ttnn", choices=("boundary", "all"), default="boundary")
    parser.add_argument("--again", action="store_true", help="run finished cells too")
    arguments = parser.parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    start = time.perf_counter()
    repository = Repository(root)
    universe, released = repository.universe(), repository.universe(released=True)
    unknown = sorted(set(arguments.names) - {*universe.packages, *universe.models})
    if unknown:
        parser.error(f"no package {', '.join(unknown)}; there are {', '.join(universe.packages)}")
    plans = [plan(universe, arguments.tier, changed=repository.changed, all_ttnn=arguments.ttnn == "all")]
    if arguments.tier != "changed":
        plans.append(together(released))
    made = narrowed(merged(plans), arguments.names)
    works = [repository.work(cell, universe) for cell in made.cells]
    results = run_cells(works, repository.store, console, again=arguments.again)
    seconds = time.perf_counter() - start
    print_table(results, made.impossible, console, seconds)
    if arguments.tier != "changed" and not arguments.names:
        folder = root / "docs" / "compat"
        write_report(results, made.impossible, folder, ttnn=[str(each) for each in snapshots()])
        console.print(f"written: {folder.relative_to(root)}")
        if not known_good(results):
            console.print("no known-good set: a cell of it is red")
    return 0 if all(result.passed for result in results) and not made.impossible else 1


if __name__ == "__main__":
    sys.exit(main())
