"""Moves between layouts that chips take part in: the steps that ttt_shard_dsl plans for a rule, as calls of ttnn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ttt_core import PlacementError
from ttt_hw.catalogue import Board
from ttt_shard_dsl import Call, LayoutError, Step, plan


@dataclass(frozen=True, kw_only=True, slots=True)
class AllReduce:
    """Each chip along a mesh axis ends with the sum of all of theirs, in the memory of its own."""

    axis: int

    def __call__(self, x: Any) -> Any:
        import ttnn

        return ttnn.all_reduce(
            x, cluster_axis=self.axis, topology=ttnn.Topology.Linear, memory_config=x.memory_config()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReduceScatter:
    """Each chip along a mesh axis ends with its part along `dim` of the sum of all of theirs, in the memory of its own."""

    axis: int
    dim: int

    def __call__(self, x: Any) -> Any:
        import ttnn

        return ttnn.reduce_scatter(
            x, dim=self.dim, cluster_axis=self.axis, topology=ttnn.Topology.Linear, memory_config=x.memory_config()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AllGather:
    """Each chip along a mesh axis ends with the parts of all of them, joined along `dim`, in the memory of its own."""

    axis: int
    dim: int

    def __call__(self, x: Any) -> Any:
        import ttnn

        return ttnn.all_gather(
            x, dim=self.dim, cluster_axis=self.axis, topology=ttnn.Topology.Linear, memory_config=x.memory_config()
        )


Collective: TypeAlias = AllReduce | ReduceScatter | AllGather


def plan_reshard(rule: str, device: Board, *, shape: Sequence[int], dtype: str = "bfloat16") -> Callable[[Any], Any]:
    """The steps that turn the left layout of `rule` into the right one on `device`, as one call without branches.

    `"1 1 s d +cols -> 1 1 s d"` sums over the columns of the mesh, `"1 1 s v@cols -> 1 1 s v"` joins what they hold. Along an
    axis of one chip there is nothing to do; without any step the tensor itself is returned.

    Shapes: `shape` is the whole tensor, by which the steps are chosen; a collective that moves no data to another memory
    keeps that of its input, and takes a tensor with another size of a dim that the steps do not split.
    Errors: PlacementError where a layout of the rule is not legal for the tensor, or no steps lead from one to the other.
    """
    calls = tuple(_bound(step) for step in reshard_steps(rule, device, shape=shape, dtype=dtype))
    if not calls:
        return _same
    if len(calls) == 1:
        return calls[0]

    def run(x: Any) -> Any:
        for call in calls:
            x = call(x)
        return x

    return run


def reshard_steps(
    rule: str, device: Board, *, shape: Sequence[int], dtype: str = "bfloat16"
) -> tuple[Collective | Call, ...]:
    """The steps of `plan_reshard`: those of `ttt_shard_dsl.plan` for chips in a line, as collectives where they are one.

    Errors: PlacementError.
    """
    try:
        steps = plan(rule, shape, device=device, dtype=dtype, topology="line").steps
    except LayoutError as error:
        raise PlacementError(str(error)) from error
    return tuple(map(_collective, steps))


def _collective(step: Step) -> Collective | Call:
    arguments = dict(step.call.arguments)
    axis, dim = arguments.get("cluster_axis"), arguments.get("dim")
    if not isinstance(axis, int) or "memory_config" in arguments:
        return step.call
    if step.kind == "all_reduce":
        return AllReduce(axis=axis)
    if step.kind == "reduce_scatter" and isinstance(dim, int):
        return ReduceScatter(axis=axis, dim=dim)
    if step.kind == "all_gather" and isinstance(dim, int):
        return AllGather(axis=axis, dim=dim)
    return step.call


def _bound(step: Collective | Call) -> Callable[[Any], Any]:
    if not isinstance(step, Call):
        return step
    import ttnn

    return step.bind(ttnn)


def _same(x: Any) -> Any:
    return x
