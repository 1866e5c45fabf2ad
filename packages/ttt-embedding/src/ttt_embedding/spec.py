"""What embeddings and heads compute."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_core import SpecError, TrackedSpec

__all__ = ["EmbeddingSpec", "HeadSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingSpec(TrackedSpec):
    """A table of `vocab_size` rows of `hidden_dim`, multiplied by `scale`."""

    vocab_size: int
    hidden_dim: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "EmbeddingSpec")
        if not self.scale > 0:
            raise SpecError(f"EmbeddingSpec(scale={self.scale}): it must be above 0.")

    @property
    def num_parameters(self) -> int:
        return self.vocab_size * self.hidden_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec(TrackedSpec):
    """Hidden states to logits. `tied`: the weight is the embedding's table; `soft_cap` c makes them c · tanh(logits / c)."""

    vocab_size: int
    hidden_dim: int
    tied: bool = False
    bias: bool = False
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        _check(self.vocab_size, self.hidden_dim, "HeadSpec")
        if self.soft_cap is not None and not self.soft_cap > 0:
            raise SpecError(f"HeadSpec(soft_cap={self.soft_cap}): it must be above 0.")

    @property
    def num_parameters(self) -> int:
        """Those of its own: a tied head has no weight."""
        return self.vocab_size * (self.hidden_dim * (not self.tied) + self.bias)


def _check(vocab_size: int, hidden_dim: int, where: str) -> None:
    if vocab_size < 1 or hidden_dim < 1:
        raise SpecError(f"{where}(vocab_size={vocab_size}, hidden_dim={hidden_dim}): both must be at least 1.")
