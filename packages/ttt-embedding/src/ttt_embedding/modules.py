"""Embeddings and heads for `ttt list-modules` and `ttt search`: a literal, which is read without importing the package."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES: list[dict[str, object]] = [
    {
        "path": "ttt_embedding.TokenEmbedding",
        "category": "embedding",
        "tier": "core",
        "features": ["vocabulary", "table", "scale", "projection", "embedding norm"],
    },
    {
        "path": "ttt_embedding.PositionEmbedding",
        "category": "embedding",
        "tier": "extended",
        "features": ["learned positions", "absolute positions", "sinusoidal", "offset"],
    },
    {
        "path": "ttt_embedding.LMHead",
        "category": "head",
        "tier": "core",
        "features": [
            "lm head",
            "logits",
            "unembedding",
            "tied embeddings",
            "bias",
            "soft-cap",
            "multiplier",
            "split vocabulary",
        ],
    },
    {
        "path": "ttt_embedding.HeadTransform",
        "category": "head",
        "tier": "extended",
        "features": ["prediction head", "dense", "activation", "masked language model"],
    },
]
"""As ttt_core.registry has it: where each is imported from, its category and tier, and what people may look for."""
