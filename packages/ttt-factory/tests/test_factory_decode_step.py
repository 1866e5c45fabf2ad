"""A decode step allocates what its plan declares, keeps only its result and copies nothing, so that it can be traced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ttt_norm import RMSNorm

PROGRAM = Path(__file__).with_name("decode_step.py")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    import decode_step

    return decode_step


def declared_only(found: dict[str, Any]) -> None:
    for name, step in found.items():
        assert step["copies"] == [], name  # between host and device
        assert step["outside"] == [], name  # of planned operations
        assert step["undeclared"] == [], name
        assert step["left"] == [step["result"]], name
        assert step["kept"] > (25 if name != "to a memory" else 6), name


def test_a_step_allocates_what_is_planned_and_copies_nothing(mesh: Any, program: Any) -> None:
    found = {name: program.compare(name, mesh) for name in ("gemma-2-9b", "mixtral-8x7b")}
    declared_only(found | {"to a memory": program.to_a_memory(mesh)})


def test_a_step_on_eight_chips() -> None:
    names = ("qwen3-8b", "mixtral-8x7b", "deepseek-v3")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "t3k", *names], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    declared_only(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (lambda ttnn, x: ttnn.add(x, 1.0), "outside"),
        (lambda ttnn, x: (x.cpu(), x)[1], "copies"),
        (lambda ttnn, x: (kept.append(ttnn.add(x, 1.0)), x)[1], "left"),
    ],
    ids=["an operation of its own", "a read", "a tensor that stays"],
)
def test_it_sees_what_it_is_there_for(
    spoil: Any, seen: str, mesh: Any, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ttnn

    forward = RMSNorm.decode_forward
    monkeypatch.setattr(RMSNorm, "decode_forward", lambda self, x: forward(self, spoil(ttnn, x)))
    step = program.compare("llama-3.2-1b", mesh)
    kept.clear()
    assert len(step[seen]) > (seen == "left")


kept: list[Any] = []
