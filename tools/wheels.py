"""What a wheel must hold, and environments that have wheels and what they declare alone."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

from tools import environments
from tools.environments import CommandError as CheckError, install, interpreter_of, make
from tools.workspace import ROOT

__all__ = ["TOGETHER", "WORKERS", "CheckError", "check_wheel", "environment", "run"]

LICENSE = "Apache-2.0"
WORKERS = 2  # processes that install and try at a time
TOGETHER = ("ttt-cli", "ttt-factory", "ttt-generation", "ttt-testing")
"""Packages whose README is about more than they need: its examples run in tests, not where the wheel is alone."""
TEST_FILE = re.compile(r"(^|/)(tests?/|test_[^/]*\.py$|[^/]*_test\.py$|conftest\.py$)")


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


def environment(wheels: Sequence[Path], folder: Path, python: str) -> Path:
    """The interpreter of a new environment with these wheels and what they need. Errors: CheckError."""
    made = make(folder, python=python)
    install(made, list(wheels), "--constraint", ROOT / "constraints.txt")
    return interpreter_of(made)


def run(command: Sequence[str | Path], *, cwd: Path) -> None:
    """Run without this environment's variables. Errors: CheckError with what the command printed."""
    environments.run(command, cwd)
