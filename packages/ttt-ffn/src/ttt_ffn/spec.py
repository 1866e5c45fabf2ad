"""What a feed-forward block computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ttt_core import SpecError


class ActivationType(str, Enum):
    """An activation by the name that transformers gives it."""

    SILU = "silu"


@dataclass(frozen=True, kw_only=True, slots=True)
class FFNSpec:
    """A gated feed-forward block: hidden_dim → intermediate_dim → hidden_dim."""

    hidden_dim: int
    intermediate_dim: int
    activation: ActivationType = ActivationType.SILU

    def __post_init__(self) -> None:
        if self.hidden_dim < 1 or self.intermediate_dim < 1:
            raise SpecError(
                f"FFNSpec(hidden_dim={self.hidden_dim}, intermediate_dim={self.intermediate_dim}): both must be at least 1."
            )
