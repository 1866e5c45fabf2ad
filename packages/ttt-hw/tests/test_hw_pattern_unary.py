"""Unary: exact buffers of activations and products with a number, and its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import width_sharded
from ttt_hw.patterns.unary import Unary
from ttt_hw.requests import UnaryRequest

N150 = board("n150")
TANH = UnaryRequest(name="u", inputs=("x",), shape=(1, 1, 32, 4096), activation="tanh", scale=0.02)


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (TANH, Unary(), (width_sharded((8, 4)),), "x lies in .*; it must lie in 'b h s d in dram' or 'b h s d in l1'"),
        (replace(TANH, activation=None, scale=1.0), Unary(), None, "there is nothing to compute"),
        (replace(TANH, dtype="bfloat8_b"), Unary(), None, "tanh of bfloat8_b is an approximation in ttnn"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


def test_every_activation_is_a_chain_of_ttnn(mesh: Any) -> None:
    from ttt_hw.verify import verify

    for name in ("silu", "gelu", "gelu_tanh", "relu", "tanh", "exp", "sigmoid", "softplus"):
        for scale in (1.0, 0.3):
            verdict = verify(replace(TANH, activation=name, scale=scale), Unary(), mesh)
            assert verdict.exact, (name, scale, verdict)
    assert verify(replace(TANH, activation=None, scale=1.0, limit=8.0), Unary(), mesh).exact
