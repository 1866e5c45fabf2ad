"""What a feed-forward block computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ttt_core import SpecError, TrackedSpec

__all__ = ["ActivationType", "FFNSpec", "MoESpec"]


class ActivationType(str, Enum):
    """`gelu` is exact, by the error function; `gelu_tanh` approximates it (gelu_pytorch_tanh, gelu_new of transformers)."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"


@dataclass(frozen=True, kw_only=True, slots=True)
class FFNSpec(TrackedSpec):
    """A feed-forward block: hidden_dim → intermediate_dim → hidden_dim.

    `gated`: down(activation(gate(x)) ⊙ up(x)), else down(activation(up(x))); `bias`: each of these has one.
    """

    hidden_dim: int
    intermediate_dim: int
    activation: ActivationType = ActivationType.SILU
    gated: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        if self.hidden_dim < 1 or self.intermediate_dim < 1:
            raise SpecError(
                f"FFNSpec(hidden_dim={self.hidden_dim}, intermediate_dim={self.intermediate_dim}): both must be at least 1."
            )

    @property
    def num_parameters(self) -> int:
        wide = 2 if self.gated else 1
        weights = (wide + 1) * self.hidden_dim * self.intermediate_dim
        return weights + (wide * self.intermediate_dim + self.hidden_dim) * self.bias


@dataclass(frozen=True, kw_only=True, slots=True)
class MoESpec(TrackedSpec):
    """A mixture of `experts` feed-forward blocks of which each token's `active` best are computed and weighted.

    Weights are the softmax of the router's scores, `renormalise`: over the active experts only, so that they sum to 1.
    Errors: SpecError for more active experts than there are, or none.
    Source: arXiv 2401.04088 section 2.1.
    """

    experts: int
    active: int
    ffn: FFNSpec
    renormalise: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.experts:
            raise SpecError(
                f"MoESpec(experts={self.experts}, active={self.active}): 1 to {self.experts} experts can be active."
            )

    @property
    def hidden_dim(self) -> int:
        return self.ffn.hidden_dim

    @property
    def num_parameters(self) -> int:
        """Of all experts and the router."""
        return self.experts * (self.ffn.num_parameters + self.hidden_dim)
