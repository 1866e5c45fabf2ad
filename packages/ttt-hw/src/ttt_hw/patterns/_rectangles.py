"""Rectangles of cores over which a width of tiles is dealt evenly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ttt_hw.layouts import rectangles
from ttt_hw.records import Board
from ttt_shard_dsl import TILE


@lru_cache(maxsize=4096)
def even_rectangles(width: int, board: Board) -> tuple[tuple[int, int], ...]:
    """Every (x, y) whose cores divide the tiles of `width`, the most cores first."""
    tiles = width // TILE
    return tuple(grid for grid in reversed(rectangles(board)) if tiles % (grid[0] * grid[1]) == 0)


def grid_problems(grid: tuple[int, int], width: int, board: Board) -> Iterator[str]:
    """Whether a width can be dealt evenly over a rectangle of a chip's cores."""
    x, y = grid
    if not (1 <= x <= board.grid[0] and 1 <= y <= board.grid[1]):
        yield f"grid {x}x{y} is not within the chip's {board.grid[0]}x{board.grid[1]} cores"
    elif width % (TILE * x * y):
        cores = max(i * j for i, j in even_rectangles(width, board) if i * j <= x * y)
        yield f"{x * y} cores do not divide the {width // TILE} tiles of width {width}; {cores} do"
