"""Blocks without weights: what works, what is refused, and how the weights come later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ttt_core import WeightError
from ttt_weights import LazyWeight, Loadable, RandomWeights, as_source, or_left_out


class Block(Loadable):
    """Two weights, one of which not every block has."""

    def __init__(self, mesh: Any, *, tall: bool = True, **given: Any) -> None:
        sources = or_left_out("Block", {"wide": None, "tall": None, **given}, optional={"tall": tall})
        self.parts = [
            LazyWeight(
                [as_source(sources[role], shape=shape, name=f"the {role} weight")],
                lambda w: w,
                shape=shape,
                dtype="bfloat16",
                placement="k n in dram",
                device=mesh,
            )
            for role, shape in {"wide": (32, 64), "tall": (64, 32)}.items()
            if sources[role] is not None
        ]

    @property
    def weights(self) -> list[LazyWeight]:
        return self.parts


def test_without_weights_it_has_its_place_on_a_device_and_no_values(mesh: Any) -> None:
    (wide, tall) = Block(mesh).weights
    assert list(wide.tensor.shape) == [32, 64]
    with pytest.raises(WeightError) as caught:
        tall.host()
    assert str(caught.value) == (
        "Block was made without weights, and the tall weight is needed now. Give them when it is made, or with "
        "load({'tall': …}); load(RandomWeights(seed=0)) serves a test."
    )
    assert len(Block(mesh, tall=False).weights) == 1


def test_a_device_that_computes_refuses_at_the_first_forward(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttt_weights.lazy.current_backend", lambda device: "silicon")
    block = Block(mesh)
    with pytest.raises(WeightError, match="Block was made without weights, and the wide weight is needed now"):
        _ = block.weights[0].tensor
    assert list(block.load(RandomWeights()).weights[0].tensor.shape) == [32, 64]


def test_weights_are_loaded_by_name_and_again(mesh: Any) -> None:
    block = Block(mesh)
    before = block.weights[0].tensor
    ones = np.ones((32, 64), np.float32)
    for factor in (1, 2):
        assert block.load({"wide": factor * ones, "tall": ones.T}) is block
        assert block.weights[0].host().max() == factor
        assert block.weights[0].tensor is not before


def test_random_weights_are_the_same_in_each_run_and_differ_by_name_and_seed(mesh: Any) -> None:
    first, again, other = (
        [weight.host() for weight in Block(mesh).load(RandomWeights(seed)).weights] for seed in (0, 0, 1)
    )
    assert (first[0] == again[0]).all()
    assert (first[0] != other[0]).any()
    assert (first[0] != first[1].reshape(32, 64)).any()
    assert abs(first[0].std() * 8 - 1) < 0.1


def test_another_shares_what_was_given_and_loads_the_rest_for_itself(mesh: Any) -> None:
    block = Block(mesh)
    other = block.another()
    block.load(RandomWeights(0))
    with pytest.raises(WeightError, match="the wide weight is needed now"):
        other.weights[0].host()
    other.load(RandomWeights(1))
    assert (block.weights[0].host() != other.weights[0].host()).any()
    given = Block(mesh, wide=np.ones((32, 64), np.float32), tall=np.ones((64, 32), np.float32))
    assert (given.another().weights[0].host() == 1).all()


ONES = np.ones((32, 64), np.float32)


@pytest.mark.parametrize(
    ("made", "loaded", "message"),
    [
        ({}, {"wide": ONES}, "Block was not given tall, the tall weight [64, 32]. Load all its weights."),
        (
            {},
            {"wide": ONES, "tall": ONES.T, "deep": ONES},
            "Block has no place for a weight deep: it was made without tall, wide.",
        ),
        (
            {},
            {"wide": ONES.T, "tall": ONES.T},
            "the wide weight has shape [64, 32], but [32, 64] is wanted for the wide weight. The config and the weights do not "
            "belong together.",
        ),
        (
            {"wide": ONES, "tall": ONES.T},
            {"wide": ONES},
            "Block has no place for a weight wide: it was made with its weights.",
        ),
    ],
)
def test_what_does_not_fit_is_said(mesh: Any, made: dict[str, Any], loaded: dict[str, Any], message: str) -> None:
    block = Block(mesh, **made)
    with pytest.raises(WeightError) as caught:
        block.load(loaded)
    assert str(caught.value) == message


def test_some_weights_are_not_enough() -> None:
    with pytest.raises(WeightError) as caught:
        or_left_out("Block", {"wide": ONES, "tall": None, "bias": None}, optional={"bias": True})
    assert str(caught.value) == (
        "Block was given wide and not tall. Give all weights, or none of them and load them later."
    )
