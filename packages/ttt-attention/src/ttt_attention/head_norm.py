"""Normalisation of query and key heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ttnn

from ttt_attention.heads import pad_halves, padded_head_dim
from ttt_attention.spec import HeadNormSpec
from ttt_core import Tensor
from ttt_hw import Array, ComputeKernel
from ttt_weights import LazyWeight, Source, as_source

Normalise = Callable[[Tensor], Tensor]


class HeadNorm:
    """y = x / sqrt(mean(x²) + eps) · weight over the head dim, for heads padded with zeros.

    The kernel's mean is over the padded head dim P instead of hd, so eps and weight are scaled to make up for it:
    x / sqrt(Σx²/P + eps·hd/P) · weight·sqrt(hd/P) is the same number.
    Shapes: x [.., padded head dim] → the same; weight [head_dim].
    Source: arXiv 2302.05442 section 3 (query-key normalisation); Qwen3RMSNorm of transformers.
    """

    def __init__(self, spec: HeadNormSpec, weight: Source | Array, *, head_dim: int, name: str, device: Any) -> None:
        width = padded_head_dim(head_dim)
        filled = head_dim / width
        self._eps = spec.eps * filled
        self.weight = LazyWeight(
            [as_source(weight, shape=(head_dim,), name=name)],
            lambda w: (pad_halves(w) * np.float32(filled**0.5)).reshape(1, 1, 1, width),
            shape=(1, 1, 1, width),
            dtype="bfloat16",
            device=device,
            placement="1 1 1 d in dram",
        )
        self._kernel = ComputeKernel(fidelity="hifi4").to_ttnn()

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = ttnn.rms_norm(x, epsilon=self._eps, weight=self.weight.tensor, compute_kernel_config=self._kernel)
        return y

    def decode_forward(self, x: Tensor, /) -> Tensor:
        """x height-sharded, one user a core: the kernel wants it interleaved, so it goes out and back."""
        y = ttnn.rms_norm(
            ttnn.to_memory_config(x, ttnn.L1_MEMORY_CONFIG),
            epsilon=self._eps,
            weight=self.weight.tensor,
            compute_kernel_config=self._kernel,
        )
        sharded: Tensor = ttnn.to_memory_config(y, x.memory_config())
        return sharded


class NoHeadNorm:
    """Leaves heads as they are."""

    weights: tuple[LazyWeight, ...] = ()

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return x

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return x
