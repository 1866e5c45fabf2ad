"""Tensors that hold several parts."""

from __future__ import annotations

import numpy as np
import pytest

from ttt_core import WeightError
from ttt_factory._weight_map import Rows, bias_name
from ttt_weights import ArraySource

WHOLE = ArraySource(np.arange(24).reshape(12, 2), "qkv")


def test_parts_one_after_the_other() -> None:
    parts = [Rows(WHOLE, groups=1, sizes=(6, 3, 3), index=index) for index in range(3)]
    assert [part.shape for part in parts] == [(6, 2), (3, 2), (3, 2)]
    assert [part.read()[:, 0].tolist() for part in parts] == [[0, 2, 4, 6, 8, 10], [12, 14, 16], [18, 20, 22]]
    assert parts[1].name == "qkv, part 2 of 3"


def test_parts_within_each_head() -> None:
    parts = [Rows(WHOLE, groups=2, sizes=(2, 2, 2), index=index) for index in range(3)]
    assert [part.read()[:, 0].tolist() for part in parts] == [[0, 2, 12, 14], [4, 6, 16, 18], [8, 10, 20, 22]]
    bias = Rows(ArraySource(np.arange(12), "bias"), groups=2, sizes=(2, 2, 2), index=1)
    assert (bias.shape, bias.read().tolist()) == ((4,), [2, 3, 8, 9])
    assert bias_name("layers.0.dense.weight") == "layers.0.dense.bias"


def test_a_tensor_with_other_rows_is_refused() -> None:
    with pytest.raises(WeightError, match=r"^qkv has shape \[12, 2\], but 18 rows are wanted for its 3 parts\."):
        Rows(WHOLE, groups=2, sizes=(3, 3, 3), index=0)
