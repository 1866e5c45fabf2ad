"""What attention and its position encoding compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_core import SpecError


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Stretch low frequencies by `factor`, keep high ones, blend between [Llama 3.1; transformers' modeling_rope_utils]."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and 0 < self.low_freq_factor < self.high_freq_factor and self.original_context >= 1):
            raise SpecError(
                f"{self}: factor must be at least 1, low_freq_factor above 0 and below high_freq_factor, "
                "original_context at least 1."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec:
    """Rotary position embedding over the whole head: pair i turns by position · theta^(−2i/head_dim).

    `half` pairs element i with i + head_dim/2 (transformers); `scaling` None is the plain formula. [arXiv 2104.09864]
    """

    theta: float = 10_000.0
    scaling: Llama3Scaling | None = None
    style: Literal["half"] = "half"

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise SpecError(f"RopeSpec(theta={self.theta}): theta must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadNormSpec:
    """Root-mean-square normalisation of each query and key head before its rotation."""

    eps: float

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise SpecError(f"HeadNormSpec(eps={self.eps}): eps must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionSpec:
    """Causal self-attention whose `num_heads` query heads share `num_kv_heads` keys and values.

    `max_context` bounds positions; `window` is how many tokens a query sees, itself included (None: all before it);
    `qkv_bias` adds a bias to queries, keys and values; `head_norm` normalises query and key heads.
    Errors: SpecError for heads that do not divide, an odd head_dim, a size below 1.
    """

    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    rope: RopeSpec
    window: int | None = None
    qkv_bias: bool = False
    head_norm: HeadNormSpec | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "num_heads", "num_kv_heads", "head_dim", "max_context", "window"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SpecError(f"AttentionSpec({name}={getattr(self, name)}): it must be at least 1.")
        if self.num_heads % self.num_kv_heads:
            raise SpecError(
                f"AttentionSpec(num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}): the query heads must be a "
                "multiple of the key-value heads."
            )
        if self.head_dim % 2:
            raise SpecError(
                f"AttentionSpec(head_dim={self.head_dim}): rotary embedding turns pairs, so it must be even."
            )

    @property
    def scale(self) -> float:
        """Factor on the scores: 1 / sqrt(head_dim)."""
        return float(self.head_dim**-0.5)
