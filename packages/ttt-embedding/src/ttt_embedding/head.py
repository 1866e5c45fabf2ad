"""Hidden states to logits."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_core import SpecError, Tensor
from ttt_embedding.spec import HeadSpec
from ttt_hw import Array, DType, PlannedMatmul, board_of, plan_reshard
from ttt_shard_dsl import TILE, memory_config
from ttt_weights import LazyWeight, Source, as_source


class LMHead:
    """logits = x · weightᵀ; the vocabulary is split over the columns of a mesh and joined again.

    Shapes: x [1, 1, rows, hidden_dim] → [1, 1, rows, vocab_size], in DRAM; weight [vocab_size, hidden_dim], stored transposed.
    Errors: SpecError for a bias or a soft-cap;
    WeightError if the weight's shape is another; PlacementError if no config fits the device.
    """

    def __init__(self, spec: HeadSpec, weight: Source | Array, *, device: Any, dtype: DType = "bfloat8_b") -> None:
        if spec.bias or spec.soft_cap is not None:
            raise SpecError(
                f"LMHead is a matmul and no more, the spec says {spec}. Use a block that computes the rest."
            )
        self.spec = spec
        board = board_of(device)
        chips = board.mesh[1]
        shape = (1, 1, spec.hidden_dim, spec.vocab_size)
        self.weight = LazyWeight(
            [as_source(weight, shape=(spec.vocab_size, spec.hidden_dim), name="the head's weight")],
            lambda w: w.T.reshape(shape),
            shape=shape,
            dtype=dtype,
            device=device,
            placement=f"1 1 d v|{TILE * chips}@cols in dram",
        )
        self._matmul = PlannedMatmul(
            name="lm_head",
            k=spec.hidden_dim,
            n=self.weight.placement.chip_shape[-1],
            weight_dtype=dtype,
            chip=board.chip,
        )
        self._memory = memory_config("1 1 s v in dram", shape=(1, 1, TILE, spec.vocab_size), device=board)
        padded = chips * self.weight.placement.chip_shape[-1]
        self._join = plan_reshard("1 1 s v@cols -> 1 1 s v", board, shape=(1, 1, TILE, padded))
        self._crop = _same if spec.vocab_size % (TILE * chips) == 0 else self._to_vocabulary

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        logits = ttnn.linear(
            x,
            self.weight.tensor,
            program_config=self._matmul.for_rows(x.shape[-2]),
            compute_kernel_config=self._matmul.kernel,
            memory_config=self._memory,
        )
        return self._crop(self._join(logits))

    def _to_vocabulary(self, logits: Tensor) -> Tensor:
        """Without the columns that pad the vocabulary to whole tiles on every chip."""
        cropped: Tensor = ttnn.slice(logits, [0, 0, 0, 0], [1, 1, logits.shape[-2], self.spec.vocab_size])
        return cropped


def _same(logits: Tensor) -> Tensor:
    return logits
