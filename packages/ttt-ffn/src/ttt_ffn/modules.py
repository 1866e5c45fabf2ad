"""Feed-forward blocks for `ttt list-modules` and `ttt search`: a literal, which is read without importing the package."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES: list[dict[str, object]] = [
    {"path": "ttt_ffn.SwiGLU", "category": "ffn", "tier": "core", "features": ["silu", "swish", "gated mlp", "glu"]},
    {"path": "ttt_ffn.GeGLU", "category": "ffn", "tier": "core", "features": ["gelu", "gelu_tanh", "gated mlp", "glu"]},
    {
        "path": "ttt_ffn.GatedMLP",
        "category": "ffn",
        "tier": "core",
        "features": ["glu", "any activation", "silu", "gelu", "relu", "clamped", "biases"],
    },
    {
        "path": "ttt_ffn.MLP",
        "category": "ffn",
        "tier": "core",
        "features": ["mlp", "feed-forward", "any activation", "gelu", "relu", "squared relu", "biases"],
    },
    {
        "path": "ttt_ffn.MoE",
        "category": "ffn",
        "tier": "extended",
        "features": [
            "mixture of experts",
            "router",
            "top-k",
            "shared experts",
            "grouped routing",
            "sigmoid routing",
            "selection bias",
            "sparse",
        ],
    },
]
"""As ttt_core.registry has it: where each is imported from, its category and tier, and what people may look for."""
