"""What attention and its position encoding compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_core import SpecError, TrackedSpec

__all__ = ["AttentionSpec", "HeadNormSpec", "Llama3Scaling", "LongRopeScaling", "RopeSpec"]


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
class LongRopeScaling:
    """Divide frequency i by short_factors[i] up to `original_context` positions, by long_factors[i] beyond; cosines and sines
    are multiplied by `attention_factor` [arXiv 2402.13753; transformers' modeling_rope_utils]."""

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_context: int
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if len(self.short_factors) != len(self.long_factors) or not self.short_factors:
            raise SpecError(
                f"LongRopeScaling with {len(self.short_factors)} short and {len(self.long_factors)} long factors: one of each "
                "is wanted for every pair of rotated elements."
            )
        if not (
            all(factor > 0 for factor in (*self.short_factors, *self.long_factors, self.attention_factor))
            and self.original_context >= 1
        ):
            raise SpecError("LongRopeScaling: all factors must be above 0, original_context at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec:
    """Rotary position embedding: of `dim` elements, pair i turns by position · theta^(−2i/dim). [arXiv 2104.09864]

    `half` pairs element i with i + dim/2 (transformers), `interleaved` 2i with 2i + 1; `scaling` None is the plain formula;
    `dim` None is the whole head, else only the first `dim` elements of it turn.
    """

    theta: float = 10_000.0
    scaling: Llama3Scaling | LongRopeScaling | None = None
    style: Literal["half", "interleaved"] = "half"
    dim: int | None = None

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise SpecError(f"RopeSpec(theta={self.theta}): theta must be above 0.")
        if self.style not in ("half", "interleaved"):
            raise SpecError(f"RopeSpec(style={self.style!r}): it must be half or interleaved.")
        if self.dim is not None and (self.dim < 2 or self.dim % 2):
            raise SpecError(f"RopeSpec(dim={self.dim}): pairs turn, so it must be even and at least 2.")

    def rotated(self, head_dim: int) -> int:
        """How many elements of a head turn."""
        return head_dim if self.dim is None else self.dim


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadNormSpec:
    """Root-mean-square normalisation of each query and key head before its rotation."""

    eps: float

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise SpecError(f"HeadNormSpec(eps={self.eps}): eps must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionSpec(TrackedSpec):
    """Causal self-attention whose `num_heads` query heads share `num_kv_heads` keys and values.

    `max_context` bounds positions; `rope` None leaves queries and keys unturned; `window` is how many tokens a query sees,
    itself included (None: all before it); `qkv_bias` and `output_bias` add biases; `head_norm` normalises query and key heads.
    Scores are multiplied by `score_scale` (None: 1 / sqrt(head_dim)); with `soft_cap` c they become c · tanh(score / c).
    Errors: SpecError for heads that do not divide, an odd head_dim, a rotation larger than a head, a size below 1.
    """

    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    rope: RopeSpec | None
    window: int | None = None
    qkv_bias: bool = False
    head_norm: HeadNormSpec | None = None
    output_bias: bool = False
    score_scale: float | None = None
    soft_cap: float | None = None

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
        for name in ("score_scale", "soft_cap"):
            if (factor := getattr(self, name)) is not None and not factor > 0:
                raise SpecError(f"AttentionSpec({name}={factor}): it must be above 0.")
        if self.rope is not None:
            self._check_rotation(self.rope)

    def _check_rotation(self, rope: RopeSpec) -> None:
        rotated = rope.rotated(self.head_dim)
        if rotated > self.head_dim:
            raise SpecError(
                f"AttentionSpec(head_dim={self.head_dim}): the rotation turns {rotated} elements, a head has fewer."
            )
        if isinstance(rope.scaling, LongRopeScaling) and len(rope.scaling.short_factors) != rotated // 2:
            raise SpecError(
                f"AttentionSpec(head_dim={self.head_dim}): the longrope scaling has {len(rope.scaling.short_factors)} factors "
                f"for {rotated // 2} pairs of rotated elements."
            )

    @property
    def scale(self) -> float:
        """Factor on the scores: `score_scale`, or 1 / sqrt(head_dim)."""
        return float(self.head_dim**-0.5) if self.score_scale is None else self.score_scale

    @property
    def num_parameters(self) -> int:
        """Weights, biases and head norms."""
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        weights = self.hidden_dim * (2 * q + 2 * kv)
        biases = (q + 2 * kv) * self.qkv_bias + self.hidden_dim * self.output_bias
        return weights + biases + 2 * self.head_dim * (self.head_norm is not None)
