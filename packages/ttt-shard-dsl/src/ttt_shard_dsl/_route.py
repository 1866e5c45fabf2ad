"""The way between the chips of a mesh from one layout to another: the collectives that take the least time on the links.

A cheapest way through the states of the mesh axes: each is whole, a sum that is pending, or splits a dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count, product
from math import prod
from typing import Literal, NamedTuple

from ttt_shard_dsl._extents import MESH_AXES
from ttt_shard_dsl.dtypes import ELEMENT_BYTES, TILE, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.steps import Kind, Topology
from ttt_shard_dsl.tree import Rule

Use = int | Literal["pending"] | None
"""What a layout does with a mesh axis: the entry of the shape that it splits, a sum that is pending, or nothing."""

START_BYTES = 1 << 18
"""What a link carries in the time that a step takes to start: 21 µs at the 12.5 GB/s of Wormhole. Assumed, not measured."""


SUMMED = ("bfloat16", "float32", "bfloat8_b", "int32")
"""The dtypes of which ttnn sums rows too, and tiles that it cannot scatter."""


class State(NamedTuple):
    """The use of the rows of the mesh, and of its columns."""

    rows: Use
    cols: Use
    cols_major: bool = False
    """Whether a dim that both split goes down the columns of the mesh."""

    @property
    def uses(self) -> tuple[Use, Use]:
        return self.rows, self.cols

    @property
    def shared(self) -> bool:
        """Whether both split one dim."""
        return isinstance(self.rows, int) and self.rows == self.cols

    @property
    def in_order(self) -> tuple[int, int]:
        """The axes from major to minor."""
        return (1, 0) if self.cols_major else (0, 1)

    def moved(self, axis: int, use: Use) -> State | None:
        """With another use of an axis; None for the major one of a dim that both split: its chips hold no neighbours."""
        if self.shared and axis == self.in_order[0]:
            return None
        after = State(use, self.cols) if axis == 0 else State(self.rows, use)
        return after._replace(cols_major=after.shared and axis == 0)


class Move(NamedTuple):
    """One collective along a mesh axis."""

    kind: Kind
    axis: int
    before: State
    after: State
    size: int
    """Bytes on each chip before the move."""

    @property
    def old(self) -> int | None:
        """The entry of the shape that the axis splits before the move."""
        use = self.before.uses[self.axis]
        return use if isinstance(use, int) else None

    @property
    def new(self) -> int | None:
        """The entry of the shape that the axis splits after the move."""
        use = self.after.uses[self.axis]
        return use if isinstance(use, int) else None


def link_bytes(kind: Kind, size: int, chips: int, topology: Topology) -> int:
    """Bytes on the busiest directed link of one collective over `chips` neighbours that start with `size` bytes each.

    gather: ring ⌈(n−1)/2⌉·S, line (n−1)·S; reduce-scatter: the same / n; all-reduce: twice that;
    all-to-all: ring ½·Σ_j min(j, n−j)·S/n, line ⌊n/2⌋·⌈n/2⌉·S/n. Two chips are a line.
    """
    n = chips
    ring = topology == "ring" and n > 2
    hops = n // 2 if ring else n - 1  # ⌈(n−1)/2⌉ = ⌊n/2⌋
    if kind == "all_gather":
        return hops * size
    if kind == "reduce_scatter":
        return _ceil(hops * size, n)
    if kind == "all_reduce":
        return _ceil(2 * hops * size, n)
    if kind == "all_to_all":
        if ring:
            return _ceil(sum(min(j, n - j) for j in range(n)) * size, 2 * n)
        return _ceil((n // 2) * -(-n // 2) * size, n)
    return 0


def mesh_state(placement: Placement, mesh: tuple[int, int]) -> State:
    """The use of each axis; of an axis of one chip there is none."""
    rows, cols = (
        _use(placement, axis, dim) if chips > 1 else None
        for axis, chips, dim in zip(MESH_AXES, mesh, placement.mesh_dims, strict=True)
    )
    state = State(rows, cols)
    return state._replace(cols_major=placement.cols_major and state.shared)


def _use(placement: Placement, axis: str, dim: int | None) -> Use:
    return "pending" if axis in placement.pending else dim


def find_route(
    rule: Rule, source: Placement, target: Placement, dtype: str, mesh: tuple[int, int], topology: Topology
) -> list[Move]:
    """The moves of a tensor of `dtype` that take the least time on the links, their starts included (Dijkstra).

    Errors: `LayoutError` where no moves lead from the source to the target.
    """
    start, goal = mesh_state(source, mesh), mesh_state(target, mesh)
    for name, old, new in zip(MESH_AXES, start.uses, goal.uses, strict=True):
        if new == "pending" != old:
            raise LayoutError(
                f"the sum over '{name}' is pending in the target only",
                str(rule),
                choices="allowed: a sum that the source has pending too",
            )
    whole = source.whole_shape(mesh)
    order = count()
    queue: list[tuple[int, int, State, list[Move]]] = [(0, next(order), start, [])]
    seen: set[State] = set()
    refused = ""
    while queue:
        cost, _, state, path = heappop(queue)
        if state == goal:
            return path
        if state in seen:
            continue
        seen.add(state)
        for move, refusal in _moves(state, whole, mesh, dtype, source.tiled):
            if refusal:
                refused = refused or refusal
                continue
            step = START_BYTES + link_bytes(move.kind, move.size, mesh[move.axis], topology)
            heappush(queue, (cost + step, next(order), move.after, [*path, move]))
    raise LayoutError("ttnn has no collectives from the source to the target", str(rule), choices=f"allowed: {refused}")


def _moves(
    state: State, whole: tuple[int, ...], mesh: tuple[int, int], dtype: str, tiled: bool
) -> Iterator[tuple[Move, str]]:
    """The collectives from a state, and what ttnn wants that they are not."""
    before = _chip_shape(whole, state, mesh)
    for axis, use in product((0, 1), (None, *range(len(whole)))):
        kind, after = _kind(state.uses[axis], use), state.moved(axis, use)
        if kind is not None and after is not None and mesh[axis] > 1 and _is_even(whole, after, mesh):
            move = Move(kind, axis, state, after, _stored_bytes(before, dtype, tiled))
            yield move, _refusal(move, before, _chip_shape(whole, after, mesh), mesh[axis], dtype, tiled)


def _refusal(move: Move, before: tuple[int, ...], after: tuple[int, ...], chips: int, dtype: str, tiled: bool) -> str:
    """What ttnn 0.81 wants of the parts of chips that these are not, or "". As a mock of a t3k answers."""
    kind, rank = move.kind, len(before)
    cut = [(use, part[use]) for use, part in ((move.old, before), (move.new, after)) if use is not None]

    def whole(unit: int, *dims: int) -> bool:
        return not tiled or all(size % unit == 0 for use, size in cut if use - rank in dims)

    if kind == "mesh_partition" and not (whole(TILE, -2, -1) and (rank > 1 or not tiled)):
        return f"mesh_partition where each chip gets whole tiles of {TILE}, of at least 2 dims"
    if kind == "reduce_scatter" and rank == 1:
        return "reduce_scatter of tensors of at least 2 dims"
    if kind in ("reduce_scatter", "all_gather") and dtype == "bfloat4_b" and not whole(TILE, -2, -1):
        return f"{kind} of bfloat4_b where each chip has whole tiles of {TILE}"
    if kind == "all_reduce" and dtype not in SUMMED and not (tiled and before[-1] % (chips * TILE) == 0):
        return f"all_reduce of {', '.join(SUMMED)}, or of tiles of which each of {chips} chips can sum some columns"
    if kind == "all_to_all" and not (tiled and rank > 1 and whole(TILE, -1) and whole(TILE // 2, -2)):
        return f"all_to_all of tiles where each chip has multiples of {TILE // 2} rows and {TILE} columns"
    return ""


def _kind(before: Use, after: Use) -> Kind | None:
    if before == after:
        return None
    if before == "pending":
        return "all_reduce" if after is None else "reduce_scatter"
    if before is None:
        return "mesh_partition"
    return "all_gather" if after is None else "all_to_all"


def _is_even(whole: tuple[int, ...], state: State, mesh: tuple[int, int]) -> bool:
    if state.shared:
        assert isinstance(state.rows, int)
        return whole[state.rows] % (mesh[0] * mesh[1]) == 0
    return all(whole[use] % chips == 0 for use, chips in zip(state.uses, mesh, strict=True) if isinstance(use, int))


def _chip_shape(whole: tuple[int, ...], state: State, mesh: tuple[int, int]) -> tuple[int, ...]:
    """What one chip holds."""
    chip = list(whole)
    for use, chips in zip(state.uses, mesh, strict=True):
        if isinstance(use, int):
            chip[use] //= chips
    return tuple(chip)


def _stored_bytes(chip: tuple[int, ...], dtype: str, tiled: bool) -> int:
    """What one chip stores of an interleaved tensor."""
    if not tiled:
        return prod(chip) * ELEMENT_BYTES[dtype]
    *leading, rows, columns = (1, *chip)
    return prod(leading) * _ceil(rows, TILE) * _ceil(columns, TILE) * TILE_BYTES[dtype]


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
