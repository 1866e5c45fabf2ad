"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_core import SpecError, Tensor
from ttt_hw import Array, ComputeKernel, board_of
from ttt_norm.spec import NormSpec, NormType
from ttt_shard_dsl import memory_config
from ttt_weights import LazyWeight, Source, as_source


class RMSNorm:
    """y = x / sqrt(mean(x²) + eps) · weight, over the last dim.

    Shapes: x [1, 1, rows, dim] → the same; weight [dim].
    Prefill keeps activations in DRAM, decode in L1.
    Errors: SpecError for a bias, an offset or another kind, WeightError if the weight's shape is not [dim].
    Source: arXiv 1910.07467 eq 4; LlamaRMSNorm of transformers.
    """

    def __init__(self, spec: NormSpec, weight: Source | Array, *, device: Any) -> None:
        if spec.kind is not NormType.RMS or spec.offset or not spec.weight or spec.bias:
            raise SpecError(
                f"RMSNorm multiplies by its weight and adds nothing, the spec says {spec}. Use a block that computes it."
            )
        self.spec = spec
        board = board_of(device)
        shape = (1, 1, 1, spec.dim)
        self.weight = LazyWeight(
            [as_source(weight, shape=(spec.dim,), name="the norm's weight")],
            lambda w: w.reshape(shape),
            shape=shape,
            dtype="bfloat16",
            device=device,
            placement="1 1 1 d in dram",
        )
        self._kernel = ComputeKernel(fidelity="hifi4").to_ttnn()
        self._prefill_memory = memory_config("1 1 s d in dram", shape=(1, 1, 32, spec.dim), device=board)
        self._decode_memory = memory_config("1 1 b d in l1", shape=(1, 1, 32, spec.dim), device=board)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = ttnn.rms_norm(
            x,
            epsilon=self.spec.eps,
            weight=self.weight.tensor,
            memory_config=self._prefill_memory,
            compute_kernel_config=self._kernel,
        )
        return y

    def decode_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = ttnn.rms_norm(
            x,
            epsilon=self.spec.eps,
            weight=self.weight.tensor,
            memory_config=self._decode_memory,
            compute_kernel_config=self._kernel,
        )
        return y
