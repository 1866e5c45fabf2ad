"""What a mixture of experts asks for: routing weights, and products of the experts that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_hw.compute import ComputeKernel
from ttt_hw.requests.base import OpRequest, TensorType
from ttt_hw.transfer import DType

__all__ = ["ExpertMatmulRequest", "RouterRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertMatmulRequest(OpRequest):
    """x [1, 1 or experts, m, k] @ each expert's w [1, experts, k, n] → [1, experts, m, n]; inputs x, w and the routing weights
    [1, 1, m, experts] by which an expert that no row chose is left out. `active`: experts that a row chooses."""

    experts: int
    active: int
    shared_input: bool
    m: int
    k: int
    n: int
    weight_dtype: DType = "bfloat8_b"
    input_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    kernel: ComputeKernel | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (
            TensorType(shape=(1, 1 if self.shared_input else self.experts, self.m, self.k), dtype=self.input_dtype),
            TensorType(shape=(1, self.experts, self.k, self.n), dtype=self.weight_dtype),
            TensorType(shape=(1, 1, self.m, self.experts)),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.experts, self.m, self.n), dtype=self.output_dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterRequest(OpRequest):
    """Logits [1, 1, rows, experts] → routing weights [1, 1, rows, experts], 0 but for the `active` best experts of a row.

    Inputs logits, with `selection_bias` a bias [1, 1, 1, experts], with `groups` > 1 a table [1, 1, groups, experts] that is 1
    where the expert is of the group. With `logit_cap` c logits are c · tanh(logit / c) first. Scores are the softmax or the
    sigmoid of the logits. The best are those with the largest score + bias, of the `active_groups` groups with the largest
    maximum, or sum of their two largest. Their weights are their scores, with `renormalise` over their sum, times `scale`.
    A sparsemixer takes the best one by one: the weight of each is its softmax among those that are left and whose logit is not
    below its own by more than 2 · `jitter` · max(|logit|, its own).
    """

    rows: int
    experts: int
    active: int
    score: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    renormalise: bool = True
    selection_bias: bool = False
    groups: int = 1
    active_groups: int = 1
    group_score: Literal["max", "top2"] = "max"
    scale: float = 1.0
    logit_cap: float | None = None
    jitter: float = 0.01

    @property
    def operands(self) -> tuple[TensorType, ...]:
        logits = TensorType(shape=(1, 1, self.rows, self.experts))
        bias = (TensorType(shape=(1, 1, 1, self.experts)),) * self.selection_bias
        table = (TensorType(shape=(1, 1, self.groups, self.experts)),) * (self.groups > 1)
        return (logits, *bias, *table)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.experts))}
