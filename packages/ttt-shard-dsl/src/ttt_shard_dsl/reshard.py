"""From one layout of a tensor to another: the collectives and on-chip moves, the bytes of each on a link, the ttnn calls.

Between chips the plan is a cheapest way through the states of the mesh axes: whole, a sum that is pending, or the dim that the
axis splits. On a chip it is one conversion. Collectives work on interleaved tensors, and a sharded source is converted first;
only a sum over chips is made where width shards lie in L1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ttt_shard_dsl.dtypes import ELEMENT_BYTES, TILE, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.parser import parse_rule
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.tree import Axis, Dim, Place, Rule, Spec

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

Topology = Literal["ring", "line"]
Kind = Literal[
    "all_gather",
    "reduce_scatter",
    "all_reduce",
    "all_to_all",
    "mesh_partition",
    "interleaved_to_sharded",
    "sharded_to_interleaved",
    "reshard",
    "to_memory_config",
    "typecast",
]
Use = int | Literal["pending"] | None
"""What a layout does with a mesh axis: the entry of the shape that it splits, a sum that is pending, or nothing."""

State = tuple[Use, Use]
"""The use of the rows of the mesh, and of its columns."""

MESH_AXES = ("rows", "cols")  # in the order of ttnn's cluster_axis


class Target(NamedTuple):
    """The memory of one layout, as an argument of a call."""

    spec: Spec
    placement: Placement

    def __str__(self) -> str:
        p = self.placement
        form = ("" if p.dtype == "bfloat16" else f", dtype={p.dtype!r}") + ("" if p.tiled else ", tiled=False")
        return f'memory_config("{self.spec._replace(dtype=None)}", shape={p.shape}, device=device{form})'


class Call(NamedTuple):
    """One ttnn call on a tensor `x`: a function's name, and its keyword arguments.

    A `str` among the arguments is a name in ttnn, as `Topology.Ring`; a `Target` becomes a MemoryConfig.
    """

    function: str
    arguments: tuple[tuple[str, int | str | Target], ...] = ()

    def to_ttnn(self) -> str:
        """The call as Python."""
        shown = (f"{name}={f'ttnn.{value}' if isinstance(value, str) else value}" for name, value in self.arguments)
        return f"ttnn.{self.function}({', '.join(('x', *shown))})"

    def run(self, x: Any, ttnn: Any) -> Any:
        """Make the call; `ttnn` is the module."""
        given = {
            name: value.placement.to_memory_config()
            if isinstance(value, Target)
            else _attribute(ttnn, value)
            if isinstance(value, str)
            else value
            for name, value in self.arguments
        }
        return _attribute(ttnn, self.function)(x, **given)


class Step(NamedTuple):
    """One move.

    Units: bytes on the busiest directed link between neighbours along `axis`, if they form a ring or a line; 0 on a chip.
    """

    kind: Kind
    axis: str | None
    ring_bytes: int
    line_bytes: int
    call: Call
    after: Placement


class Plan(NamedTuple):
    """The steps of a rule for one tensor on one device; none where both layouts are the same."""

    rule: Rule
    source: Placement
    target: Placement
    steps: tuple[Step, ...]
    topology: Topology

    @property
    def link_bytes(self) -> int:
        """Bytes on the busiest directed link of each collective, summed over the steps."""
        return sum(step.ring_bytes if self.topology == "ring" else step.line_bytes for step in self.steps)

    def to_ttnn(self) -> str:
        """The calls as lines of Python that rebind `x`."""
        return "\n".join(f"x = {step.call.to_ttnn()}" for step in self.steps)

    def run(self, x: Any, ttnn: Any) -> Any:
        """Make the calls, each on what the one before it returned; without steps `x` itself is returned."""
        for step in self.steps:
            x = step.call.run(x, ttnn)
        return x


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


def plan(
    rule: str | Rule,
    shape: Sequence[int],
    *,
    device: Geometry,
    dtype: str | None = None,
    tiled: bool = True,
    topology: Topology = "ring",
) -> Plan:
    """The steps of a rule, fewest bytes on the links of `topology` first.

    Shapes: `shape` is the whole tensor.

    Errors: `LayoutError` where one of the layouts is not legal, both are not of the same dims, the target has a sum pending
    that the source has not, or a padding changes that only the host can change.
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    source = rule.source.place(shape, device=device, dtype=dtype, tiled=tiled)
    target_dtype = rule.target.dtype or source.dtype
    target = rule.target.place(shape, device=device, dtype=target_dtype, tiled=tiled)
    _check_names(rule)
    _check_padding(rule, source, target, device.mesh)
    moves = _route(rule, source, target, device.mesh, topology)
    return Plan(rule, source, target, tuple(_steps(rule, source, target, moves, device, topology)), topology)


