"""Moves between layouts that chips take part in, planned from a rule of the layout language."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ttt_core import PlacementError
from ttt_hw.catalogue import Board
from ttt_shard_dsl import Spec, parse_rule

MESH_AXES = ("rows", "cols")  # in the order of ttnn's cluster_axis


@dataclass(frozen=True, kw_only=True, slots=True)
class AllReduce:
    """Each chip along a mesh axis ends with the sum of all of theirs."""

    axis: int

    def __call__(self, x: Any) -> Any:
        import ttnn

        return ttnn.all_reduce(
            x, cluster_axis=self.axis, topology=ttnn.Topology.Linear, memory_config=x.memory_config()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AllGather:
    """Each chip along a mesh axis ends with the parts of all of them, joined along `dim`."""

    axis: int
    dim: int

    def __call__(self, x: Any) -> Any:
        import ttnn

        return ttnn.all_gather(
            x, dim=self.dim, cluster_axis=self.axis, topology=ttnn.Topology.Linear, memory_config=x.memory_config()
        )


Step: TypeAlias = AllReduce | AllGather


def plan_reshard(rule: str, device: Board) -> Callable[[Any], Any]:
    """The collectives that turn the left layout of `rule` into the right one on `device`, as one call.

    `"1 1 s d +cols -> 1 1 s d"` sums over the columns of the mesh, `"1 1 s v@cols -> 1 1 s v"` joins what they hold. Along an
    axis of one chip there is nothing to do; without any step the tensor itself is returned.
    Errors: PlacementError for a rule that needs another move.
    """
    steps = reshard_steps(rule, device.mesh)
    if not steps:
        return _same
    if len(steps) == 1:
        return steps[0]

    def run(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return run


def reshard_steps(rule: str, mesh: tuple[int, int]) -> tuple[Step, ...]:
    """The steps of `plan_reshard`: sums, then joins.

    Of a dim that both axes split the inner axis comes first: its chips hold parts that are neighbours.
    """
    source, target = parse_rule(rule)
    labels = [[dim.label for dim in spec.dims] for spec in (source, target)]
    if labels[0] != labels[1] or (source.memory, source.cores, source.dtype) != (
        target.memory,
        target.cores,
        target.dtype,
    ):
        raise PlacementError(
            f"The two sides of the rule {rule!r} differ in more than what chips hold; so far a rule keeps dims, memory, cores "
            "and dtype. Write them alike, and do the rest with an op of its own."
        )
    sums: list[Step] = []
    joins: list[tuple[int, Step]] = []
    for axis, (name, chips) in enumerate(zip(MESH_AXES, mesh, strict=True)):
        before, after = _use(source, name), _use(target, name)
        if before == after or chips == 1:
            continue
        if after is not None:
            raise PlacementError(
                f"The rule {rule!r} ends with {name!r} in use on a mesh {mesh[0]}×{mesh[1]}; so far a rule can sum over an "
                "axis or join along it. Let the right side be whole on every chip."
            )
        if not isinstance(before, int):
            sums.append(AllReduce(axis=axis))
            continue
        places = source.dims[before].places
        depth = next(depth for depth, place in enumerate(places) if str(place.axis) == name)
        if places[depth].cyclic:
            raise PlacementError(
                f"The rule {rule!r} joins a dim that is dealt out in turns (~{name}); so far a rule joins blocks. Use @{name}."
            )
        joins.append((depth, AllGather(axis=axis, dim=before)))
    return (*sums, *(step for _, step in sorted(joins, key=lambda join: join[0], reverse=True)))


def _use(spec: Spec, axis: str) -> int | str | None:
    """What a layout does with a mesh axis: the dim that it splits, "pending" for a sum, None for nothing."""
    if any(str(pending) == axis for pending in spec.pending):
        return "pending"
    for index, dim in enumerate(spec.dims):
        if any(str(place.axis) == axis for place in dim.places):
            return index
    return None


def _same(x: Any) -> Any:
    return x
