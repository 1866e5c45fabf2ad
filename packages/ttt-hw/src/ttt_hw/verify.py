"""Does ttnn accept an operation as it was planned, and does it take the memory that was predicted?

On a mock: the operation runs eagerly on empty tensors in the planned layouts, which is where ttnn refuses bad configs and memory
clashes; then once more under a capture that accounts for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttt_core import TttError
from ttt_hw.accounting import Usage, account
from ttt_hw.catalogue import board_of
from ttt_hw.errors import translate
from ttt_hw.layouts import placed
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, TensorType


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """`error` is ttnn's refusal; `buffers` what the pattern predicts, `usage` what ttnn takes; `moved` names results that lie
    elsewhere than predicted."""

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
    request: OpRequest, pattern: Pattern[Any], mesh: Any, reads: Sequence[str], tensors: Sequence[Any]
) -> tuple[Verdict, dict[str, Any]]:
    """Issue one operation on tensors that are there; its results by name, none after a refusal."""
    board = board_of(mesh)
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