class _Move(NamedTuple):
    kind: Kind
    axis: int
    before: State
    after: State
    size: int
    """Bytes on each chip before the move."""


def _steps(
    rule: Rule, source: Placement, target: Placement, moves: list[_Move], device: Geometry, topology: Topology
) -> Iterator[Step]:
    at, spec = source, rule.source
    shape, tiled = source.shape, source.tiled

    def place(spec: Spec) -> Placement:
        return spec._replace(dtype=at.dtype).place(shape, device=device, tiled=tiled)

    def cast() -> Step:
        return _on_chip("typecast", place(spec._replace(dtype=None)), ("dtype", target.dtype))

    narrowing = tiled and TILE_BYTES[target.dtype] < TILE_BYTES[source.dtype] and not source.pending
    if narrowing:
        at = at._replace(dtype=target.dtype)
        step = cast()
        at = step.after
        yield step

    # ttnn sums where the tensor lies, but cuts the last dim meanwhile: shards of whole rows would not fit
    in_place = source.sharding == "interleaved" or (source.sharding == "width" and source.memory == "l1")
    sums_only = in_place and all(move.kind == "all_reduce" for move in moves)
    if moves and not sums_only:
        stage = _stage(rule.source, moves[0].before, source)
        if at.sharding != "interleaved":
            spec = stage._replace(memory=at.memory)
            after = _roomy(spec, place)
            spec = spec._replace(memory=after.memory)
            legacy = at.memory == "l1" and at.sharding != "nd"
            kind: Kind = "sharded_to_interleaved" if legacy else "to_memory_config"
            yield _on_chip(kind, after, ("memory_config", Target(spec, after)))
            at = after
    for number, move in enumerate(moves):
        if sums_only:
            spec = rule.source._replace(pending=_pending(move.after))
            after = place(spec)
        else:
            spec = _stage(rule.source, move.after, source)._replace(memory=at.memory)
            if number == len(moves) - 1 and target.sharding == "interleaved":
                spec = spec._replace(memory=target.memory)
            after = _roomy(spec, place)
            spec = spec._replace(memory=after.memory)
        yield _collective(move, Target(spec, after), after.memory != at.memory, device.mesh, topology)
        at = after

    if at.dtype != target.dtype:
        at = at._replace(dtype=target.dtype)
        step = cast()
        at = step.after
        yield step
    if _local(at) != _local(target):
        yield _convert(at, Target(rule.target, target))


def _collective(move: _Move, after: Target, moved: bool, mesh: tuple[int, int], topology: Topology) -> Step:
    chips = mesh[move.axis]
    old, new = move.before[move.axis], move.after[move.axis]
    arguments: dict[str, int | str | Target] = {}
    if move.kind == "all_to_all":
        assert isinstance(old, int)
        assert isinstance(new, int)
        arguments |= {"in_dim": old, "out_dim": new}  # ttnn: split over the chips before, and after
    elif move.kind != "all_reduce":
        dim = old if move.kind == "all_gather" else new
        assert isinstance(dim, int)
        arguments["dim"] = dim
    arguments["cluster_axis"] = move.axis
    if move.kind in ("reduce_scatter", "all_reduce", "all_to_all"):  # all_gather finds its topology itself
        arguments["topology"] = "Topology.Ring" if topology == "ring" and chips > 2 else "Topology.Linear"
    if moved:
        arguments["memory_config"] = after
    function = "experimental.all_to_all_async_generic" if move.kind == "all_to_all" else move.kind
    ring, line = link_bytes(move.kind, move.size, chips, "ring"), link_bytes(move.kind, move.size, chips, "line")
    call = Call(function, tuple(arguments.items()))
    return Step(move.kind, MESH_AXES[move.axis], ring, line, call, after.placement)


