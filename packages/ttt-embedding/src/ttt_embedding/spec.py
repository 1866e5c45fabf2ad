"""What embeddings and heads compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ttt_core import SpecError, TrackedSpec

__all__ = ["Activation", "EmbeddingSpec", "HeadSpec", "HeadTransformSpec", "PositionSpec"]


Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
"""What a head's transform ends its matmul with; gelu is exact, by the error function."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingSpec(TrackedSpec):
    """A table of `vocab_size` rows of `hidden_dim`, multiplied by `scale`.

    With `embedding_dim` its rows are as long as that, and projected to `hidden_dim`.
    Errors: SpecError for sizes below 1, a scale that is not positive.
    """

    vocab_size: int
    hidden_dim: int
    scale: float = 1.0
    embedding_dim: int | None = None

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "EmbeddingSpec")
        if not self.scale > 0:
            raise SpecError(f"EmbeddingSpec(scale={self.scale}): it must be above 0.")
        if self.table_dim < 1:
            raise SpecError(f"EmbeddingSpec(embedding_dim={self.embedding_dim}): a row must have at least 1 element.")

    @property
    def table_dim(self) -> int:
        """Elements of a row of the table."""
        return self.hidden_dim if self.embedding_dim is None else self.embedding_dim

    @property
    def num_parameters(self) -> int:
        projection = 0 if self.embedding_dim is None else self.embedding_dim * self.hidden_dim
        return self.vocab_size * self.table_dim + projection


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionSpec(TrackedSpec):
    """Embeddings of the positions 0 … num_positions − 1.

    learned: a table, of which the first `offset` rows stand for no position. sinusoidal: of d elements, with f_i = 10000^(−i /
    (d/2 − 1)), sin(p · f_i) and behind them cos(p · f_i); where `interleaved`, with f_i = 10000^(−2i/d), in turns. Positions
    count from `offset` there too.
    Errors: SpecError for sizes below 1, a negative offset, an odd number of elements with sinusoidal.
    Source: OPTLearnedPositionalEmbedding, XGLMSinusoidalPositionalEmbedding of transformers; arXiv 1706.03762 section 3.5.
    """

    num_positions: int
    hidden_dim: int
    kind: Literal["learned", "sinusoidal"] = "learned"
    offset: int = 0
    interleaved: bool = False

    def __post_init__(self) -> None:
        _check(self.num_positions, self.hidden_dim, "PositionSpec")
        if self.offset < 0 or self.kind not in ("learned", "sinusoidal"):
            raise SpecError(
                f"PositionSpec(kind={self.kind!r}, offset={self.offset}): learned or sinusoidal, with an offset of at least 0."
            )
        if self.kind == "sinusoidal" and (self.hidden_dim % 2 or self.hidden_dim < 4):
            raise SpecError(
                f"PositionSpec(hidden_dim={self.hidden_dim}): sines and cosines are as many, so it must be even, and at least 4."
            )

    @property
    def num_parameters(self) -> int:
        return (self.num_positions + self.offset) * self.hidden_dim * (self.kind == "learned")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadTransformSpec(TrackedSpec):
    """activation(x · weightᵀ + bias), before the logits; a norm may follow."""

    hidden_dim: int
    activation: Activation = "gelu"
    bias: bool = True

    def __post_init__(self) -> None:
        _check(1, self.hidden_dim, "HeadTransformSpec")
        if self.activation not in get_args(Activation):
            raise SpecError(
                f"HeadTransformSpec(activation={self.activation!r}): it must be one of {', '.join(get_args(Activation))}."
            )

    @property
    def num_parameters(self) -> int:
        return self.hidden_dim * (self.hidden_dim + self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec(TrackedSpec):
    """Hidden states to logits. `tied`: the weight is the embedding's table; logits are multiplied by `multiplier`, and `soft_cap`
    c makes them c · tanh(logits / c).

    Errors: SpecError for sizes below 1, a soft-cap that is not positive, a multiplier of 0.
    """

    vocab_size: int
    hidden_dim: int
    tied: bool = False
    bias: bool = False
    soft_cap: float | None = None
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "HeadSpec")
        if self.soft_cap is not None and not self.soft_cap > 0:
            raise SpecError(f"HeadSpec(soft_cap={self.soft_cap}): it must be above 0.")
        if self.multiplier == 0.0:
            raise SpecError("HeadSpec(multiplier=0.0): logits that are all 0 choose nothing; give another.")

    @property
    def num_parameters(self) -> int:
        """Those of its own: a tied head has no weight."""
        return self.vocab_size * (self.hidden_dim * (not self.tied) + self.bias)


def _check(vocab_size: int, hidden_dim: int, where: str) -> None:
    if vocab_size < 1 or hidden_dim < 1:
        raise SpecError(f"{where}(vocab_size={vocab_size}, hidden_dim={hidden_dim}): both must be at least 1.")
