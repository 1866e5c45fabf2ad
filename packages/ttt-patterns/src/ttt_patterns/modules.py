"""Layers and models for `ttt list-modules` and `ttt search`: a literal, which is read without importing the package."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES: list[dict[str, object]] = [
    {
        "path": "ttt_patterns.DecoderLayer",
        "category": "layer",
        "tier": "core",
        "features": [
            "transformer block",
            "decoder",
            "pre-norm",
            "post-norm",
            "sandwich norms",
            "branch-output norm",
            "parallel residuals",
            "residual multiplier",
        ],
    },
    {
        "path": "ttt_patterns.EncoderLayer",
        "category": "layer",
        "tier": "extended",
        "features": ["transformer block", "encoder", "bidirectional", "post-norm", "pre-norm"],
    },
    {
        "path": "ttt_patterns.CrossAttentionLayer",
        "category": "layer",
        "tier": "extended",
        "features": ["transformer block", "encoder-decoder", "cross attention", "pre-norm", "post-norm"],
    },
    {
        "path": "ttt_patterns.DecoderModel",
        "category": "model",
        "tier": "core",
        "features": ["language model", "causal lm", "decoder-only"],
    },
]
"""As ttt_core.registry has it: where each is imported from, its category and tier, and what people may look for."""
