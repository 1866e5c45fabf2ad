"""A plan as a forward uses it: each operation a call that moves, issues and frees as it was planned.

ops = plans(work)
gate = ops["gate_matmul"](x, weight)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ttt_core import PlacementError
from ttt_hw._straight import Issued, Mover, Written, straight
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.plan import BlockPlan, PlannedOp
from ttt_hw.requests import OpRequest

__all__ = ["BoundOp", "BoundPlan", "Operations"]

Moved: TypeAlias = "dict[str, Any]"
"""Of one forward: the tensors that have been moved, by name, where they lie now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundInput:
    """An input of an operation: what brings it to where the operation reads it, and whether anything reads it afterwards.

    `moves`: it is moved now, whatever was moved before; else a copy moved before is read. `replaces`: it is freed where it
    was. `last`: nothing reads it any more; `last_here`: nothing reads the moved copy any more.
    """

    name: str
    bring: Callable[[Any], Any] | None
    moves: bool
    replaces: bool
    last: bool
    last_here: bool

    def read(self, tensor: Any, moved: Moved) -> Any:
        if self.bring is None:
            return tensor
        held = moved.get(self.name)
        if held is not None and not self.moves:
            return held
        source = tensor if held is None else held
        target = moved[self.name] = self.bring(source)
        if self.replaces:
            free(source)
        return target

    def release(self, tensor: Any, moved: Moved) -> None:
        if self.last_here and (held := moved.pop(self.name, None)) is not None:
            free(held)
        if self.last:
            free(tensor)


class BoundOp:
    """One planned operation. `options` are the keyword arguments of the ttnn operation that the pattern chose."""

    __slots__ = ("exit", "inputs", "issue", "name", "options", "pattern", "request")

    def __init__(
        self, op: PlannedOp, plan: BlockPlan, inputs: tuple[BoundInput, ...], exit_: Callable[[Any], Any] | None
    ) -> None:
        self.name = op.request.name
        self.request: OpRequest = op.request
        self.pattern = op.pattern
        options = op.pattern.to_ttnn(op.request, plan.board)
        self.options: Mapping[str, Any] = options
        ready = copy(op.pattern)  # ttnn's objects are made once, not for each forward
        object.__setattr__(ready, "to_ttnn", lambda request, board: options)
        self.issue = partial(ready.issue, op.request, plan.board)
        self.inputs = inputs
        self.exit = exit_

    def __call__(self, moved: Moved, *given: Any) -> Any:
        """The result; `given` are the inputs and what else the pattern takes. None stands for an input that there is not."""
        return self.run(self.issue, moved, *given)

    def run(self, issue: Callable[[list[Any]], Any], moved: Moved, *given: Any) -> Any:
        inputs = self.inputs
        tensors = [each.read(tensor, moved) for each, tensor in zip(inputs, given, strict=False)]
        tensors += [other for other in given[len(inputs) :] if other is not None]
        result = issue(tensors)
        del tensors
        for each, tensor in zip(inputs, given, strict=False):
            each.release(tensor, moved)
        if self.exit is None:
            return result
        left = self.exit(result)
        free(result)
        return left


class Operations(dict[str, Callable[..., Any]]):
    """The operations of one forward, by name: each is called with its inputs in their order.

    What it moves lies there for the forward's later operations, and what nothing reads any more is freed, as planned.
    """

    __slots__ = ("forwards", "moved", "written")

    def __init__(
        self,
        calls: Mapping[str, Callable[..., Any]],
        *,
        written: Mapping[str, Written] | None = None,
        moved: Moved | None = None,
    ) -> None:
        """`written`: those of them that are known as lines, by name; they may become more. `moved`: what they have moved."""
        super().__init__(calls)
        self.written = written
        self.moved: Moved = {} if moved is None else moved
        self.forwards: dict[object, Callable[..., Any]] = {}  # whole ones that are written down [written]

    def optional(self, name: str) -> Callable[..., Any]:
        """The operation of that name; where the list has none, its first input as it is."""
        return self.get(name, _first)


