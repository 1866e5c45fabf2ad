"""What a composition knows of its parts."""

from __future__ import annotations

from ttt_core import Weight, Weighted


def weights_of(*parts: object) -> tuple[Weight, ...]:
    """The weights of all parts that have some, each once although parts may share it."""
    found = {id(weight): weight for part in parts if isinstance(part, Weighted) for weight in part.weights}
    return tuple(found.values())
