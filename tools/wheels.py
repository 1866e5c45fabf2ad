"""Builds every package alone, installs the wheels into empty environments and runs the README examples there.

A leaf gets an environment of its own with nothing but its wheel, the wheels it needs and their dependencies: no torch,
no checkout. The first Python block of its README must run there. Packages that need torch or a whole model share one
environment, and are imported.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.parser import HeaderParser
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from tools.workspace import ROOT, Package, needs, packages

UV = os.environ.get("UV", "uv")
LICENSE = "Apache-2.0"
TOGETHER = ("ttt-cli", "ttt-factory", "ttt-generation", "ttt-testing")
WORKERS = 2
TIMEOUT = 300  # seconds for one command
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST_FILE = re.compile(r"(^|/)(tests?/|test_[^/]*\.py$|[^/]*_test\.py$|conftest\.py$)")
NO_TORCH = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None and 'torch is installed')"
T = TypeVar("T")


class CheckError(Exception):
    """A check that failed; the message says which, and what was seen."""


def build(package: Package, dist: Path) -> Path:
    """The wheel of a package, built from its folder alone."""
    folder = dist / package.name
    run([UV, "build", "--quiet", "--no-sources", "--wheel", "--out-dir", folder, package.folder], cwd=dist)
    (wheel,) = folder.glob("*.whl")
    check_wheel(wheel, package.module)
    return wheel


def check_wheel(wheel: Path, module: str) -> None:
    """A wheel holds one typed package with its licence, and no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    problems = []
    tops = {name.split("/")[0] for name in names}
    if foreign := sorted(top for top in tops if top != module and not top.endswith(".dist-info")):
        problems.append(f"has {', '.join(foreign)} beside {module}")
    if f"{module}/py.typed" not in names:
        problems.append(f"has no {module}/py.typed")
    if headers["License-Expression"] != LICENSE:
        problems.append(f"has the licence {headers['License-Expression']}, not {LICENSE}")
    if tests := [name for name in names if TEST_FILE.search(name)]:
        problems.append(f"has tests: {', '.join(tests)}")
    if problems:
        raise CheckError(f"{wheel.name} " + "; ".join(problems))


def first_example(readme: str) -> str:
    """The first Python block of a README."""
    found = PYTHON_BLOCK.search(readme)
    if found is None:
        raise CheckError("README.md has no ```python block")
    return found[1]


def try_leaf(package: Package, wheels: Sequence[Path], folder: Path, python: str) -> None:
    """Imports a package and runs its README example in an environment that has nothing else."""
    interpreter = environment(wheels, folder, python)
    run([interpreter, "-I", "-c", NO_TORCH], cwd=folder)
    run([interpreter, "-I", "-c", f"import {package.module}"], cwd=folder)
    example = first_example((package.folder / "README.md").read_text())
    session = example.startswith(">>>")
    script = folder / ("example.txt" if session else "example.py")
    script.write_text(example)
    run([interpreter, "-I", *(["-m", "doctest"] if session else []), script], cwd=folder)


def try_together(modules: Sequence[str], wheels: Sequence[Path], folder: Path, python: str) -> None:
    """Imports packages in an environment that has them all."""
    interpreter = environment(wheels, folder, python)
    for module in modules:
        run([interpreter, "-I", "-c", f"import {module}"], cwd=folder)


def environment(wheels: Sequence[Path], folder: Path, python: str) -> Path:
    """The interpreter of a new environment with these wheels and what they need."""
    interpreter = folder / ".venv" / "bin" / "python"
    run([UV, "venv", "--quiet", "--no-project", "--python", python, folder / ".venv"], cwd=ROOT)
    constraints = ROOT / "constraints.txt"
    run([UV, "pip", "install", "--quiet", "--python", interpreter, "--constraint", constraints, *wheels], cwd=ROOT)
    return interpreter


def run(command: Sequence[str | Path], *, cwd: Path) -> None:
    """Run without this environment's variables. Errors: CheckError with what the command printed."""
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"{_shown(command)} took more than {TIMEOUT} s") from error
    if done.returncode:
        raise CheckError(f"{_shown(command)} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join(part.name if isinstance(part, Path) else part for part in command)


def run_all(jobs: Mapping[str, Callable[[], T]], console: Console) -> dict[str, T]:
    """Runs jobs, two at a time, and says how each ended; the results of those that were good."""
    results: dict[str, T] = {}
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(WORKERS) as pool:
        bar = progress.add_task("", total=len(jobs))
        futures = {pool.submit(_timed, job): name for name, job in jobs.items()}
        for future in as_completed(futures):
            name = futures[future]
            try:
                results[name], seconds = future.result()
                console.print(f"{name}: good, {seconds:.1f} s", markup=False)
            except CheckError as error:
                console.print(f"{name}: FAILED\n{error}", markup=False)
            progress.advance(bar)
    return results


def _timed(job: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return job(), time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PACKAGE", help="default: all")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", metavar="VERSION")
    arguments = parser.parse_args()
    among = packages()
    if unknown := sorted(set(arguments.names) - set(among)):
        parser.error(f"no package {', '.join(unknown)}; there are {', '.join(among)}")
    chosen = arguments.names or list(among)
    console = Console(highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="ttt-wheels-") as temporary:
        root = Path(temporary)
        wanted = sorted({needed for name in chosen for needed in needs(name, among)})
        wheels = run_all({f"build {name}": partial(build, among[name], root) for name in wanted}, console)
        if len(wheels) < len(wanted):
            return 1

        def wheels_for(names: Iterable[str]) -> list[Path]:
            return [wheels[f"build {name}"] for name in sorted(set().union(*(needs(name, among) for name in names)))]

        jobs: dict[str, Callable[[], None]] = {}
        if together := [name for name in TOGETHER if name in chosen]:
            modules = [among[name].module for name in together]
            jobs["together " + " ".join(together)] = partial(
                try_together, modules, wheels_for(together), _new(root / "try-together"), arguments.python
            )
        for name in chosen:
            if name not in TOGETHER:
                folder = _new(root / f"try-{name}")
                jobs[f"alone {name}"] = partial(try_leaf, among[name], wheels_for([name]), folder, arguments.python)
        return 0 if len(run_all(jobs, console)) == len(jobs) else 1


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
