"""From one layout of a tensor to another: the collectives and on-chip moves, the bytes of each on a link, the ttnn calls.

Between chips the plan is the cheapest route over the axes of the mesh. On a chip it is one conversion. Collectives work on
interleaved tensors, and a sharded source is converted first; only a sum over chips is made where width shards lie in L1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ttt_shard_dsl.dtypes import TILE_BYTES
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.extents import MESH_AXES
from ttt_shard_dsl.parser import parse_rule
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.route import Move, State, find_route, link_bytes
from ttt_shard_dsl.steps import Call, Kind, Plan, Step, Target, Topology
from ttt_shard_dsl.tree import Axis, Dim, Place, Rule, Spec

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry


def plan(
    rule: str | Rule,
    shape: Sequence[int],
    *,
    device: Geometry,
    dtype: str | None = None,
    tiled: bool = True,
    topology: Topology = "ring",
) -> Plan:
    """The steps of a rule that take the least time on the links of `topology`, where each takes some to start.

    Shapes: `shape` is the whole tensor.

    Errors: `LayoutError` where one of the layouts is not legal, both are not of the same dims, the target has a sum pending
    that the source has not, a padding changes that only the host can change, or ttnn has no collectives for the parts.
    """
    rule = parse_rule(rule) if isinstance(rule, str) else rule
    source = rule.source.place(shape, device=device, dtype=dtype, tiled=tiled)
    target_dtype = rule.target.dtype or source.dtype
    target = rule.target.place(shape, device=device, dtype=target_dtype, tiled=tiled)
    _check_names(rule)
    _check_padding(rule, source, target, device.mesh)
    early = tiled and TILE_BYTES[target.dtype] < TILE_BYTES[source.dtype] and not source.pending  # fewer bytes to move
    try:
        moves = find_route(rule, source, target, target.dtype if early else source.dtype, device.mesh, topology)
    except LayoutError:
        if not early:
            raise
        early = False
        moves = find_route(rule, source, target, source.dtype, device.mesh, topology)
    return Plan(rule, source, target, tuple(_steps(rule, source, target, moves, early, device, topology)), topology)


def _steps(
    rule: Rule,
    source: Placement,
    target: Placement,
    moves: list[Move],
    early: bool,
    device: Geometry,
    topology: Topology,
) -> Iterator[Step]:
    """`early`: the dtype changes before the moves."""
    at, spec = source, rule.source
    shape, tiled = source.shape, source.tiled

    def place(spec: Spec) -> Placement:
        return spec._replace(dtype=at.dtype).place(shape, device=device, tiled=tiled)

    def cast() -> Step:
        return _on_chip("typecast", place(spec._replace(dtype=None)), ("dtype", target.dtype))

    if early:
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
        if TILE_BYTES[target.dtype] > TILE_BYTES[at.dtype] and _local(place(rule.target)) != _local(at):
            spec, after = rule.target, place(rule.target)  # the source may have no room for the wider dtype
            yield _convert(at, Target(spec, after))
        at = at._replace(dtype=target.dtype)
        step = cast()
        at = step.after
        yield step
    if _local(at) != _local(target):
        yield _convert(at, Target(rule.target, target))


def _collective(move: Move, after: Target, moved: bool, mesh: tuple[int, int], topology: Topology) -> Step:
    chips = mesh[move.axis]
    arguments: dict[str, int | str | Target] = {}
    if move.kind == "all_to_all":
        assert move.old is not None
        assert move.new is not None
        arguments |= {"in_dim": move.old, "out_dim": move.new}  # ttnn: split over the chips before, and after
    elif move.kind != "all_reduce":
        dim = move.old if move.kind == "all_gather" else move.new
        assert dim is not None
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
    return placement._replace(shape=(), mesh_dims=(None, None), cols_major=False, pending=())


def _roomy(spec: Spec, place: Callable[[Spec], Placement]) -> Placement:
    """The placement of an interleaved stage, in DRAM if L1 has no room for it."""
    try:
        return place(spec)
    except LayoutError:
        if spec.memory != "l1":
            raise
        return place(spec._replace(memory="dram"))


def _stage(source: Spec, state: State, placement: Placement) -> Spec:
    """An interleaved layout with the dims of the source and another use of the mesh."""
    dims = []
    for entry, dim in enumerate(_entries(source)):
        places = tuple(Place(Axis(MESH_AXES[axis])) for axis in state.in_order if state.uses[axis] == entry)
        dims.append(dim._replace(places=places))
    return Spec(tuple(dims), _pending(state), placement.memory)


def _pending(state: State) -> tuple[Axis, ...]:
    return tuple(Axis(axis) for axis, use in zip(MESH_AXES, state.uses, strict=True) if use == "pending")


def _entries(spec: Spec) -> list[Dim]:
    """One dim for each entry of the shape."""
    entries: list[Dim] = []
    for dim in spec.dims:
        entries += [dim] if len(dim.names) < 2 else [Dim((name,)) for name in dim.names]
    return entries


def _check_names(rule: Rule) -> None:
    """Both sides are one tensor: a name that changes would be a transpose, or a mistake."""
    for entry, (before, after) in enumerate(zip(_entries(rule.source), _entries(rule.target), strict=True)):
        if before.names and after.names and before.names != after.names:
            raise LayoutError(
                f"dim {entry} is '{before.label}' in the source and '{after.label}' in the target",
                str(rule),
                choices=f"nearest valid: '{before.label}' in both; a rule moves a tensor and does not transpose it",
            )


def _check_padding(rule: Rule, source: Placement, target: Placement, mesh: tuple[int, int]) -> None:
    """A padding that only fills the last shard comes and goes with the shards; any other is another tensor."""
    before, after = source.whole_shape(mesh), target.whole_shape(mesh)
    for entry, sizes in enumerate(zip(before, after, strict=True)):
        if sizes[0] == sizes[1]:
            continue
        padded = _entries(rule.source if sizes[0] > sizes[1] else rule.target)[entry]
        split = any(place.axis.name in ("core", "bank") for place in padded.places)
        if not split or entry in (*source.mesh_dims, *target.mesh_dims):
            label = _entries(rule.source)[entry].label
            raise LayoutError(
                f"'{label}' is {sizes[0]} with its padding in the source, and {sizes[1]} in the target",
                str(rule),
                choices="nearest valid: the same padding in both; ttnn.pad and ttnn.slice change it",
            )
