"""Buffers of the programs that turn rows into tiles and back: operations that cut within a tile run them unasked."""

from __future__ import annotations

from ttt_hw.records import Board
from ttt_shard_dsl import tile_bytes

ONE_CORE = 32  # tiles; fewer in a row of tiles stay on one core
TILE_BYTES = tile_bytes("bfloat16")


def tilize_buffers(width: int, board: Board) -> int:
    """Rows of fewer than a tile, `width` tiles wide, padded and turned into tiles: the row before and after.

    The width is dealt over all cores but one, which ttnn keeps for what is left over. Units: bytes on the fullest core.
    """
    cores = board.grid[0] * board.grid[1]
    return 2 * TILE_BYTES * (width if width <= ONE_CORE else -(-width // (cores - 1)))


def untilize_buffers(width: int, board: Board) -> int:
    """One row of tiles, `width` wide, turned into rows: two blocks before and two after, the width dealt over all cores."""
    cores = board.grid[0] * board.grid[1]
    return 4 * TILE_BYTES * -(-width // cores)
