"""Small blocks of this package with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_norm.rms import RMSNorm
from ttt_norm.spec import NormSpec

__all__ = ["rms_norm"]


def make_rms_norm(mesh: Any) -> tuple[RMSNorm, Callable[[Any], Any]]:
    spec = NormSpec(dim=96, eps=1e-5)
    weight = np.random.default_rng(0).standard_normal(spec.dim).astype(np.float32)

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        return values / np.sqrt((values * values).mean(-1, keepdims=True) + spec.eps) * weight

    return RMSNorm(spec, weight, device=mesh), reference


rms_norm = {"protocol": "norm", "make": make_rms_norm, "tolerance": 1e-5}
