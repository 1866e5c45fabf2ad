"""Products with weights, and of activations."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_hw.compute import ComputeKernel
from ttt_hw.requests.base import Activation, OpRequest, TensorType
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE

__all__ = ["BatchedMatmulRequest", "LMHeadRequest", "MatmulRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MatmulRequest(OpRequest):
    """activation(x [1, 1, m, k] @ w [1, 1, k, n] + b [1, 1, 1, n]); inputs x, w and, with `bias_dtype`, b.

    `kernel` is how precisely the engine computes: a demand of the block, never a choice of the planner.
    """

    inputs: tuple[str, ...] = ("x", "weight")
    m: int
    k: int
    n: int
    weight_dtype: DType = "bfloat16"
    input_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    bias_dtype: DType | None = None
    activation: Activation | None = None
    kernel: ComputeKernel | None = None
    """None: the cheapest that keeps all mantissa bits of the weight."""

    @property
    def tiles(self) -> tuple[int, int, int]:
        return -(-self.m // TILE), -(-self.k // TILE), -(-self.n // TILE)

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, 1, self.m, self.k), dtype=self.input_dtype)
        w = TensorType(shape=(1, 1, self.k, self.n), dtype=self.weight_dtype)
        if self.bias_dtype is None:
            return x, w
        return x, w, TensorType(shape=(1, 1, 1, self.n), dtype=self.bias_dtype)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.m, self.n), dtype=self.output_dtype)}

    def __str__(self) -> str:
        return f"{self.name} [{self.m}, {self.k}] @ [{self.k}, {self.n}] {self.weight_dtype}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LMHeadRequest(MatmulRequest):
    """A matmul whose columns are the vocabulary: so many that they may be computed in pieces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchedMatmulRequest(OpRequest):
    """a [batch, heads, m, k] @ b [batch, heads, k, n], or @ bᵀ with b [batch, heads, n, k]; both are activations or caches."""

    batch: int
    heads: int
    m: int
    k: int
    n: int
    transpose_b: bool = False
    a_dtype: DType = "bfloat16"
    b_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi4")

    @property
    def operands(self) -> tuple[TensorType, ...]:
        lead = (self.batch, self.heads)
        b = (self.n, self.k) if self.transpose_b else (self.k, self.n)
        return (
            TensorType(shape=(*lead, self.m, self.k), dtype=self.a_dtype),
            TensorType(shape=(*lead, *b), dtype=self.b_dtype),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {
            self.name: TensorType(shape=(self.batch, self.heads, self.m, self.n), dtype=self.output_dtype),
        }
