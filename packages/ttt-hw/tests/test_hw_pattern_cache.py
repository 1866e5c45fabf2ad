"""CacheFill and CacheUpdate: exact buffers, legal for every model."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.cache import CacheFill, CacheUpdate
from ttt_hw.requests import CacheFillRequest, CacheUpdateRequest, OpRequest


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def fill(users: int, kv_heads: int, tokens: int, head_dim: int, dtype: Any = "bfloat8_b") -> CacheFillRequest:
    return CacheFillRequest(
        name="f",
        inputs=("c", "x"),
        users=users,
        num_kv_heads=kv_heads,
        tokens=tokens,
        context=1024,
        head_dim=head_dim,
        dtype=dtype,
    )


def update(users: int, kv_heads: int, head_dim: int, dtype: Any = "bfloat8_b") -> CacheUpdateRequest:
    return CacheUpdateRequest(
        name="u",
        inputs=("c", "x", "p"),
        users=users,
        num_kv_heads=kv_heads,
        context=1024,
        head_dim=head_dim,
        dtype=dtype,
    )


PAIRS: list[tuple[OpRequest, Any]] = [
    *(
        (fill(users, kv, tokens, hd), CacheFill())
        for users, kv, tokens, hd in product((1, 8), (1, 10), (32, 1024), (64, 256))
    ),
    *((update(users, kv, hd), CacheUpdate()) for users, kv, hd in product((1, 3, 8, 32), (1, 8, 40), (64, 128, 256))),
    (fill(1, 8, 128, 128, "bfloat16"), CacheFill()),
    (update(16, 8, 128, "bfloat16"), CacheUpdate()),
    (replace(fill(4, 2, 64, 64), start=32), CacheFill()),
    *(
        (replace(request, inputs=(*request.inputs, "t"), block=block), pattern)
        for block in (32, 64, 512)
        for request, pattern in ((fill(4, 2, 64, 64), CacheFill()), (update(4, 2, 64), CacheUpdate()))
    ),
    (replace(fill(4, 2, 64, 64), inputs=("c", "x", "t"), block=32, start=96), CacheFill()),
]


def test_exact(mesh: Any, probe: Any) -> None:
    assert not probe.inexact(mesh, PAIRS)


@pytest.mark.parametrize("name", ["p150", "t3k"])
def test_exact_on_other_boards(name: str, probe: Any) -> None:
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, PAIRS, device=name)


@pytest.mark.parametrize("name", BOARDS)
def test_every_model_is_served(name: str, probe: Any) -> None:
    for (_, kv_heads, head_dim), users in product(probe.HEADS.values(), (1, 8, 32)):
        probe.first_legal(CacheFill, fill(users, kv_heads, 1024, head_dim), board(name))
        probe.first_legal(CacheUpdate, update(users, kv_heads, head_dim), board(name))


@pytest.mark.parametrize(
    ("one", "wanted", "reason"),
    [
        (CacheFill(), fill(1, 8, 2048, 64), "2048 tokens must fit into the cache's context of 1024"),
        (CacheFill(), fill(1, 8, 32, 80), "head_dim=80 must be whole tiles of 32; nearest legal: 96"),
        (CacheFill(), replace(fill(1, 8, 64, 64), start=33), "start=33 must be a multiple of 32; nearest legal: 32"),
        (
            CacheUpdate(),
            replace(update(1, 8, 64), inputs=("c", "x", "p", "t"), block=48),
            "blocks of 48 tokens must be whole tiles of 32 and divide the context, 1024",
        ),
        (CacheUpdate(), update(65, 8, 64), "65 users must lie on one core each of 64"),
        (CacheUpdate(), update(8, 8, 80), "head_dim=80 must be whole tiles of 32; nearest legal: 96"),
    ],
)
def test_each_rule(one: Any, wanted: OpRequest, reason: str, probe: Any) -> None:
    assert reason in probe.problems(one, wanted)
