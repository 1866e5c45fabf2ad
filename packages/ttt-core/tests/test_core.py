"""The errors as a user meets them, and Protocols that structure alone satisfies."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ttt_core
from ttt_core import Attention, CausalLM, FeedForward, Norm, TttError

ERRORS = [
    value
    for name in ttt_core.__all__
    if isinstance(value := getattr(ttt_core, name), type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_one_tree_with_exit_code_2(error: type[TttError]) -> None:
    assert issubclass(error, TttError)
    assert error.exit_code == 2
    assert str(error("given, allowed, where, next")) == "given, allowed, where, next"
    assert error.__doc__


@pytest.mark.parametrize(
    "error", [ttt_core.ShapeError, ttt_core.SpecError, ttt_core.WeightError, ttt_core.PlacementError]
)
def test_bad_values_are_value_errors(error: type[TttError]) -> None:
    assert issubclass(error, ValueError)


class Block:
    def prefill_forward(self, x: object, /) -> object:
        return x

    def decode_forward(self, x: object, /) -> object:
        return x


def test_structure_is_enough() -> None:
    assert isinstance(Block(), FeedForward)
    assert isinstance(Block(), Norm)
    assert not isinstance(object(), Attention)
    assert not isinstance(Block(), CausalLM)


def test_mypy_sees_who_keeps_a_protocol(tmp_path: object) -> None:
    source = """
from ttt_core import FeedForward, Tensor
class Right:
    def prefill_forward(self, x: Tensor, /) -> Tensor: return x
    def decode_forward(self, x: Tensor, /) -> Tensor: return x
class Wrong:
    def prefill_forward(self, x: Tensor, /) -> Tensor: return x
    def decode_forward(self, x: str, /) -> Tensor: raise ValueError
right: FeedForward = Right()
wrong: FeedForward = Wrong()
"""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--strict", "-c", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "<string>:10: error: Incompatible types in assignment" in done.stdout
    assert done.stdout.count("error:") == 1


def test_names_are_imported_on_demand() -> None:
    namespace: dict[str, object] = {}
    get = ttt_core.on_demand("ttt_core", {"errors": ["TttError"]}, namespace)
    assert get("TttError") is ttt_core.TttError
    assert namespace == {"TttError": ttt_core.TttError}
    with pytest.raises(AttributeError, match="module 'ttt_core' has no attribute 'nothing'"):
        get("nothing")
