"""What patterns keep on a mesh between calls: made once while it is open, dropped before it closes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")
_made: dict[tuple[int, Hashable], Any] = {}


def kept(mesh: Any, key: Hashable, make: Callable[[], Made]) -> Made:
    """What `make` gave the first time for this mesh and key."""
    at = mesh.id(), key
    if at not in _made:
        _made[at] = make()
    found: Made = _made[at]
    return found


def drop(mesh: Any) -> None:
    """Give back all that is kept on a mesh: ttnn frees tensors and semaphores with their last reference."""
    for at in [at for at in _made if at[0] == mesh.id()]:
        del _made[at]
