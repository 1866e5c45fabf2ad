"""One tensor, element by element: activations, and products with a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import Activation, OpRequest, UnaryRequest

__all__ = ["Unary"]

QUICK_GELU = 1.702  # steepness of the silu that it is; QuickGELUActivation of transformers
SINGLE = ("silu", "gelu", "gelu_tanh", "relu", "tanh", "exp", "sigmoid")
"""Activations that are one operation, so that a matmul can have them in its program."""
_GELU_TANH = 2  # of ttnn.GeluVariant: 0 the exact one, 1 a lookup table


def activations(activation: Activation | None, scale: float = 1.0, limit: float | None = None) -> list[Any]:
    """ttnn's chain for activation(scale · x), of x within ±limit, with no approximation that the name does not say."""
    import ttnn

    chain: list[Any] = []
    if limit is not None:
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.CLAMP_TSS, -limit, limit))
    if scale != 1.0:
        chain.append(_times(scale))
    if activation in ("gelu", "gelu_tanh"):
        variant = _GELU_TANH if activation == "gelu_tanh" else 0
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU, float(variant)))
    elif activation == "quick_gelu":
        chain += steep("silu", QUICK_GELU)
    elif activation == "relu2":
        chain += [ttnn.UnaryWithParam(kind) for kind in (ttnn.UnaryOpType.RELU, ttnn.UnaryOpType.SQUARE)]
    elif activation in ("tanh", "exp"):
        chain.append(ttnn.UnaryWithParam(getattr(ttnn.UnaryOpType, activation.upper()), 0.0))  # 1: a cruder one
    elif activation == "softplus":
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.SOFTPLUS, 1.0, 20.0))  # x itself above 20
    elif activation is not None:
        chain.append(ttnn.UnaryWithParam(getattr(ttnn.UnaryOpType, activation.upper())))
    return chain


def steep(activation: Activation | None, steepness: float) -> list[Any]:
    """ttnn's chain for activation(s · x) / s."""
    return activations(activation, steepness) + ([_times(1 / steepness)] if steepness != 1.0 else [])


def clamped(low: float | None, high: float | None, offset: float = 0.0) -> list[Any]:
    """ttnn's chain for min(max(x, low), high) + offset."""
    import ttnn

    chain: list[Any] = []
    if low is not None:
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.MAXIMUM, low))
    if high is not None:
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.MINIMUM, high))
    if offset:
        chain.append(ttnn.UnaryWithParam(ttnn.UnaryOpType.ADD_UNARY_SFPU, offset))
    return chain


def _times(factor: float) -> Any:
    import ttnn

    return ttnn.UnaryWithParam(ttnn.UnaryOpType.MUL_UNARY_SFPU, factor)


@dataclass(frozen=True, kw_only=True)
class Unary(Pattern[UnaryRequest]):
    """activation(scale · x) as one chain, dealt over all cores tile by tile; the result interleaved in `memory`."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (UnaryRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: UnaryRequest, board: Board) -> Iterator[Unary]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: UnaryRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        (type_,) = request.operands
        return ((interleaved(type_, own), interleaved(type_, other)),)

    def results(self, request: UnaryRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: UnaryRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        (layouts,) = self.accepts(request, board)
        if reads[0] not in layouts:
            yield f"x lies in {reads[0]!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if request.activation is None and request.scale == 1.0 and request.limit is None:
            yield "there is nothing to compute: no activation, no limit, and a scale of 1; leave the operation out"
        if request.dtype == "bfloat8_b" and request.activation in ("tanh", "exp", "sigmoid", "softplus"):
            yield f"{request.activation} of bfloat8_b is an approximation in ttnn; cast to bfloat16 first"

    def circular_buffers(self, request: UnaryRequest, board: Board, reads: Sequence[str]) -> int:
        """Two tiles in, two tiles out."""
        return 4 * pages(request.operands[0])[1]

    def cores(self, request: UnaryRequest, board: Board) -> int:
        return spread(pages(request.operands[0])[0], board)

    def work(self, request: UnaryRequest, board: Board, reads: Sequence[str]) -> Work:
        (type_,) = request.operands
        return traffic([(reads[0], type_)], [(self.results(request, board)[0], type_)], self.cores(request, board))

    def to_ttnn(self, request: UnaryRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {
            "ops_chain": activations(request.activation, request.scale, request.limit),
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
        }

    def issue(self, request: UnaryRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        return ttnn.unary_chain(tensors[0], **self.to_ttnn(request, board))
