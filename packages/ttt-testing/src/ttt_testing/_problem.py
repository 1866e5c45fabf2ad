"""What a module is to compute: sequences, and the places in them whose rows are compared.

A prefill, a decode through the cache and a reference that sees a whole sequence at once all answer for the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a result: of which sequence, at which position of it, and what to call it."""

    sequence: int
    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Problem:
    """`sequences`: [S, D] rows or [S] ids each."""

    sequences: tuple[torch.Tensor, ...]
    places: tuple[Place, ...]

    @property
    def names(self) -> list[str]:
        return [place.name for place in self.places]

    def rows_of(self, results: Sequence[torch.Tensor]) -> torch.Tensor:
        """The rows of the places, out of a result [S, D or V] for each sequence."""
        return torch.stack([results[place.sequence][place.position] for place in self.places])
