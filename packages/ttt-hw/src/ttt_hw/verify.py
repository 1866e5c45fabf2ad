"""Does ttnn accept an operation as it was planned, and does it take the memory that was predicted?

On a mock: the operation runs eagerly on empty tensors in the planned layouts, which is where ttnn refuses bad configs and
memory clashes; then once more under a capture that accounts for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_core import TttError
from ttt_hw._accounting import Usage, account
from ttt_hw._semaphores import make_semaphores
from ttt_hw.catalogue import board_of
from ttt_hw.errors import translate
from ttt_hw.layouts import placed
from ttt_hw.patterns.base import Pattern
from ttt_hw.plan import BlockPlan, PlannedMove
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, TensorType

__all__ = ["Verdict", "empty", "issue_plan", "verify"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`error` is ttnn's refusal; `buffers` what the pattern predicts, `usage` what ttnn takes; `moved` names results that
    lie elsewhere than predicted."""

    op: str
    error: str | None
    buffers: int
    usage: Usage | None
    moved: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        return self.usage is not None and self.usage.buffers == self.buffers and not self.moved


def verify(
    request: OpRequest,
    pattern: Pattern[Any],
    mesh: Any,
    *,
    reads: Sequence[str] | None = None,
    tensors: Sequence[Any] | None = None,
) -> Verdict:
    """Issue one operation. `tensors` are made in the layouts `reads` unless given; both default to what is accepted first."""
    board = board_of(mesh)
    if reads is None:
        reads = [layouts[0] for layouts in pattern.accepts(request, board)]
    verdict, _ = issue(
        request,
        pattern,
        mesh,
        reads,
        tensors or [empty(text, type_, board, mesh) for text, type_ in zip(reads, request.operands, strict=True)],
    )
    return verdict


def issue(
    request: OpRequest,
    pattern: Pattern[Any],
    mesh: Any,
    reads: Sequence[str],
    tensors: Sequence[Any],
    *,
    buffers: int | None = None,
) -> tuple[Verdict, dict[str, Any]]:
    """Issue one operation on tensors that are there; its results by name, none after a refusal.

    `buffers` is what is predicted, if not what the pattern says of the operation alone.
    """
    board = board_of(mesh)
    if buffers is None:
        buffers = pattern.circular_buffers(request, board, reads)
    try:
        output = pattern.issue(request, board, tensors)
        usage = account(lambda: pattern.issue(request, board, tensors))
    except TttError as error:
        return Verdict(op=request.name, error=str(error), buffers=buffers, usage=None), {}
    except RuntimeError as error:
        refusal = str(translate(error, where=request.name))
        return Verdict(op=request.name, error=refusal, buffers=buffers, usage=None), {}
    names = list(request.results)
    outputs = list(output) if len(names) > 1 else [output] * len(names)
    moved = tuple(
        f"{name}: {made} is not {text}"
        for name, tensor, text in zip(names, outputs, pattern.results(request, board), strict=True)
        if (made := _where(tensor)) != _expected(text, request.results[name], board)
    )
    return (
        Verdict(op=request.name, error=None, buffers=buffers, usage=usage, moved=moved),
        dict(zip(names, outputs, strict=True)),
    )


def issue_plan(plan: BlockPlan, mesh: Any) -> list[Verdict]:
    """Issue every move and operation of a plan in order, each beside the tensors that are alive then, up to the first
    refusal.

    Stored tensors are empty ones in their places; nothing remains on the device.
    """
    board, types = plan.board, plan.block.types
    verdicts: list[Verdict] = []
    alive: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)  # parts may have copies in the same layout

    def moved(move: PlannedMove) -> bool:
        source, target = (move.tensor, move.reshard.source), (move.tensor, move.reshard.target)
        verdict, tensor = _move(move, types[move.tensor], board, alive[source][-1])
        verdicts.append(verdict)
        if tensor is not None:
            alive[target].append(tensor)
        if move.replaces:
            _free(alive, [source])
        return tensor is not None

    try:
        for name, text in (*plan.inputs.items(), *plan.stored.items()):
            alive[name, text].append(empty(text, types[name], board, mesh))
        make_semaphores(plan, mesh)
        for op in plan.ops:
            if not all(moved(move) for move in op.moves):
                return verdicts
            names = op.request.inputs
            tensors = [alive[name, text][-1] for name, text in zip(names, op.reads, strict=True)]
            verdict, made = issue(op.request, op.pattern, mesh, op.reads, tensors, buffers=op.buffers)
            del tensors
            verdicts.append(verdict)
            if verdict.error is not None:
                return verdicts
            for name, text in zip(made, op.results, strict=True):
                alive[name, text].append(made[name])
            del made
            _free(alive, op.frees)
        for move in plan.exits:
            if not moved(move):
                return verdicts
    except RuntimeError as error:
        refusal = str(translate(error, where="the tensors of the plan"))
        verdicts.append(Verdict(op="allocation", error=refusal, buffers=0, usage=None))
    finally:
        alive.clear()
    return verdicts


def _free(alive: Mapping[tuple[str, str], list[Any]], keys: Iterable[tuple[str, str]]) -> None:
    for key in keys:
        alive[key].pop()  # ttnn frees a tensor with its last reference, and a view keeps what it views


def _move(move: PlannedMove, type_: TensorType, board: Board, tensor: Any) -> tuple[Verdict, Any]:
    op = f"{move.tensor} to {move.reshard.target}"
    try:
        target = move.reshard.issue(type_, board, tensor)
        usage = account(lambda: move.reshard.issue(type_, board, tensor))
    except RuntimeError as error:
        refusal = str(translate(error, where=op))
        return Verdict(op=op, error=refusal, buffers=move.buffers, usage=None), None
    return Verdict(op=op, error=None, buffers=move.buffers, usage=usage), target


def empty(text: str, type_: TensorType, board: Board, mesh: Any) -> Any:
    """A tensor on every chip that lies as the text says, with whatever values."""
    import ttnn

    return ttnn.empty(
        list(type_.shape),
        getattr(ttnn, type_.dtype),
        ttnn.TILE_LAYOUT if type_.tiled else ttnn.ROW_MAJOR_LAYOUT,
        mesh,
        placed(text, type_, board).to_memory_config(),
    )


def _where(tensor: Any) -> str:
    """Shape, dtype and place of a device tensor, so that two can be compared: ttnn's own objects compare by identity."""
    memory = tensor.memory_config()
    spec = memory.shard_spec
    shard = f" {list(spec.shape)} on {sorted_ranges(spec.grid)}" if spec is not None else ""
    return (
        f"{list(tensor.shape)} {tensor.dtype.name.lower()} {memory.memory_layout.name} {memory.buffer_type.name}{shard}"
    )


def sorted_ranges(grid: Any) -> list[str]:
    return [f"{r.start.x}-{r.start.y}..{r.end.x}-{r.end.y}" for r in grid.ranges()]


def _expected(text: str, type_: TensorType, board: Board) -> str:
    memory = placed(text, type_, board).to_memory_config()
    spec = memory.shard_spec
    shard = f" {list(spec.shape)} on {sorted_ranges(spec.grid)}" if spec is not None else ""
    return f"{list(type_.shape)} {type_.dtype} {memory.memory_layout.name} {memory.buffer_type.name}{shard}"
