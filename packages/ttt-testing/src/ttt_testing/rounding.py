"""What storing a value in a ttnn dtype does to it."""

from __future__ import annotations

from typing import Any

import torch
import ttnn

__all__ = ["round_to"]


def round_to(value: torch.Tensor, dtype: Any) -> torch.Tensor:
    """`value` after a round trip through `dtype`, as float32 (integers are returned as they are).

    bfloat16 rounds to nearest even. bfloat8_b and bfloat4_b share one exponent among 16 values of a row and are packed by
    ttnn itself, so the result is bit for bit what the device would hold.
    """
    if not value.is_floating_point() or dtype == ttnn.float32:
        return value
    if dtype == ttnn.bfloat16:
        return value.to(torch.bfloat16).to(torch.float32)
    packed = ttnn.Tensor(tensor=value.contiguous(), data_type=dtype, layout=ttnn.TILE_LAYOUT)
    rounded: torch.Tensor = packed.to_torch()
    return rounded.to(torch.float32)
