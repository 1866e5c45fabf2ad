"""What it costs to read and write tensors that an operation deals over cores page by page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod

from ttt_hw.estimate import Work
from ttt_hw.records import Board
from ttt_hw.requests import TensorType
from ttt_shard_dsl import TILE, tile_bytes

_ELEMENT_BYTES = {"bfloat16": 2, "uint16": 2}


@lru_cache(maxsize=1 << 14)
def pages(type_: TensorType) -> tuple[int, int]:
    """How many pages a tensor has, and their bytes: tiles, or the rows of a row-major tensor."""
    if not type_.tiled:
        return prod(type_.shape[:-1]), type_.shape[-1] * _ELEMENT_BYTES.get(type_.dtype, 4)
    rows = type_.shape[-2] if len(type_.shape) > 1 else 1
    tiles = prod(type_.shape[:-2]) * -(-rows // TILE) * -(-type_.shape[-1] // TILE)
    return tiles, tile_bytes(type_.dtype)


def tile_rows(shape: Sequence[int]) -> int:
    """Rows of tiles of a tensor, the padding of each of its matrices counted."""
    return prod(shape[:-2]) * -(-shape[-2] // TILE)


def traffic(
    reads: Iterable[tuple[str, TensorType]],
    writes: Iterable[tuple[str, TensorType]],
    cores: int,
    *,
    programs: int = 1,
    passes: float = 1,
) -> Work:
    """The work of reading and writing tensors in layouts, dealt evenly over `cores`.

    What lies interleaved in L1 enters and leaves each core over the NoC; what is sharded is there already. `passes`: how often
    the engines take what was read.
    """
    read, vector, dram, requests, noc = list(reads), 0.0, 0, 0, 0.0
    for index, (text, type_) in enumerate([*read, *writes]):
        count, bytes_ = pages(type_)
        if " in dram" in text:
            dram += count * bytes_
            requests += count
        elif "@" not in text:
            noc += count * bytes_ / cores
        if index < len(read):
            vector += passes * count * bytes_ / cores
    return Work(vector_bytes=vector, dram_bytes=dram, dram_pages=requests, noc_bytes=noc, programs=programs)


def spread(items: int, board: Board) -> int:
    """How many cores get something of `items`."""
    return min(items, board.grid[0] * board.grid[1])
