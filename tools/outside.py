"""An attention that a package outside this repository defines, where nothing but wheels is installed.

tests/outside is that package: it runs `ttt conformance` on its attention and a TestSuite in pytest, on mocks of two boards.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tools.environments import UV, install, interpreter_of, make, run
from tools.workspace import ROOT, needs, packages

OUTSIDE = ROOT / "tests" / "outside"
MOST_LINES = 60
ROOTS = ("ttt-attention", "ttt-cli", "ttt-testing")
BOARDS = ("n150", "t3k")


def lines_of(folder: Path) -> int:
    """Of Python, whatever is on them."""
    return sum(len(file.read_text().splitlines()) for file in folder.rglob("*.py"))


def try_outside(folder: Path) -> None:
    """Build the wheels that it needs, install them and the package, run what it says. Errors: CommandError."""
    among = packages()
    wheels: list[str | Path] = []
    for name in sorted(set().union(*(needs(root, among) for root in ROOTS))):
        out = folder / "wheels" / name
        run([UV, "build", "--quiet", "--no-sources", "--wheel", "--out-dir", out, among[name].folder], folder)
        (wheel,) = out.glob("*.whl")
        wheels.append(f"{wheel}[cli,pytest]" if name == "ttt-testing" else wheel)
    copy = Path(shutil.copytree(OUTSIDE, folder / OUTSIDE.name))
    environment = make(folder, python=f"{sys.version_info.major}.{sys.version_info.minor}")
    install(environment, [*wheels, copy], "--constraint", ROOT / "constraints.txt")
    python = interpreter_of(environment)
    for board in BOARDS:
        chosen = ["conformance", "--only", "outside-attention", "--backend", "mock", "--device", board]
        print(run([python.with_name("ttt"), *chosen], folder))
    print(run([python, "-m", "pytest", "-q", "test_outside.py"], copy))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ttt-outside-") as folder:
        try_outside(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
