"""What the README says of planning: its examples run, its table names every pattern, its error is the one that is raised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw import PATTERNS, Planner, board

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PLANNING = README.partition("## Patterns")[2].partition("\n## One board")[0]
SECTION = PLANNING.partition("\n## ")[0]
EXAMPLE, FORWARD = re.findall(r"^```python\n(.*?)^```$", PLANNING, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("example", "printed"),
    [(EXAMPLE, ("up", "gate", "product", "down")), (FORWARD, ("Shape([1, 1, 8, 2048])", ""))],
    ids=["planner", "forward"],
)
def test_the_examples_run(example: str, printed: tuple[str, ...]) -> None:
    environment = {**os.environ, "LOGURU_LEVEL": "WARNING"}  # importing ttnn logs its configuration
    command = [sys.executable, "-W", "error", "-c", example]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for line, start in zip(done.stdout.splitlines(), printed, strict=True):
        assert line.startswith(start)


def test_the_table_names_every_pattern() -> None:
    rows = [line for line in SECTION.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(PATTERNS)


def test_the_error_is_as_shown() -> None:
    names: dict[str, Any] = {}
    exec(EXAMPLE.partition("planner =")[0], names)
    planner = Planner(board("n150"), overrides={"up": {"pattern": "DramShardedMatmul", "inner": 3}})
    with pytest.raises(PlacementError) as refused:
        planner.plan(names["feed_forward"]("decode", 32))
    assert f"```\n{refused.value}\n```" in SECTION
