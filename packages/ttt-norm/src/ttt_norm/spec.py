"""What a normalisation computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ttt_core import SpecError, TrackedSpec

__all__ = ["NormSpec", "NormType"]


class NormType(str, Enum):
    """What a row is divided by; with or without its mean taken off first."""

    RMS = "rms"
    LAYER = "layer"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormSpec(TrackedSpec):
    """A normalisation over the last `dim` elements.

    `rms` divides by the root of the mean square, `layer` subtracts the mean before; the result is multiplied by offset + weight
    and `bias` is added. `weight` False: by nothing.
    Errors: SpecError for a dim below 1, an eps that is not positive, an offset other than 0 and 1, or one without a weight.
    """

    dim: int
    eps: float = 1e-5
    kind: NormType = NormType.RMS
    offset: Literal[0, 1] = 0
    weight: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        if self.dim < 1 or not self.eps > 0:
            raise SpecError(f"NormSpec(dim={self.dim}, eps={self.eps}): dim must be at least 1 and eps above 0.")
        if self.offset not in (0, 1) or (self.offset and not self.weight):
            raise SpecError(
                f"NormSpec(offset={self.offset}, weight={self.weight}): offset must be 0 or 1, and 1 needs a weight to add to."
            )

    @property
    def num_parameters(self) -> int:
        return self.dim * (self.weight + self.bias)
