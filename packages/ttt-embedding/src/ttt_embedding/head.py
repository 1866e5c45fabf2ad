"""Hidden states to logits."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_core import Tensor
from ttt_embedding.spec import HeadSpec
from ttt_hw import Array, DType, PlannedMatmul, board_of
from ttt_shard_dsl import memory_config
from ttt_weights import LazyWeight, Source, as_source


class LMHead:
    """logits = x · weightᵀ.

    Shapes: x [1, 1, rows, hidden_dim] → [1, 1, rows, vocab_size], in DRAM; weight [vocab_size, hidden_dim], stored transposed.
    Errors: WeightError if the weight's shape is another; PlacementError if no config fits the device.
    """

    def __init__(self, spec: HeadSpec, weight: Source | Array, *, device: Any, dtype: DType = "bfloat8_b") -> None:
        self.spec = spec
        board = board_of(device)
        shape = (1, 1, spec.hidden_dim, spec.vocab_size)
        self.weight = LazyWeight(
            [as_source(weight, shape=(spec.vocab_size, spec.hidden_dim), name="the head's weight")],
            lambda w: w.T.reshape(shape),
            shape=shape,
            dtype=dtype,
            device=device,
            placement="1 1 d v in dram",
        )
        self._matmul = PlannedMatmul(
            name="lm_head", k=spec.hidden_dim, n=spec.vocab_size, weight_dtype=dtype, chip=board.chip
        )
        self._memory = memory_config("1 1 s v in dram", shape=(1, 1, 32, spec.vocab_size), device=board)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        logits: Tensor = ttnn.linear(
            x,
            self.weight.tensor,
            program_config=self._matmul.for_rows(x.shape[-2]),
            compute_kernel_config=self._matmul.kernel,
            memory_config=self._memory,
        )
        return logits
