"""Small blocks of this package with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_embedding.head import LMHead
from ttt_embedding.token import TokenEmbedding

__all__ = ["lm_head", "make_lm_head", "make_token_embedding", "token_embedding"]

VOCABULARY, DIM = 250, 96


def make_token_embedding(mesh: Any) -> tuple[TokenEmbedding, Callable[[Any], Any]]:
    """A scaled table of random rows, and the same in NumPy."""
    table = np.random.default_rng(0).standard_normal((VOCABULARY, DIM)).astype(np.float32)
    embedding = TokenEmbedding(vocab_size=VOCABULARY, hidden_dim=DIM, scale=2.5, weight=table, device=mesh)

    def reference(ids: Any) -> Any:
        return table[np.asarray(ids)] * np.float32(2.5)

    return embedding, reference


def make_lm_head(mesh: Any) -> tuple[LMHead, Callable[[Any], Any]]:
    """A head with bias and soft-cap, and the same in NumPy."""
    random = np.random.default_rng(0)
    weight = (random.standard_normal((VOCABULARY, DIM)) / DIM**0.5).astype(np.float32)
    bias = random.standard_normal(VOCABULARY).astype(np.float32)
    head = LMHead(vocab_size=VOCABULARY, hidden_dim=DIM, soft_cap=3.0, weight=weight, bias=bias, device=mesh)

    def reference(x: Any) -> Any:
        return 3 * np.tanh((np.asarray(x) @ weight.T + bias) / 3)

    return head, reference


token_embedding = {"protocol": "embedding", "make": make_token_embedding, "tolerance": 1e-5}
"""The entry of `TokenEmbedding`."""
lm_head = {"protocol": "head", "make": make_lm_head, "tolerance": 1e-4}
"""The entry of `LMHead`."""
