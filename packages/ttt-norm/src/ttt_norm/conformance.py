"""Small blocks of this package with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_norm.layer import LayerNorm
from ttt_norm.rms import RMSNorm

__all__ = ["layer_norm", "make_layer_norm", "make_rms_norm", "rms_norm"]


def make_rms_norm(mesh: Any, *, dim: int = 96, seed: int = 0) -> tuple[RMSNorm, Callable[[Any], Any]]:
    """A norm with random weights, and the same in NumPy."""
    weight = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    norm = RMSNorm(dim=dim, weight=weight, device=mesh)

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        return values / np.sqrt((values * values).mean(-1, keepdims=True) + norm.spec.eps) * weight

    return norm, reference


def make_layer_norm(mesh: Any, *, dim: int = 96, seed: int = 0) -> tuple[LayerNorm, Callable[[Any], Any]]:
    """A norm with random weights and biases, and the same in NumPy."""
    weight, bias = np.random.default_rng(seed).standard_normal((2, dim)).astype(np.float32)
    norm = LayerNorm(dim=dim, weight=weight, bias=bias, device=mesh)

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        apart = values - values.mean(-1, keepdims=True)
        return apart / np.sqrt((apart * apart).mean(-1, keepdims=True) + norm.spec.eps) * weight + bias

    return norm, reference


rms_norm = {"protocol": "norm", "make": make_rms_norm, "tolerance": 1e-5}
"""The entry of `RMSNorm`."""
layer_norm = {"protocol": "norm", "make": make_layer_norm, "tolerance": 1e-5}
"""The entry of `LayerNorm`."""
