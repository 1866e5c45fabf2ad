"""What changes no value: rows of a table, slices, joins, transposes, casts; and sums and gathers over chips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ttt_core import ShapeError
from ttt_hw.requests.base import OpRequest, TensorType
from ttt_hw.transfer import DType

__all__ = ["CollectiveRequest", "ConcatRequest", "EmbeddingRequest", "MoveRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRequest(OpRequest):
    """Rows of a table [count, dim], row-major bf16, by indices [1, rows] → [1, 1, rows, dim] in tiles; inputs indices, table."""

    inputs: tuple[str, ...] = ("ids", "table")
    rows: int
    dim: int
    count: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (
            TensorType(shape=(1, self.rows), dtype="uint32", tiled=False),
            TensorType(shape=(self.count, self.dim), tiled=False),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveRequest(OpRequest):
    """The same values in another shape, order or dtype.

    transpose: dims `dims` exchanged; slice: rows `rows` (start, stop) of dim 2, columns from `first_column` up to `columns`;
    typecast: to `dtype`; reshape: to `shape` (no data moves if the last two dims stay).
    """

    op: Literal["transpose", "slice", "typecast", "reshape"]
    source: TensorType
    dims: tuple[int, int] = (1, 2)
    rows: tuple[int, int] | None = None
    columns: int | None = None
    first_column: int = 0
    dtype: DType | None = None
    shape: tuple[int, ...] | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (self.source,)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.source.shape)
        if self.op == "transpose":
            first, second = self.dims
            shape[first], shape[second] = shape[second], shape[first]
        elif self.op == "slice":
            shape[-2] = self.rows[1] - self.rows[0] if self.rows else shape[-2]
            shape[-1] = (self.columns or shape[-1]) - self.first_column
        elif self.op == "reshape" and self.shape is not None:
            shape = list(self.shape)
        return {self.name: replace(self.source, shape=tuple(shape), dtype=self.dtype or self.source.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcatRequest(OpRequest):
    """Tensors joined along `dim`, in which alone their `shapes` differ; as many inputs as shapes."""

    shapes: tuple[tuple[int, ...], ...]
    dim: int
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return tuple(TensorType(shape=shape, dtype=self.dtype) for shape in self.shapes)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.shapes[0])
        shape[self.dim] = sum(part[self.dim] for part in self.shapes)
        return {self.name: TensorType(shape=tuple(shape), dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectiveRequest(OpRequest):
    """What the chips along a mesh axis do together with x: sum it, sum and split it along `dim`, or join it along `dim`."""

    kind: Literal["all_reduce", "reduce_scatter", "all_gather"]
    shape: tuple[int, int, int, int]
    """Of x on each chip, before."""
    chips: int
    axis: int = 1
    dim: int = 3
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.shape)
        if self.kind == "all_gather":
            shape[self.dim] *= self.chips
        elif self.kind == "reduce_scatter":
            if shape[self.dim] % self.chips:
                raise ShapeError(f"{self.name}: {self.chips} chips do not divide dim {self.dim} of {self.shape}.")
            shape[self.dim] //= self.chips
        return {self.name: TensorType(shape=tuple(shape), dtype=self.dtype)}
