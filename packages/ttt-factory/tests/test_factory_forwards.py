"""Forwards issue what was planned, plan once, and heed overrides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_factory import ModelFactory
from ttt_hw import board

PROGRAM = Path(__file__).with_name("forwards.py")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    import forwards

    return forwards


def same(found: dict[str, Any]) -> None:
    for name, works in found.items():
        assert len(works) == 3
        for title, lists in works.items():
            wanted, first = lists["planned"], lists["first"]
            if title == "prefill":  # the model cuts out the last token's row, between layers and head
                row = wanted.index("slice")
                assert first[row].startswith("ttnn.slice(")
                first = [*first[:row], "slice", *first[row + 1 :]]
            assert first == wanted, (name, title)
            assert lists["second"] == lists["first"]
            assert lists["written"] == lists["first"]
            assert len(wanted) > 25


def test_forwards_issue_what_was_planned(mesh: Any, program: Any) -> None:
    found = {name: program.compare(name, mesh) for name in program.MODELS}
    same(found)
    moves = sum(line.startswith("ttnn.to_memory_config") for line in found["qwen3-8b"]["decode 32"]["first"])
    assert moves > 2  # tables and heads with norms come to where they are read


def test_forwards_issue_what_was_planned_on_eight_chips() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "t3k"], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    same(found)
    assert sum(line.startswith("ttnn.all_reduce") for line in found["qwen3-8b"]["decode 1"]["first"]) == 2


def test_an_override_reaches_the_call(mesh: Any, program: Any) -> None:
    """qkv_matmul is the first of the matmuls."""

    def inner(mode: str, overrides: Any) -> int:
        found = program.overridden(overrides, mesh)[mode]
        width: int = next(call for call in found if call.name == "ttnn.linear").kwargs["program_config"].in0_block_w
        return width

    for mode in ("decode", "prefill"):
        chosen = {"pattern": "BcastMatmul", "weight": "interleaved", "inner": 2}
        assert inner(mode, {f"{mode}.qkv_matmul": chosen}) == 2
        assert inner(mode, {f"{mode}.attention.qkv_matmul": {**chosen, "inner": 4}}) == 4


def test_an_override_of_a_dtype_reaches_the_weight(program: Any) -> None:
    model = ModelFactory.from_spec(
        program.one_layer("llama-3.2-1b"),
        device=board("n150"),
        hw_config_overrides={"gate_matmul": {"weight_dtype": "bfloat4_b"}},
    )
    ffn: Any = model.layers[0].ffn
    assert (ffn.gate.dtype, ffn.up.dtype) == ("bfloat4_b", "bfloat8_b")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"decode.qkv_matmull": {"inner": 2}},
            r"^hw_config_overrides names 'decode\.qkv_matmull', which is no operation of the model; there are .* Did you mean "
            r"'qkv_matmul'\?$",
        ),
        (
            {"decode.gate_matmul": {"weight_dtype": "bfloat4_b"}},
            r"^ffn\.gate_weight would be .* bfloat4_b in decode and .* bfloat8_b in prefill, but it is stored once",
        ),
        ({"lm_head": {"inner": 3}}, "inner"),
    ],
)
def test_bad_overrides(overrides: Any, message: str, program: Any) -> None:
    with pytest.raises(PlacementError, match=message):
        ModelFactory.from_spec(program.one_layer("llama-3.2-1b"), device=board("n150"), hw_config_overrides=overrides)
