"""What a forward is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ttt_core import Mode, PlacementError
from ttt_shard_dsl import TILE

__all__ = ["Workload", "decoding", "prefilling"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What a forward is asked to do: `users` decode together, or one prompt of `tokens` is read.

    `context` is what a cache holds a user; `chips` split heads and columns among them, `hidden_chips` the hidden dim (tensor
    parallel along the columns and the rows of a mesh). Of a prompt the first `start` tokens are in the cache already.
    `block` > 0: the cache is paged, in blocks of so many tokens.
    """

    mode: Mode
    users: int = 1
    tokens: int = 1
    context: int
    chips: int = 1
    hidden_chips: int = 1
    start: int = 0
    block: int = 0

    @property
    def rows(self) -> int:
        """Rows of an activation: users in decode, in prefill the tokens padded to whole tiles."""
        return self.users if self.mode == "decode" else -(-self.tokens // TILE) * TILE

    def hidden(self, dim: int) -> int:
        """A chip's part of a hidden dim. Errors: PlacementError where that is not whole tiles."""
        if self.hidden_chips > 1 and dim % (TILE * self.hidden_chips):
            raise PlacementError(
                f"a hidden dim of {dim} does not split over {self.hidden_chips} rows of chips in whole tiles of {TILE}. Open a "
                "mesh with fewer rows, or with rows as replicas."
            )
        return dim // self.hidden_chips

    def with_whole_rows(self, what: str) -> None:
        """Raise PlacementError where chips split the hidden dim: `what` reads it whole."""
        if self.hidden_chips > 1:
            raise PlacementError(
                f"{what} do not split over {self.hidden_chips} rows of chips yet. Open a mesh with one row, or with rows as "
                "replicas."
            )

    def __str__(self) -> str:
        what = f"{self.users} users" if self.mode == "decode" else f"{self.tokens} tokens"
        return f"{self.mode} of {what}{f' after {self.start}' if self.start else ''}"


@lru_cache(maxsize=1 << 12)
def decoding(users: int, context: int = 0) -> Workload:
    """Users who decode together; the same object for the same numbers, which forwards ask for each time."""
    return Workload(mode="decode", users=users, context=context)


@lru_cache(maxsize=1 << 12)
def prefilling(tokens: int) -> Workload:
    """A prompt that is read from its start; the same object for the same number."""
    return Workload(mode="prefill", tokens=tokens, context=tokens)