class BoundPlan:
    """A plan's operations by name, or those of one part of it; `start` begins a forward.

    The first call of an operation asks its pattern; what that calls is written down as a function, which serves from then on
    [_straight]: a forward costs the host little more than its ttnn calls.
    """

    __slots__ = ("_calls", "_moved", "_written", "ops")

    def __init__(self, plan: BlockPlan, part: str = "", *, prepare: Callable[[Any], None] | None = None) -> None:
        """`prepare` is called once, with the first tensor of the first forward, before anything runs."""
        prefix = f"{part}." if part else ""
        bound = _bind(plan)
        self.ops = {name.removeprefix(prefix): op for name, op in bound.items() if name.startswith(prefix)}
        self._moved: Moved = {}
        self._written: dict[str, Written] = {}
        calls = {name: partial(self._first, name, None) for name in self.ops}
        self._calls = Operations(calls, written=self._written, moved=self._moved)
        if prepare is not None and self.ops:
            first = next(iter(self.ops))
            self._calls[first] = partial(self._first, first, prepare)

    def _first(self, name: str, prepare: Callable[[Any], None] | None, *given: Any) -> Any:
        op = self.ops[name]
        if prepare is not None:
            prepare(given[0])
        issued = Issued(op.issue)
        result = op.run(issued, self._moved, *given)
        written = straight(op, issued, self._moved, given)
        if written is None:
            self._calls[name] = partial(op, self._moved)
        else:
            self._written[name] = written
            self._calls[name] = written.made()
        return result

    def __getitem__(self, name: str) -> BoundOp:
        """Errors: PlacementError with the names that there are."""
        if name not in self.ops:
            raise PlacementError(f"the plan has no operation {name!r}; it has {', '.join(self.ops)}.")
        return self.ops[name]

    def start(self) -> Operations:
        self._moved.clear()  # a forward that failed may have left something
        return self._calls


def _bind(plan: BlockPlan) -> dict[str, BoundOp]:
    types = plan.block.types
    kept = {*plan.block.outputs, *types} - {name for op in plan.ops for name in op.request.results}
    kept |= set(plan.block.outputs)  # and what the caller or the block has
    last: dict[str, str] = {}
    last_here: dict[tuple[str, str], str] = {}
    for op in plan.ops:
        for name in op.request.inputs:
            last[name] = last_here[name, _part(op)] = op.request.name
    exits = {move.tensor: move.reshard for move in plan.exits}
    if read_after := [name for name in exits if name in last]:
        raise PlacementError(
            f"{', '.join(read_after)} leaves the block and is read in it, in different places: a forward would have it in one. "
            "Let it leave where it is made."
        )

    def mover(name: str, reshard: Reshard) -> Callable[[Any], Any]:
        return Mover(partial(reshard.to_ttnn, types[name], plan.board))

    at: dict[tuple[str, str], Reshard] = {}  # the move that a part made of a tensor
    bound = {}
    for op in plan.ops:
        part, here = _part(op), op.request.name
        planned = {move.position: move for move in op.moves}
        inputs = []
        for position, name in enumerate(op.request.inputs):
            move = planned.get(position)
            if move is not None:
                at[name, part] = move.reshard
            reshard = at.get((name, part))
            inputs.append(
                BoundInput(
                    name=name,
                    bring=None if reshard is None else mover(name, reshard),
                    moves=move is not None,
                    replaces=move is not None and move.replaces,
                    last=name not in kept and last[name] == here,
                    last_here=last_here[name, part] == here,
                )
            )
        left = next((name for name in op.request.results if name in exits), None)
        exit_ = None if left is None else mover(left, exits[left])
        bound[here] = BoundOp(op, plan, tuple(inputs), exit_)
    return bound


def _part(op: PlannedOp) -> str:
    return op.request.name.rpartition(".")[0]


def free(tensor: Any) -> None:
    """Gives back a tensor's memory, whoever still holds the tensor; a view of it keeps the memory."""
    tensor.deallocate(False)


def _first(tensor: Any, *_: Any) -> Any:
    return tensor
