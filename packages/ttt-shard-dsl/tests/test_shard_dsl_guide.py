"""The guide's examples run, and its pictures are those that `to_svg` makes.

`DRAW_GUIDE=1` writes the pictures anew.
"""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PART = re.compile(
    r"^```python\n(?P<code>.*?)^```$|^!\[[^\]]+\]\((?P<picture>pictures/[^)]+)\)$|^## (?P<title>[^\n]+)$", re.M | re.S
)


def run() -> tuple[list[str], dict[str, str]]:
    """Run the blocks in order; returns the titles, and the drawing that each picture stands for."""
    runner = doctest.DocTestRunner()
    names: dict[str, Any] = {}
    titles: list[str] = []
    drawings: dict[str, str] = {}
    text = (DOCS / "guide.md").read_text(encoding="utf-8")
    for part in PART.finditer(text):
        if part["title"]:
            titles.append(part["title"])
        elif part["picture"]:
            drawings[part["picture"]] = names.pop("svg")  # so that each picture has a block of its own
        else:
            line = text[: part.start("code")].count("\n")
            test = doctest.DocTestParser().get_doctest(part["code"], names, "guide.md", str(DOCS / "guide.md"), line)
            runner.run(test, clear_globs=False)
            names = test.globs
    assert runner.tries > 0
    assert runner.failures == 0
    return titles, drawings


def draw() -> None:
    """Write the pictures of the guide."""
    for name, drawing in run()[1].items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(drawing, encoding="utf-8")


def test_the_examples_run_and_the_pictures_are_theirs() -> None:
    if os.environ.get("DRAW_GUIDE"):
        draw()
    titles, drawings = run()
    assert [title.partition(".")[0] for title in titles] == [str(number) for number in range(1, 11)]
    assert {name.removeprefix("pictures/")[:2] for name in drawings} == {f"{number:02}" for number in range(1, 11)}
    assert sorted(drawings) == sorted(f"pictures/{path.name}" for path in (DOCS / "pictures").iterdir())
    for name, drawing in drawings.items():
        assert (DOCS / name).read_text(encoding="utf-8") == drawing, f"{name} is old: run with DRAW_GUIDE=1"
