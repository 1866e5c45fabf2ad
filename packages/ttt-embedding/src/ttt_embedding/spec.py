"""What embeddings and heads compute."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_core import SpecError


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingSpec:
    """A table of `vocab_size` rows of `hidden_dim`."""

    vocab_size: int
    hidden_dim: int

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "EmbeddingSpec")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec:
    """Hidden states to logits. `tied`: the weight is the embedding's table."""

    vocab_size: int
    hidden_dim: int
    tied: bool = False

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "HeadSpec")


def _check(vocab_size: int, hidden_dim: int, where: str) -> None:
    if vocab_size < 1 or hidden_dim < 1:
        raise SpecError(f"{where}(vocab_size={vocab_size}, hidden_dim={hidden_dim}): both must be at least 1.")
