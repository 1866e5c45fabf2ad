"""What forwards are given, as their operations take it."""

from __future__ import annotations

from ttt_core import KVCache, Tensor


def held(cache: KVCache | None) -> tuple[Tensor | None, Tensor | None, int | None, Tensor | None]:
    """Keys, values, whose prompt is read, and what the fused attention reads them by where it goes on."""
    if cache is None:
        return None, None, None, None
    return cache.keys, cache.values, cache.user, getattr(cache, "slot", None)  # of a ResumableCache


def there(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Those that are not None."""
    return tuple(tensor for tensor in tensors if tensor is not None)
