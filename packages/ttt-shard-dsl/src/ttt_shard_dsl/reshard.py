"""From one layout of a tensor to another: the collectives and on-chip moves, the bytes of each on a link, the ttnn calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ttt_shard_dsl._walk import Walk, entries_of
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.parser import parse_rule
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.steps import Plan, Topology
from ttt_shard_dsl.tree import Rule

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

__all__ = ["plan"]


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
    walk = Walk(rule, source, target, device, topology)
    return Plan(rule, source, target, tuple(walk.steps()), topology)


def _check_names(rule: Rule) -> None:
    """Both sides are one tensor: a name that changes would be a transpose, or a mistake."""
    for entry, (before, after) in enumerate(zip(entries_of(rule.source), entries_of(rule.target), strict=True)):
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
        padded = entries_of(rule.source if sizes[0] > sizes[1] else rule.target)[entry]
        split = any(place.axis.name in ("core", "bank") for place in padded.places)
        if not split or entry in (*source.mesh_dims, *target.mesh_dims):
            label = entries_of(rule.source)[entry].label
            raise LayoutError(
                f"'{label}' is {sizes[0]} with its padding in the source, and {sizes[1]} in the target",
                str(rule),
                choices="nearest valid: the same padding in both; ttnn.pad and ttnn.slice change it",
            )
