"""How precisely the engines compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ComputeKernel", "Fidelity"]

Fidelity = Literal["lofi", "hifi2", "hifi4"]
"""How many passes of the multiplier a product takes: 1, 2, 4; more read more bits of the mantissas."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeKernel:
    """Passes over the mantissas (lofi 1, hifi2 2, hifi4 4) and the width of the accumulator.

    LoFi serves bfp4 weights, HiFi2 bfp8, HiFi4 bf16: fewer passes drop the low mantissa bits of the operands.
    """

    fidelity: Fidelity = "hifi2"
    fp32_accumulate: bool = True
    packer_l1_accumulate: bool = True
    approximate_math: bool = False

    @property
    def dst_tiles(self) -> int:
        """Tiles that the destination registers hold: 8 of 16-bit values, 4 of 32-bit ones."""
        return 4 if self.fp32_accumulate else 8

    def to_ttnn(self) -> Any:
        import ttnn

        fidelity = {"lofi": ttnn.MathFidelity.LoFi, "hifi2": ttnn.MathFidelity.HiFi2, "hifi4": ttnn.MathFidelity.HiFi4}
        return ttnn.WormholeComputeKernelConfig(  # also what ttnn takes on Blackhole
            math_fidelity=fidelity[self.fidelity],
            math_approx_mode=self.approximate_math,
            fp32_dest_acc_en=self.fp32_accumulate,
            packer_l1_acc=self.packer_l1_accumulate,
        )


def matmul_kernel(weight_dtype: str) -> ComputeKernel:
    """The cheapest kernel that keeps all mantissa bits of the weight's dtype."""
    fidelities: dict[str, Fidelity] = {"bfloat4_b": "lofi", "bfloat8_b": "hifi2"}
    return ComputeKernel(fidelity=fidelities.get(weight_dtype, "hifi4"))
