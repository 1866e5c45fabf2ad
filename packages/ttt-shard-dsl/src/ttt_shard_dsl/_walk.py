"""The steps of a route: collectives where the tensor can lie meanwhile, and on each chip the moves before and after them.

On a chip the way is one conversion. Collectives work on interleaved tensors, and a sharded source is converted first; only a sum
over chips is made where width shards lie in L1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING

from ttt_shard_dsl._extents import MESH_AXES
from ttt_shard_dsl._route import Move, State, find_route, link_bytes, mesh_state
from ttt_shard_dsl.dtypes import ELEMENT_BYTES, TILE, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.steps import Call, Kind, Step, Target, Topology
from ttt_shard_dsl.tree import Axis, Dim, Place, Rule, Spec

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

RESERVE = 300_000
"""Bytes of L1 on each core that a step needs beside tensors: ttnn's collectives on a mock t3k had circular buffers of 196,608
and semaphores of up to 83,000."""


class Walk:
    """The way from the source to the target; `at` is where the tensor lies after the steps so far, and `spec` its text.

    A step in L1 has its input and its output there at once, and a collective as much again between them; where they do not
    fit, the way leads through DRAM.
    """

    def __init__(self, rule: Rule, source: Placement, target: Placement, device: Geometry, topology: Topology) -> None:
        self.rule, self.source, self.target, self.device, self.topology = rule, source, target, device, topology
        self.at, self.spec = source, rule.source

    def steps(self) -> Iterator[Step]:
        early, moves = self.moves()
        if early:
            yield from self.cast()
        sums_only = self.sums_in_place(moves)
        if moves and not sums_only and not (self.at.sharding == "interleaved" and self.has_room(self.at)):
            yield self.interleave()
        for move in moves:
            yield self.move(move, in_place=sums_only, last=move is moves[-1])
        if self.at.dtype != self.target.dtype:
            yield from self.cast_late()
        if _local(self.at) != _local(self.target):
            if not self.fits(self.target):
                yield self.interleave("dram")
            yield self.convert(self.target)

    def sums_in_place(self, moves: list[Move]) -> bool:
        """Whether all moves are sums that ttnn makes where the tensor lies.

        It scatters one dim, the last if each chip gets whole tiles of it, and gathers it again; of shards only those over that
        dim go along.
        """
        at = self.at
        if any(move.kind != "all_reduce" for move in moves) or not self.has_room(at):
            return False
        if at.sharding == "interleaved":
            return True
        chips = lcm(*(self.device.mesh[move.axis] for move in moves))
        whole = at.tiled and len(at.chip_shape) > 1 and at.chip_shape[-2] % TILE == 0
        return whole and at.chip_shape[-1] % (chips * TILE) == 0 and at.sharding == "width" and at.memory == "l1"

    def moves(self) -> tuple[bool, list[Move]]:
        """The collectives, and whether the dtype changes before them: where that leaves fewer bytes to move."""
        source, target, mesh = self.source, self.target, self.device.mesh
        narrower = source.tiled and TILE_BYTES[target.dtype] < TILE_BYTES[source.dtype] and not source.pending
        if narrower and self.fits(self.place(self.spec, target.dtype)):
            try:
                return True, find_route(self.rule, source, target, target.dtype, mesh, self.topology)
            except LayoutError:  # some dtypes have fewer collectives
                pass
        return False, find_route(self.rule, source, target, source.dtype, mesh, self.topology)

    def place(self, spec: Spec, dtype: str | None = None) -> Placement:
        return spec._replace(dtype=dtype or self.at.dtype).place(
            self.source.shape, device=self.device, tiled=self.source.tiled
        )

    def place_beside(self, spec: Spec, dtype: str | None = None) -> Placement | None:
        """The placement, if there is room for it beside the tensor where it lies."""
        try:
            placement = self.place(spec, dtype)
        except LayoutError:
            return None
        return placement if self.fits(placement) else None

    def fits(self, *after: Placement) -> bool:
        """Whether L1 has room for each of these beside the one before it."""
        sizes = [self.at.bytes_per_core, *(placement.bytes_per_core for placement in after)]
        return all(not a or not b or a + b + RESERVE <= self.device.l1_bytes_per_core for a, b in pairwise(sizes))

    def has_room(self, at: Placement) -> bool:
        """Whether a collective can be made where a tensor lies."""
        return not at.bytes_per_core or 3 * at.bytes_per_core + RESERVE <= self.device.l1_bytes_per_core

    def go(self, step: Step, spec: Spec) -> Step:
        self.at, self.spec = step.after, spec
        return step

    def stage(self, state: State, memory: str) -> Target:
        """The interleaved layout of a state of the mesh, in DRAM if L1 has no room for it."""
        spec = _stage(self.rule.source, state)._replace(memory=memory)
        placement = self.place_beside(spec)
        if placement is not None and self.has_room(placement):
            return Target(spec, placement)
        spec = spec._replace(memory="dram")
        return Target(spec, self.place(spec))

    def interleave(self, memory: str | None = None) -> Step:
        at = self.at
        to = self.stage(mesh_state(at, self.device.mesh), memory or at.memory)
        legacy = at.memory == "l1" and at.sharding not in ("interleaved", "nd") and _has_whole_pages(at)
        kind: Kind = "sharded_to_interleaved" if legacy else "to_memory_config"
        return self.go(_on_chip(kind, to.placement, ("memory_config", to)), to.spec)

    def move(self, move: Move, *, in_place: bool, last: bool) -> Step:
        at = self.at
        if in_place:
            spec = self.rule.source._replace(pending=_pending(move.after))
            to = Target(spec, self.place(spec))
        else:
            memory = self.target.memory if last and self.target.sharding == "interleaved" else at.memory
            if self.is_composite(move):
                memory = "dram" if at.tiled or move.old == len(at.chip_shape) - 1 else at.memory
            to = self.stage(move.after, memory)
        moved = to.placement.memory != at.memory and not self.is_composite(move)
        return self.go(_collective(move, to, moved, self.device.mesh, self.topology), to.spec)

    def is_composite(self, move: Move) -> bool:
        """Whether ttnn gathers in several ops, because of tiles or rows that are not whole, and where it does is not asked.

        Tiles end in DRAM, and so do rows that become longer; others stay where they were.
        """
        if move.kind != "all_gather":
            return False
        at, dim = self.at, move.old
        assert dim is not None
        if at.tiled:
            return dim >= len(at.chip_shape) - 2 and at.chip_shape[dim] % TILE > 0
        alignment = self.device.l1_alignment if at.memory == "l1" else self.device.dram_alignment
        return at.chip_shape[-1] * ELEMENT_BYTES[at.dtype] % alignment > 0

    def cast(self) -> Iterator[Step]:
        """The dtype where the tensor lies, or in DRAM where L1 has no room for both."""
        if self.at.memory == "l1" and self.place_beside(self.spec, self.target.dtype) is None:
            yield self.interleave("dram")
        after = self.place(self.spec, self.target.dtype)
        yield self.go(_on_chip("typecast", after, ("dtype", self.target.dtype)), self.spec)

    def cast_late(self) -> Iterator[Step]:
        """The dtype after the moves: a wider one where the target lies, which has room for it."""
        if TILE_BYTES[self.target.dtype] > TILE_BYTES[self.at.dtype]:
            held = self.place(self.rule.target)
            if _local(held) != _local(self.at) and self.fits(held, self.target):
                yield self.convert(held)
        yield from self.cast()

    def convert(self, to: Placement) -> Step:
        return self.go(_convert(self.at, Target(self.rule.target, to)), self.rule.target)


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
    if "nd" in (at.sharding, goal.sharding) or not (_has_whole_pages(at) and _has_whole_pages(goal)):
        return _on_chip("to_memory_config", goal, ("memory_config", target))
    if at.memory == goal.memory == "l1" and before and after:
        return _on_chip("reshard", goal, ("output_memory_config", target))
    if goal.memory == "l1" and after and not before:
        return _on_chip("interleaved_to_sharded", goal, ("sharded_memory_config", target))
    if at.memory == "l1" and before and not after:
        return _on_chip("sharded_to_interleaved", goal, ("memory_config", target))
    return _on_chip("to_memory_config", goal, ("memory_config", target))


def _has_whole_pages(placement: Placement) -> bool:
    """Whether the rows of shards fill their pages, which the ops for one kind of move want."""
    if placement.tiled or placement.shard_shape is None:
        return True
    return placement.shard_shape[-1] * ELEMENT_BYTES[placement.dtype] == placement.page_bytes


def _on_chip(kind: Kind, after: Placement, argument: tuple[str, str | Target]) -> Step:
    return Step(kind, None, 0, 0, Call(kind, (argument,)), after)


def _local(placement: Placement) -> Placement:
    """What a placement says of one chip."""
    return placement._replace(shape=(), mesh_dims=(None, None), cols_major=False, pending=())


def _stage(source: Spec, state: State) -> Spec:
    """A layout on no cores with the dims of the source and another use of the mesh."""
    dims = []
    for entry, dim in enumerate(entries_of(source)):
        places = tuple(Place(Axis(MESH_AXES[axis])) for axis in state.in_order if state.uses[axis] == entry)
        dims.append(dim._replace(places=places))
    return Spec(tuple(dims), _pending(state))


def _pending(state: State) -> tuple[Axis, ...]:
    return tuple(Axis(axis) for axis, use in zip(MESH_AXES, state.uses, strict=True) if use == "pending")


def entries_of(spec: Spec) -> list[Dim]:
    """One dim for each entry of the shape."""
    entries: list[Dim] = []
    for dim in spec.dims:
        entries += [dim] if len(dim.names) < 2 else [Dim((name,)) for name in dim.names]
    return entries
