"""What stands where an optional part is left out, and factors that go into weights."""

from __future__ import annotations

import numpy as np

from ttt_core import Tensor
from ttt_weights import Float32


class Unchanged:
    """Keeps ttt_core.Norm and FeedForward."""

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return x

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return x


def times(values: Float32, factor: float) -> Float32:
    """Their product; the same array where the factor is 1."""
    return values if factor == 1.0 else values * np.float32(factor)
