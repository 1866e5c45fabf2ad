"""Soft-capped attention against plain torch: grouped heads, windows, queries in pieces, and decode after prefill.

Tolerance: float32 sums in another order; outputs are below 10, and 1e-4 is asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ttt_attention import AttentionSpec, GroupedQueryAttention, RopeSpec, _stepwise_requests as capped_requests
from ttt_attention.masks import sight
from ttt_hw import upload
from ttt_testing import max_difference, shadow

HIDDEN, HEADS, HEAD_DIM, CONTEXT, CAP = 64, 4, 32, 96, 2.0
SPEC = AttentionSpec(
    hidden_dim=HIDDEN,
    num_heads=HEADS,
    num_kv_heads=2,
    head_dim=HEAD_DIM,
    max_context=CONTEXT,
    rope=RopeSpec(),
    soft_cap=CAP,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def weights_of(spec: AttentionSpec) -> dict[str, torch.Tensor]:
    q, kv = HEADS * HEAD_DIM, spec.num_kv_heads * HEAD_DIM
    shapes = {"q": (q, HIDDEN), "k": (kv, HIDDEN), "v": (kv, HIDDEN), "o": (HIDDEN, q)}
    return {name: 0.2 * random(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}


def reference(spec: AttentionSpec, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """x [S, D] → [S, D]."""
    tokens = len(x)
    angles = torch.outer(torch.arange(tokens), 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)).repeat(1, 2)
    q, k, v = ((x @ w[name].T).unflatten(-1, (-1, HEAD_DIM)).transpose(0, 1) for name in "qkv")
    turned = []
    for heads in (q, k):
        first, second = heads.chunk(2, dim=-1)
        turned.append(heads * angles.cos() + torch.cat([-second, first], -1) * angles.sin())
    q, k, v = turned[0], *(heads.repeat_interleave(HEADS // spec.num_kv_heads, 0) for heads in (turned[1], v))
    scores = CAP * torch.tanh(q @ k.transpose(-1, -2) * spec.scale / CAP)
    seen = torch.ones(tokens, tokens).tril()
    seen = seen if spec.window is None else seen.triu(1 - spec.window)
    probabilities = scores.masked_fill(seen == 0, -torch.inf).softmax(-1)
    return (probabilities @ v).transpose(0, 1).flatten(1) @ w["o"].T


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("pieces", [1, 2])
def test_equals_torch(
    pieces: int, kv_heads: int, window: int | None, mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pieces > 1:
        monkeypatch.setattr(capped_requests, "MAX_SCORES_BYTES", 2 * HEADS * 32 * 64)
    assert capped_requests.rows_of_a_piece(HEADS, 64) == 64 // pieces
    spec = replace(SPEC, num_kv_heads=kv_heads, window=window)
    w, x = weights_of(spec), random(66, HIDDEN)
    ours = GroupedQueryAttention(spec, **{name: tensor.numpy() for name, tensor in w.items()}, device=mesh)  # type: ignore[arg-type]
    expected = reference(spec, w, x)

    def on_device(rows: torch.Tensor) -> Any:
        return upload(rows[None, None].numpy(), mesh, dtype="bfloat16")

    with shadow("none") as values:
        cache = ours.allocate_cache(users=1, context=CONTEXT)
        positions = upload(np.arange(64, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")
        y = values.to_torch(ours.prefill_forward(on_device(x[:64]), cache=cache, positions=positions))
        assert max_difference(y[0, 0], expected[:64]) < 1e-4
        for row in (64, 65):
            position = upload(np.array([row], np.int32), mesh, dtype="int32", layout="row_major")
            y = values.to_torch(ours.decode_forward(on_device(x[[row]]), cache=cache, positions=position))
            assert max_difference(y[0, 0], expected[[row]]) < 1e-4


def test_what_a_query_sees() -> None:
    def seen(first: int, last: int, **how: Any) -> list[list[int]]:
        return [[int(key) for key in np.flatnonzero(row == 0)] for row in sight(replace(SPEC, **how), first, last, 5)]

    assert seen(2, 4) == [[0, 1, 2], [0, 1, 2, 3]]
    assert seen(2, 4, window=2) == [[1, 2], [2, 3]]
    assert seen(0, 5, chunk=2) == [[0], [0, 1], [2], [2, 3], [4]]
    assert seen(2, 4, soft_cap=None, causal=False) == [[0, 1, 2, 3, 4]] * 2
    assert sight(replace(SPEC, soft_cap=None, alibi=True), 2, 3, 4)[0, :3].tolist() == [-2, -1, 0]
