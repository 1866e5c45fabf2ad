"""Small blocks of this package with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_ffn.gated import SwiGLU
from ttt_ffn.spec import FFNSpec

__all__ = ["swiglu"]


def make_swiglu(mesh: Any) -> tuple[SwiGLU, Callable[[Any], Any]]:
    spec = FFNSpec(hidden_dim=96, intermediate_dim=320)
    random = np.random.default_rng(0)
    gate, up, down = (
        (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for shape in [(320, 96), (320, 96), (96, 320)]
    )

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        gated = values @ gate.T
        return (gated / (1 + np.exp(-gated)) * (values @ up.T)) @ down.T

    return SwiGLU(spec, gate=gate, up=up, down=down, device=mesh), reference


swiglu = {"protocol": "feed_forward", "make": make_swiglu, "tolerance": 1e-4}
