"""The few layouts that operations ask for on one chip, as texts of the layout language, and what they take.

A text has a word for each dim, so that it can be read, saved and compared; `placed` checks it for one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ttt_hw.records import Board
from ttt_hw.requests import TensorType
from ttt_shard_dsl import Placement, parse

__all__ = ["DRAM", "L1", "interleaved", "on_mesh", "placed", "weight_on_mesh"]

DRAM, L1 = "b h s d in dram", "b h s d in l1"  # of the four dims of an activation
_NAMES = ("b", "h", "s", "d")


def interleaved(type_: TensorType, memory: str = "dram") -> str:
    """Pages dealt over all banks of a memory, for a tensor of up to four dims."""
    return f"{' '.join(_NAMES[-len(type_.shape) :])} in {memory}"


def width_sharded(grid: tuple[int, int], memory: str = "l1") -> str:
    """The last dim in equal blocks over a rectangle of cores (x, y) from the corner."""
    return f"b h s d@core in {memory} on {_rectangle(grid)}"


def height_sharded(grid: tuple[int, int]) -> str:
    """Rows in equal blocks over a rectangle of cores from the corner."""
    return f"b h s@core d in l1 on {_rectangle(grid)}"


def block_sharded(grid: tuple[int, int]) -> str:
    """Rows over the rows of a rectangle of cores, the last dim over its columns."""
    return f"b h s@core.y d@core.x in l1 on {_rectangle(grid)}"


def user_sharded(ranges: str) -> str:
    """[1, users, heads, head_dim] with one user a core of `ranges`."""
    return f"b h@core s d in l1 on {ranges}"


def over_banks(dims: str = "b h s d") -> str:
    """A weight whose columns lie in equal blocks over all DRAM banks."""
    return f"{dims}@bank in dram"


def _rectangle(grid: tuple[int, int]) -> str:
    return f"0-0..{grid[0] - 1}-{grid[1] - 1}"


def on_mesh(text: str, *, dim: int, axis: str = "cols", multiple: int = 1) -> str:
    """A layout of one chip as that of the whole tensor, of which each chip along a mesh axis has a part along `dim`.

    `multiple`: what the dim of the whole tensor is padded to. `on_mesh("b h s d@bank in dram", dim=3)` is
    `"b h s d@cols@bank in dram"`.
    """
    dims, rest = text.split(" in ")
    words = dims.split()
    name, *places = words[dim].split("@")
    padded = f"{name}|{multiple}" if multiple > 1 else name
    words[dim] = "@".join([padded, axis, *places])
    return f"{' '.join(words)} in {rest}"


def weight_on_mesh(text: str, board: Board, *, hidden: int | None, inner: int | None, multiple: int = 1) -> str:
    """A weight's layout of one chip as that of the whole weight: dim `inner` is split over the columns of the mesh (of heads,
    inner dims, the vocabulary), dim `hidden` over the rows where these split the hidden dim. None: the weight has no such dim.
    """
    if inner is not None:
        text = on_mesh(text, dim=inner, multiple=multiple)
    if hidden is not None and board.hidden_chips > 1:
        text = on_mesh(text, dim=hidden, axis="rows")
    return text


def row_of_cores(cores: int, grid: tuple[int, int]) -> str:
    """The first `cores` cores of a grid, row by row: whole rows, then the rest of one."""
    x = grid[0]
    whole, rest = divmod(cores, x)
    ranges = [f"0-0..{x - 1}-{whole - 1}"] if whole else []
    return ",".join(ranges + ([f"0-{whole}..{rest - 1}-{whole}"] if rest else []))


@lru_cache(maxsize=1 << 16)
def placed(text: str, type_: TensorType, board: Board) -> Placement:
    """A layout on one chip of `board`. Errors: LayoutError where it is not legal there."""
    return parse(text).place(type_.shape, device=one_chip(board), dtype=type_.dtype, tiled=type_.tiled)


@lru_cache(maxsize=256)
def one_chip(board: Board) -> Board:
    return replace(board, mesh=(1, 1))


def bytes_per_core(texts: Sequence[tuple[str, TensorType]], board: Board) -> int:
    """L1 that tensors take together on a core: the allocator gives each the same address on every core."""
    return sum(placed(text, type_, board).bytes_per_core for text, type_ in texts)


def rectangles(board: Board) -> list[tuple[int, int]]:
    """Every (x, y) of cores from the corner, smallest first."""
    x, y = board.grid
    return sorted(
        ((i, j) for i in range(1, x + 1) for j in range(1, y + 1)), key=lambda grid: (grid[0] * grid[1], grid)
    )
