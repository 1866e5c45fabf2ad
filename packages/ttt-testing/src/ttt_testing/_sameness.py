"""Whether two modules compute the same way: class, spec, settings and precisions, everything but the values of weights."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

from ttt_core import Tensor
from ttt_testing._finding import attributes

_PLAIN = (bool, int, float, str, bytes, type(None), Enum)


def fingerprint(module: Any) -> Hashable:
    """Equal for modules that differ in the values of their weights alone, so that testing one tests the other.

    Of a weight it has shape, dtype and placement; of an object of ttnn its text.
    """
    return _of(module, {})


def _of(found: Any, seen: dict[int, tuple[int, Any]]) -> Hashable:
    if isinstance(found, _PLAIN):
        return type(found).__name__, found
    if isinstance(found, type):
        return found.__module__, found.__qualname__
    if id(found) in seen:
        return "again", seen[id(found)][0]
    seen[id(found)] = len(seen), found  # kept, so that no other object gets its id meanwhile
    if isinstance(found, (list, tuple)):
        return tuple(_of(element, seen) for element in found)
    if isinstance(found, dict):
        return tuple((str(key), _of(value, seen)) for key, value in found.items())
    kind = (type(found).__module__, type(found).__qualname__)
    if hasattr(type(found), "tensor"):  # a Weight
        said = tuple(_of(getattr(found, name, None), seen) for name in ("shape", "dtype", "placement"))
        return kind, said
    if isinstance(found, Tensor) or hasattr(found, "__array__"):
        return kind, tuple(found.shape), str(found.dtype)
    if is_dataclass(found) and (same := _hashable(found)) is not None:
        return kind, same
    if callable(found) and hasattr(found, "__qualname__"):
        return found.__module__, found.__qualname__
    if own := attributes(found):
        return kind, tuple((name, _of(value, seen)) for name, value in own.items())
    text = repr(found)
    return kind, "" if " at 0x" in text else text


def _hashable(found: Any) -> Hashable | None:
    """A frozen record, which compares by its values, as it is; None for one that holds a list, say."""
    try:
        hash(found)
    except TypeError:
        return None
    known: Hashable = found
    return known if "__eq__" in vars(type(found)) else None
