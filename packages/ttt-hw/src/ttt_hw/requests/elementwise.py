"""Element by element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_hw.requests.base import Activation, OpRequest, TensorType
from ttt_hw.transfer import DType

__all__ = ["BinaryRequest", "BroadcastRequest", "UnaryRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryRequest(OpRequest):
    """activation(a) op b, element by element, of equal shapes: a residual sum, a gate.

    With `limit` a is at most that, and b between −limit and limit, before anything else; with `steepness` s the activation is
    activation(s · a) / s; `b_offset` is added to b, which is then multiplied by `b_scale`.
    """

    op: Literal["add", "mul", "sub"]
    shape: tuple[int, int, int, int]
    activation: Activation | None = None
    """Of a."""
    limit: float | None = None
    steepness: float = 1.0
    b_offset: float = 0.0
    b_scale: float = 1.0
    a_dtype: DType = "bfloat16"
    b_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return TensorType(shape=self.shape, dtype=self.a_dtype), TensorType(shape=self.shape, dtype=self.b_dtype)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.output_dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnaryRequest(OpRequest):
    """activation(x · scale), element by element; without activation the product. `limit`: x between −limit and limit first."""

    shape: tuple[int, ...]
    activation: Activation | None = None
    scale: float = 1.0
    limit: float | None = None
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastRequest(OpRequest):
    """a op b, where each dim of b is a's or 1: b is repeated along it."""

    op: Literal["add", "mul"]
    shape: tuple[int, int, int, int]
    b_shape: tuple[int, int, int, int]
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return TensorType(shape=self.shape, dtype=self.dtype), TensorType(shape=self.b_shape)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}
