"""DRAM of a whole model on a board, from its layouts: no device is opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from ttt_attention import AttentionSpec, LatentAttentionSpec, cache_placement
from ttt_core import TttError
from ttt_factory.factory import ModelFactory
from ttt_factory.spec import ModelSpec
from ttt_hw import BOARDS, Board, DType, short_name
from ttt_shard_dsl import TILE, LayoutError, Placement
from ttt_weights import LazyWeight

__all__ = ["Demand", "DramUse", "dram_use"]

DTYPES: tuple[DType, ...] = ("bfloat16", "bfloat8_b", "bfloat4_b")  # of weights, from fine to coarse


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What is asked of a board."""

    spec: ModelSpec
    users: int
    context: int
    weight_dtype: DType
    cache_dtype: DType


@dataclass(frozen=True, kw_only=True, slots=True)
class DramUse:
    """Bytes of DRAM on each chip; a tensor counts with what it takes in the fullest bank, times the banks."""

    weights: int
    cache: int
    activations: int
    capacity: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity

    @property
    def missing(self) -> int:
        """Bytes by which it does not fit; 0 if it does."""
        return max(0, self.total - self.capacity)


def placement_of_cache(attention: AttentionSpec | LatentAttentionSpec, demand: Demand, board: Board) -> Placement:
    """Where the keys of a layer lie, and likewise the values, for all users and the context in whole tiles.

    Errors: LayoutError where they alone are more than the board's DRAM.
    """
    context = -(-demand.context // TILE) * TILE
    return cache_placement(attention, users=demand.users, context=context, device=board, dtype=demand.cache_dtype)


def tensors_of_cache(attention: AttentionSpec | LatentAttentionSpec) -> int:
    """Keys and values, or latents."""
    return 1 if isinstance(attention, LatentAttentionSpec) else 2


def dram_use(demand: Demand, board: Board, *, activations: int = 0) -> DramUse:
    """Weights and KV cache of a model on each chip of `board`, beside `activations` bytes.

    Errors: PlacementError where the model does not split over the board's chips.
    """
    # Banks without an end, for a tensor that alone is too large has its bytes too.
    endless = replace(board, chip=replace(board.chip, dram_bytes_per_bank=sys.maxsize))
    weights = _weight_bytes_per_bank(demand.spec, demand.weight_dtype, demand.cache_dtype, endless)
    cache = sum(
        tensors_of_cache(layer.attention) * placement_of_cache(layer.attention, demand, endless).bytes_per_bank
        for layer in demand.spec.layers
    )
    banks = board.dram_banks
    return DramUse(
        weights=weights * banks,
        cache=cache * banks,
        activations=activations,
        capacity=banks * board.dram_bytes_per_bank,
    )


@lru_cache(maxsize=64)
def _weight_bytes_per_bank(spec: ModelSpec, weight_dtype: DType, cache_dtype: DType, board: Board) -> int:
    """Where the model's plans put its weights; kept, for they take a second to make."""
    model = ModelFactory.from_spec(spec, device=board, weight_dtype=weight_dtype, cache_dtype=cache_dtype)
    return sum(weight.placement.bytes_per_bank for weight in model.weights if isinstance(weight, LazyWeight))


def remedies(demand: Demand, board: Board, *, activations: int = 0, least_context: int = TILE) -> list[str]:
    """Single changes that make a demand fit, in words, the mildest of each kind; the last is the smallest board that holds it.

    `activations` count as they are here; on another board they may differ by what its collectives take. Contexts stay at
    `least_context` or above.
    """
    found = []
    for kind in _changes(demand, board, least_context):
        for words, changed, other in kind:
            if _fits(changed, other, activations):
                found.append(f"{words} fits")
                break
    return found


def _changes(demand: Demand, board: Board, least_context: int) -> Iterator[list[tuple[str, Demand, Board]]]:
    """Changes by kind, mildest first."""
    coarser = DTYPES[DTYPES.index(demand.weight_dtype) + 1 :]
    yield [(short_name(dtype), replace(demand, weight_dtype=dtype), board) for dtype in coarser]
    if demand.cache_dtype != "bfloat8_b":
        yield [("KV cache bfp8", replace(demand, cache_dtype="bfloat8_b"), board)]
    yield [(f"batch {users}", replace(demand, users=users), board) for users in _halves(demand.users, 1)]
    yield [
        (f"context {context}", replace(demand, context=context), board)
        for context in _halves(demand.context, least_context)
    ]
    boards = sorted(
        BOARDS.values(), key=lambda record: record.num_chips * record.dram_banks * record.dram_bytes_per_bank
    )
    yield [(other.name, demand, other) for other in boards if other.name != board.name]


def _halves(value: int, least: int) -> Iterator[int]:
    while (value := value // 2) >= least:
        yield value


def _fits(demand: Demand, board: Board, activations: int) -> bool:
    try:
        return dram_use(demand, board, activations=activations).fits
    except (TttError, LayoutError):  # does not split over that board's chips
        return False
