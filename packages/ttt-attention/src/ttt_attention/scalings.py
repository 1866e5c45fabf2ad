"""Ways to stretch the rotary embedding's frequencies beyond the context that a model was trained with.

Letters: f_i = theta^(−2i/d) the plain frequency of pair i of d rotated elements.
Source: modeling_rope_utils of transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from ttt_core import SpecError

__all__ = [
    "DynamicScaling",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "ProportionalScaling",
    "RopeScaling",
    "YarnScaling",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """f_i / factor: positions are interpolated [arXiv 2306.15595]."""

    factor: float

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise SpecError(f"{self}: factor must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DynamicScaling:
    """theta · (factor · n / original − (factor − 1))^(d / (d − 2)) for a sequence of n > original tokens: "dynamic NTK".

    A token at position p turns as the last one of a sequence of p + 1, which is what step by step decoding sees.
    """

    factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and self.original_context >= 1):
            raise SpecError(f"{self}: factor and original_context must be at least 1.")


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
class YarnScaling:
    """Pairs that turn more than `beta_fast` times over the original context keep f_i, those that turn less than `beta_slow`
    times have f_i / factor, a ramp between; `truncate` widens the ramp to whole pairs [arXiv 2309.00071 section 3.2].

    Cosines and sines are multiplied by `attention_factor`; None: m(factor, 1), or with `mscale` and `mscale_all_dim`
    m(factor, mscale) / m(factor, mscale_all_dim), where m(s, a) = 0.1 · a · ln(s) + 1.
    """

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.original_context >= 1 and 0 < self.beta_slow < self.beta_fast):
            raise SpecError(
                f"{self}: factor must be above 0, original_context at least 1, beta_slow above 0 and below beta_fast."
            )

    @property
    def table_factor(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _magnitude(self.factor, self.mscale) / _magnitude(self.factor, self.mscale_all_dim)
        return _magnitude(self.factor, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class LongRopeScaling:
    """Divide frequency i by short_factors[i] up to `original_context` positions, by long_factors[i] beyond; cosines and sines
    are multiplied by `attention_factor` [arXiv 2402.13753; transformers' modeling_rope_utils].

    All tokens of a prompt longer than that have the long factors, and so has a token decoded beyond it.
    """

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
class ProportionalScaling:
    """Of the whole head's pairs the first `share` turn by f_i / factor, where d is the whole head; the others do not turn."""

    share: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.factor > 0):
            raise SpecError(f"{self}: share must be above 0 and at most 1, factor above 0.")


RopeScaling: TypeAlias = (
    LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling | LongRopeScaling | ProportionalScaling
)
"""Any of them."""


def _magnitude(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
