"""What attention and its position encoding compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_attention.scalings import DynamicScaling, LongRopeScaling, ProportionalScaling, RopeScaling
from ttt_core import SpecError, TrackedSpec

__all__ = ["AttentionSpec", "CrossAttentionSpec", "GateSpec", "HeadNormSpec", "RopeSpec", "TemperatureSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeSpec:
    """Rotary position embedding: of `dim` elements, pair i turns by position · theta^(−2i/dim). [arXiv 2104.09864]

    `half` pairs element i with i + dim/2 (transformers), `interleaved` 2i with 2i + 1; `scaling` None is the plain formula;
    `dim` None is the whole head, else only the first `dim` elements of it turn.
    """

    theta: float = 10_000.0
    scaling: RopeScaling | None = None
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
    """Normalisation of query and key heads: x / sqrt(mean(x²) + eps) · w + b, of kind layer after subtracting the mean.

    `span` is what one mean is over: each head, or all heads of q (and of k) together. `weight` shared: one [head_dim] for all
    heads; own: [heads · head_dim], each element its own, as it always is with span all; none: no w. `after_rope` normalises
    the turned heads.
    Errors: SpecError for an eps that is not above 0, a bias without a shared weight, what is not linear before it (a layer
    norm after the rotation), a span all whose w is not its own.
    """

    eps: float
    kind: Literal["rms", "layer"] = "rms"
    span: Literal["head", "all"] = "head"
    weight: Literal["shared", "own", "none"] = "shared"
    bias: bool = False
    after_rope: bool = False

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise SpecError(f"HeadNormSpec(eps={self.eps}): eps must be above 0.")
        for name, allowed in (
            ("kind", ("rms", "layer")),
            ("span", ("head", "all")),
            ("weight", ("shared", "own", "none")),
        ):
            if getattr(self, name) not in allowed:
                raise SpecError(f"HeadNormSpec({name}={getattr(self, name)!r}): it must be {' or '.join(allowed)}.")
        if self.bias and self.weight == "none":
            raise SpecError(
                "HeadNormSpec(bias=True, weight='none'): there is a bias but no weight; give a weight of ones."
            )
        if self.bias and self.weight == "own" and self.span == "head":
            raise SpecError(
                "HeadNormSpec(bias=True, weight='own'): a bias for each head's own weight is not supported."
            )
        if self.span == "all" and (self.weight == "shared" or self.after_rope):
            raise SpecError(
                "HeadNormSpec(span='all'): all heads together have weight='own' or 'none', and come before the rotation."
            )
        if self.kind == "layer" and self.after_rope:
            raise SpecError(
                "HeadNormSpec(kind='layer', after_rope=True): the mean is subtracted before the rotation only."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TemperatureSpec:
    """Queries at position p are multiplied by 1 + scale · ln(1 + floor((p + offset) / period)) [arXiv 2501.19399; Llama 4]."""

    scale: float
    period: float
    offset: int = 0

    def __post_init__(self) -> None:
        if not self.period > 0:
            raise SpecError(f"{self}: period must be above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateSpec:
    """Heads are multiplied by activation(x · w), element by element or each by one number, before they are joined by the
    output weight [arXiv 2505.06708]."""

    per: Literal["element", "head"] = "element"
    activation: Literal["sigmoid", "softplus"] = "sigmoid"

    def __post_init__(self) -> None:
        if self.per not in ("element", "head") or self.activation not in ("sigmoid", "softplus"):
            raise SpecError(f"{self}: per must be element or head, activation sigmoid or softplus.")


BIASED = ("q", "k", "v")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionSpec(TrackedSpec):
    """Self-attention whose `num_heads` query heads share `num_kv_heads` keys and values.

    `max_context` bounds positions; `rope` None leaves queries and keys unturned. A query sees the tokens before it and itself
    (without `causal` all): of these the last `window`, or those of its own `chunk`; None leaves the limit out.
    `qkv_bias` (all of q, k, v, or those that are named, as in "qv") and `output_bias` add biases; `qkv_clip` bounds q, k and v
    before anything else; `head_norm` normalises query and key heads. Scores are multiplied by `score_scale` (None:
    1 / sqrt(head_dim)); with `soft_cap` c they become c · tanh(score / c); `alibi` adds slope(h) · (key's − query's position)
    [arXiv 2108.12409]; `sinks` gives each head a score that takes part in the softmax and has no value [arXiv 2309.17453].
    Errors: SpecError for heads that do not divide, an odd head_dim, a rotation larger than a head, a size below 1, options
    that exclude each other.
    """

    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    rope: RopeSpec | None
    window: int | None = None
    qkv_bias: bool | str = False
    head_norm: HeadNormSpec | None = None
    output_bias: bool = False
    score_scale: float | None = None
    soft_cap: float | None = None
    causal: bool = True
    chunk: int | None = None
    alibi: bool = False
    sinks: bool = False
    qkv_clip: float | None = None
    query_temperature: TemperatureSpec | None = None
    output_gate: GateSpec | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_dim", "num_heads", "num_kv_heads", "head_dim", "max_context", "window", "chunk"):
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
        for name in ("score_scale", "soft_cap", "qkv_clip"):
            if (factor := getattr(self, name)) is not None and not factor > 0:
                raise SpecError(f"AttentionSpec({name}={factor}): it must be above 0.")
        if self.rope is not None:
            self._check_rotation(self.rope)
        self._check_together()

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
        if isinstance(rope.scaling, DynamicScaling) and rotated <= 2:
            raise SpecError(
                f"AttentionSpec(head_dim={self.head_dim}): dynamic scaling needs more than one rotated pair."
            )
        if isinstance(rope.scaling, ProportionalScaling) and rope.dim is not None:
            raise SpecError(
                "AttentionSpec: proportional scaling says itself how much of a head turns; leave RopeSpec.dim out."
            )

    def _check_together(self) -> None:
        if isinstance(self.qkv_bias, str) and (not self.qkv_bias or set(self.qkv_bias) - set(BIASED)):
            raise SpecError(
                f"AttentionSpec(qkv_bias={self.qkv_bias!r}): it must be True, False, or some of q, k and v."
            )
        if self.window is not None and self.chunk is not None:
            raise SpecError(
                f"AttentionSpec(window={self.window}, chunk={self.chunk}): a layer has one of them, or neither."
            )
        if not self.causal and (self.window is not None or self.chunk is not None or self.stepwise):
            raise SpecError(
                "AttentionSpec(causal=False): an encoder's queries see every token, without window, chunk, soft_cap or alibi."
            )
        if self.sinks and self.stepwise:
            raise SpecError(
                "AttentionSpec(sinks=True): ttnn's fused attention has sinks, attention step by step (soft_cap, alibi, chunk) "
                "has none."
            )
        if self.alibi and self.soft_cap is not None:
            raise SpecError("AttentionSpec(alibi=True, soft_cap=…): no order of the two is defined; leave one out.")
        if self.head_norm is not None and self.head_norm.kind == "layer" and self.qkv_clip is not None:
            raise SpecError(
                "AttentionSpec(qkv_clip=…): the mean of a layer norm is subtracted by the weights, before a clip."
            )

    @property
    def scale(self) -> float:
        """Factor on the scores: `score_scale`, or 1 / sqrt(head_dim)."""
        return float(self.head_dim**-0.5) if self.score_scale is None else self.score_scale

    @property
    def stepwise(self) -> bool:
        """Whether scores, softmax and values are operations of their own: ttnn's fused one knows no soft-cap, ALiBi, chunks."""
        return self.soft_cap is not None or self.alibi or self.chunked

    @property
    def chunked(self) -> bool:
        """Whether a chunk is ever left; one as long as the context is plain causality."""
        return self.chunk is not None and self.chunk < self.max_context

    @property
    def turns(self) -> bool:
        """Whether queries are multiplied by something that depends on the position."""
        return self.rope is not None or self.query_temperature is not None

    @property
    def biased(self) -> tuple[str, ...]:
        """Which of q, k and v have a bias."""
        wanted = self.qkv_bias if isinstance(self.qkv_bias, str) else "qkv" * self.qkv_bias
        return tuple(name for name in BIASED if name in wanted)

    @property
    def num_parameters(self) -> int:
        """Weights, biases, gates, sinks and head norms."""
        heads = {"q": self.num_heads, "k": self.num_kv_heads, "v": self.num_kv_heads}
        q = self.num_heads * self.head_dim
        weights = self.hidden_dim * (q + sum(heads.values()) * self.head_dim)
        biases = sum(heads[name] for name in self.biased) * self.head_dim + self.hidden_dim * self.output_bias
        gate = 0
        if self.output_gate is not None:
            gate = self.hidden_dim * (q if self.output_gate.per == "element" else self.num_heads)
        norms = 0
        if (norm := self.head_norm) is not None:
            each = {"shared": 2, "own": self.num_heads + self.num_kv_heads, "none": 0}[norm.weight]
            norms = each * self.head_dim * (1 + norm.bias)
        return weights + biases + gate + norms + self.num_heads * self.sinks


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossAttentionSpec:
    """Attention of `num_heads` query heads to a memory of up to `max_memory` tokens, of `memory_dim` elements each (None: as
    many as the hidden dim); the other fields as in AttentionSpec.

    Errors: as AttentionSpec's.
    """

    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_memory: int
    memory_dim: int | None = None
    qkv_bias: bool | str = False
    output_bias: bool = False
    score_scale: float | None = None

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise SpecError(f"CrossAttentionSpec(memory_dim={self.memory_dim}): it must be at least 1.")
        _ = self.heads  # is in range

    @property
    def memory(self) -> int:
        """Elements of a token of the memory."""
        return self.hidden_dim if self.memory_dim is None else self.memory_dim

    @property
    def heads(self) -> AttentionSpec:
        """Its heads, as those of an attention that sees everything and turns nothing."""
        return AttentionSpec(
            hidden_dim=self.hidden_dim,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            max_context=self.max_memory,
            rope=None,
            causal=False,
            qkv_bias=self.qkv_bias,
            output_bias=self.output_bias,
            score_scale=self.score_scale,
        )