def _convert(at: Placement, target: Target) -> Step:
    """The move between two layouts of the same part of a tensor on a chip."""
    goal = target.placement
    before, after = at.sharding != "interleaved", goal.sharding != "interleaved"
    if "nd" in (at.sharding, goal.sharding):
        return _on_chip("to_memory_config", goal, ("memory_config", target))
    if at.memory == goal.memory == "l1" and before and after:
        return _on_chip("reshard", goal, ("output_memory_config", target))
    if goal.memory == "l1" and after and not before:
        return _on_chip("interleaved_to_sharded", goal, ("sharded_memory_config", target))
    if at.memory == "l1" and before and not after:
        return _on_chip("sharded_to_interleaved", goal, ("memory_config", target))
    return _on_chip("to_memory_config", goal, ("memory_config", target))


def _on_chip(kind: Kind, after: Placement, argument: tuple[str, str | Target]) -> Step:
    return Step(kind, None, 0, 0, Call(kind, (argument,)), after)


def _local(placement: Placement) -> Placement:
    """What a placement says of one chip."""
    return placement._replace(shape=(), mesh_dims=(None, None), pending=())


def _roomy(spec: Spec, place: Any) -> Placement:
    """The placement of an interleaved stage, in DRAM if L1 has no room for it."""
    try:
        placement: Placement = place(spec)
    except LayoutError:
        if spec.memory != "l1":
            raise
        placement = place(spec._replace(memory="dram"))
    return placement


def _stage(source: Spec, state: State, placement: Placement) -> Spec:
    """An interleaved layout with the dims of the source and another use of the mesh."""
    dims = []
    for entry, (label, pad) in enumerate(_entries(source)):
        places = tuple(Place(Axis(axis)) for axis, use in zip(MESH_AXES, state, strict=True) if use == entry)
        name, size = (label, None) if isinstance(label, str) else (None, label)
        dims.append(Dim((name,) if name else (), size, pad, places))
    return Spec(tuple(dims), _pending(state), placement.memory)


def _pending(state: State) -> tuple[Axis, ...]:
    return tuple(Axis(axis) for axis, use in zip(MESH_AXES, state, strict=True) if use == "pending")


def _entries(spec: Spec) -> list[tuple[str | int, int | None]]:
    """The name or size, and the padding, of each entry of the shape."""
    entries: list[tuple[str | int, int | None]] = []
    for dim in spec.dims:
        entries += [(dim.size, dim.pad)] if dim.size is not None else [(name, dim.pad) for name in dim.names]
    return entries


def _state(placement: Placement, mesh: tuple[int, int]) -> State:
    """The use of each axis; of an axis of one chip there is none."""
    uses: list[Use] = [
        None if chips == 1 else "pending" if axis in placement.pending else dim
        for axis, chips, dim in zip(MESH_AXES, mesh, placement.mesh_dims, strict=True)
    ]
    return uses[0], uses[1]


