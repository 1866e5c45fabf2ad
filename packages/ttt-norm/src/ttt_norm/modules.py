"""Norms for `ttt list-modules` and `ttt search`: a literal, which is read without importing the package."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES: list[dict[str, object]] = [
    {
        "path": "ttt_norm.RMSNorm",
        "category": "norm",
        "tier": "core",
        "features": ["rms", "root mean square", "offset", "weightless", "distributed norm"],
    },
    {
        "path": "ttt_norm.LayerNorm",
        "category": "norm",
        "tier": "core",
        "features": ["layer norm", "bias", "biasless", "weightless", "distributed norm"],
    },
]
"""As ttt_core.registry has it: where each is imported from, its category and tier, and what people may look for."""
