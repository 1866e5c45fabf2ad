"""What multi-head latent attention computes."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_attention.heads import padded_head_dim
from ttt_attention.spec import AttentionSpec, RopeSpec
from ttt_core import SpecError, TrackedSpec
from ttt_shard_dsl import TILE

__all__ = ["LatentAttentionSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttentionSpec(TrackedSpec):
    """Causal self-attention whose keys and values are made of one latent of `kv_rank` elements a token, which is all that a
    cache has to hold, with a turned key of `rope_dim` that all heads share [arXiv 2405.04434 section 2.1].

    Of a head queries and keys have `nope_dim` elements that do not turn and `rope_dim` that do, values `v_head_dim`. Queries are
    made of a latent of `q_rank`, or without one of x itself. Both latents are RMS-normalised with `eps`; queries are multiplied
    by `q_multiplier`, the latent of keys and values by `kv_multiplier`. Scores are multiplied by `score_scale` (None:
    1 / sqrt(nope_dim + rope_dim)). `latent_bias` adds biases to what makes latents (and the shared key), `output_bias` to o.
    Errors: SpecError for a size below 1, a rotation larger than `rope_dim` or an odd one, a factor that is not above 0.
    """

    hidden_dim: int
    num_heads: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_head_dim: int
    max_context: int
    rope: RopeSpec | None
    q_rank: int | None = None
    eps: float = 1e-6
    score_scale: float | None = None
    q_multiplier: float = 1.0
    kv_multiplier: float = 1.0
    latent_bias: bool = False
    output_bias: bool = False

    def __post_init__(self) -> None:
        for name in ("num_heads", "q_rank", "kv_rank", "nope_dim", "v_head_dim"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SpecError(f"LatentAttentionSpec({name}={value}): it must be at least 1.")
        for name in ("eps", "score_scale", "q_multiplier", "kv_multiplier"):
            if (factor := getattr(self, name)) is not None and not factor > 0:
                raise SpecError(f"LatentAttentionSpec({name}={factor}): it must be above 0.")
        _ = self.turning  # is in range

    @property
    def turning(self) -> AttentionSpec:
        """What turns: of each query head `rope_dim` elements, and one key."""
        return AttentionSpec(
            hidden_dim=self.hidden_dim,
            num_heads=self.num_heads,
            num_kv_heads=1,
            head_dim=self.rope_dim,
            max_context=self.max_context,
            rope=self.rope,
        )

    @property
    def num_kv_heads(self) -> int:
        """All heads read the same keys and values, each chip's as any other's."""
        return 1

    @property
    def scale(self) -> float:
        """Factor on the scores."""
        return float((self.nope_dim + self.rope_dim) ** -0.5) if self.score_scale is None else self.score_scale

    @property
    def turns(self) -> bool:
        """Whether anything depends on the position."""
        return self.rope is not None

    @property
    def row(self) -> int:
        """Elements that a cache has of a token: the latent and the turned key, each padded to whole tiles."""
        return whole_tiles(self.kv_rank) + padded_head_dim(self.rope_dim)

    @property
    def num_parameters(self) -> int:
        """Weights, norms and biases."""
        head, down = self.nope_dim + self.rope_dim, self.kv_rank + self.rope_dim
        q = self.num_heads * head * (self.hidden_dim if self.q_rank is None else self.q_rank)
        q_down = 0 if self.q_rank is None else self.q_rank * (self.hidden_dim + 1 + self.latent_bias)
        kv = self.hidden_dim * down + self.kv_rank * (1 + self.num_heads * (self.nope_dim + self.v_head_dim))
        output = self.num_heads * self.v_head_dim * self.hidden_dim
        return q + q_down + kv + output + down * self.latent_bias + self.hidden_dim * self.output_bias


def whole_tiles(size: int) -> int:
    """The least multiple of a tile that is not less."""
    return -(-size // TILE) * TILE