def _route(rule: Rule, source: Placement, target: Placement, mesh: tuple[int, int], topology: Topology) -> list[_Move]:
    """The moves with the fewest bytes on a link, and of those the fewest moves (Dijkstra over the uses of the axes)."""
    start, goal = _state(source, mesh), _state(target, mesh)
    for name, old, new in zip(MESH_AXES, start, goal, strict=True):
        if new == "pending" != old:
            raise LayoutError(
                f"the sum over '{name}' is pending in the target only",
                str(rule),
                choices="allowed: a sum that the source has pending too",
            )
    narrow = source.tiled and TILE_BYTES[target.dtype] < TILE_BYTES[source.dtype] and not source.pending
    dtype = target.dtype if narrow else source.dtype
    whole = source.whole_shape(mesh)
    order = count()
    queue: list[tuple[int, int, int, State, list[_Move]]] = [(0, 0, next(order), start, [])]
    seen: set[State] = set()
    while queue:
        cost, moves, _, state, path = heappop(queue)
        if state == goal:
            return path
        if state in seen:
            continue
        seen.add(state)
        size = _chip_bytes(whole, state, mesh, dtype, source.tiled)
        for axis in (0, 1):
            for use in (None, *range(len(whole))):
                kind = _kind(state[axis], use)
                after: State = (use, state[1]) if axis == 0 else (state[0], use)
                if (
                    kind is None
                    or mesh[axis] == 1
                    or not _is_even(whole, after, mesh)
                    or not _is_minor(axis, state, after)
                ):
                    continue
                step = link_bytes(kind, size, mesh[axis], topology)
                move = _Move(kind, axis, state, after, size)
                heappush(queue, (cost + step, moves + 1, next(order), after, [*path, move]))
    raise LayoutError(
        "no collectives lead from the source to the target", str(rule), choices="allowed: other mesh axes"
    )


def _kind(before: Use, after: Use) -> Kind | None:
    if before == after:
        return None
    if before == "pending":
        return "all_reduce" if after is None else "reduce_scatter"
    if before is None:
        return "mesh_partition"
    return "all_gather" if after is None else "all_to_all"


def _is_even(whole: tuple[int, ...], state: State, mesh: tuple[int, int]) -> bool:
    rows, cols = state
    if isinstance(rows, int) and rows == cols:
        return whole[rows] % (mesh[0] * mesh[1]) == 0
    return all(whole[use] % chips == 0 for use, chips in zip(state, mesh, strict=True) if isinstance(use, int))


def _is_minor(axis: int, *states: State) -> bool:
    """Whether an axis may move: of a dim that both axes split, a chip of the next row has no neighbouring part."""
    return axis == 1 or not any(isinstance(rows, int) and rows == cols for rows, cols in states)


def _chip_bytes(whole: tuple[int, ...], state: State, mesh: tuple[int, int], dtype: str, tiled: bool) -> int:
    """What one chip stores of an interleaved tensor."""
    chip = list(whole)
    for use, chips in zip(state, mesh, strict=True):
        if isinstance(use, int):
            chip[use] //= chips
    if not tiled:
        return prod(chip) * ELEMENT_BYTES[dtype]
    if len(chip) == 1:
        chip.insert(0, 1)
    return prod(chip[:-2]) * _ceil(chip[-2], TILE) * _ceil(chip[-1], TILE) * TILE_BYTES[dtype]


def _check_names(rule: Rule) -> None:
    """Both sides are one tensor: a name that changes would be a transpose, or a mistake."""
    for entry, ((before, _), (after, _)) in enumerate(zip(_entries(rule.source), _entries(rule.target), strict=True)):
        if isinstance(before, str) and isinstance(after, str) and before != after:
            raise LayoutError(
                f"dim {entry} is '{before}' in the source and '{after}' in the target",
                str(rule),
                choices=f"nearest valid: '{before}' in both; a rule moves a tensor and does not transpose it",
            )


def _check_padding(rule: Rule, source: Placement, target: Placement, mesh: tuple[int, int]) -> None:
    """A padding that only fills the last shard comes and goes with the shards; any other is another tensor."""
    before, after = source.whole_shape(mesh), target.whole_shape(mesh)
    for entry, sizes in enumerate(zip(before, after, strict=True)):
        if sizes[0] == sizes[1]:
            continue
        padded = rule.source if sizes[0] > sizes[1] else rule.target
        split = any(
            place.axis.name in ("core", "bank") for dim in padded.dims if dim.pad is not None for place in dim.places
        )
        if not split or entry in (*source.mesh_dims, *target.mesh_dims):
            label = _entries(rule.source)[entry][0]
            raise LayoutError(
                f"'{label}' is {sizes[0]} with its padding in the source, and {sizes[1]} in the target",
                str(rule),
                choices="nearest valid: the same padding in both; ttnn.pad and ttnn.slice change it",
            )


def _attribute(ttnn: Any, path: str) -> Any:
    found = ttnn
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
