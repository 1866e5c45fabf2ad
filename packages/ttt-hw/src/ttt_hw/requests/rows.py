"""Norms, softmax and sums: what needs a whole dim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_hw.requests.base import OpRequest, TensorType
from ttt_hw.transfer import DType

__all__ = ["NormRequest", "ReduceRequest", "SoftmaxRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NormRequest(OpRequest):
    """Normalisation of x [batch, heads, rows, dim] over dim; inputs x, then weight and bias [1, 1, 1, dim] as asked for.

    `chips` > 1: dim is this chip's part, and the statistics are gathered over that many, along an axis of the mesh.
    """

    inputs: tuple[str, ...] = ("x", "weight")
    kind: Literal["rms", "layer"] = "rms"
    shape: tuple[int, int, int, int]
    epsilon: float = 1e-5
    weight: bool = True
    bias: bool = False
    dtype: DType = "bfloat16"
    chips: int = 1
    axis: int = 1

    @property
    def operands(self) -> tuple[TensorType, ...]:
        vector = TensorType(shape=(1, 1, 1, self.shape[-1]))
        return (TensorType(shape=self.shape, dtype=self.dtype), *[vector] * (self.weight + self.bias))

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftmaxRequest(OpRequest):
    """softmax(scale · x + mask) over the last dim of x [batch, heads, rows, columns]; inputs x and, with `masked`, the mask
    [batch, 1, rows, columns]."""

    shape: tuple[int, int, int, int]
    scale: float = 1.0
    masked: bool = True
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=self.shape, dtype=self.dtype)
        mask = TensorType(shape=(self.shape[0], 1, *self.shape[2:]))
        return (x, mask) if self.masked else (x,)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReduceRequest(OpRequest):
    """The sum of x along `dim`, which stays as a dim of 1."""

    shape: tuple[int, int, int, int]
    dim: int
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = tuple(1 if index == self.dim else size for index, size in enumerate(self.shape))
        return {self.name: TensorType(shape=shape, dtype=self.dtype)}
