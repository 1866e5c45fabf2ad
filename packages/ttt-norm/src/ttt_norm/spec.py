"""What a normalisation computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ttt_core import SpecError


class NormType(str, Enum):
    RMS = "rms"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormSpec:
    """A normalisation over the last `dim` elements.

    Errors: SpecError for a dim below 1 or an eps that is not positive.
    """

    dim: int
    eps: float = 1e-5
    kind: NormType = NormType.RMS

    def __post_init__(self) -> None:
        if self.dim < 1 or not self.eps > 0:
            raise SpecError(f"NormSpec(dim={self.dim}, eps={self.eps}): dim must be at least 1 and eps above 0.")
