"""Caches in blocks, prompts read piece by piece, and 64 steps after a prompt: each equals one long prefill.

Tolerance: sums in another order; 1e-4 is asked of float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ttt_attention import AttentionSpec, GroupedQueryAttention, PagedKVCache, RopeSpec, page_table
from ttt_core import KVCache, Paged, ResumableCache, ShapeError, SpecError
from ttt_ffn import SwiGLU
from ttt_hw import open_mesh, run_in_process, upload
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer
from ttt_testing import max_difference, shadow

HIDDEN, CONTEXT, PROMPT, STEPS, BLOCK = 128, 192, 96, 64, 32
SPEC = AttentionSpec(hidden_dim=HIDDEN, num_heads=8, num_kv_heads=8, head_dim=32, max_context=CONTEXT, rope=RopeSpec())
ROWS = {"q": 256, "k": 256, "v": 256}
PAGES = [[3, 0, 5, 1, 4, 2], [11, 8, 6, 10, 7, 9]]
SPECS = {"plain": SPEC, "window": replace(SPEC, window=40), "sinks": replace(SPEC, window=100, sinks=True)}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def block_of(spec: AttentionSpec, mesh: Any, cache_dtype: Any = "bfloat8_b") -> GroupedQueryAttention:
    weights: dict[str, Any] = {
        name: (random(count, HIDDEN, seed=seed) * HIDDEN**-0.5).numpy()
        for seed, (name, count) in enumerate(ROWS.items())
    }
    weights["o"] = (random(HIDDEN, 256, seed=3) / 16).numpy()
    if spec.sinks:
        weights["sinks"] = random(8, seed=4).numpy()
    return GroupedQueryAttention(spec, **weights, device=mesh, dtype="bfloat16", cache_dtype=cache_dtype)


def rows(x: torch.Tensor, mesh: Any) -> Any:
    return upload(x[None, None].numpy(), mesh, dtype="bfloat16")


def integers(values: Any, mesh: Any) -> Any:
    return upload(torch.tensor(values, dtype=torch.int32).numpy(), mesh, dtype="int32", layout="row_major")


def prompt(block: Any, x: torch.Tensor, mesh: Any, cache: Any, start: int = 0, pages: Any = None) -> Any:
    positions = integers([list(range(start, start + len(x)))], mesh)
    return block.prefill_forward(rows(x, mesh), cache=cache, positions=positions, page_table=pages)


@torch.no_grad()
def departures(mesh: Any, name: str, dtype: Any, *, paged: bool, pieces: tuple[int, ...], steps: int) -> list[float]:
    """Of two users, the second's prompt read in pieces, then both decoding; from one long prefill of each."""
    block = block_of(SPECS[name], mesh, dtype)
    x = [random(PROMPT + steps, HIDDEN, seed=user) for user in range(2)]
    found = []
    with shadow() as values:
        whole = [values.to_torch(prompt(block, each, mesh, None))[0, 0] for each in x]
        cache: Any = (
            block.allocate_paged_cache(blocks=12, block=BLOCK)
            if paged
            else block.allocate_cache(users=2, context=CONTEXT)
        )
        for user, each in enumerate(x):
            pages = page_table([PAGES[user]], device=mesh) if paged else None
            start = 0
            for tokens in pieces if user else (PROMPT,):
                mine = cache.for_user(user)
                y = prompt(
                    block, each[start : start + tokens], mesh, mine.after(start) if start else mine, start, pages
                )
                found.append(max_difference(values.to_torch(y)[0, 0], whole[user][start : start + tokens]))
                start += tokens
        pages = page_table(PAGES, device=mesh) if paged else None
        for at in range(PROMPT, PROMPT + steps):
            now = torch.stack([each[at] for each in x])
            y = block.decode_forward(rows(now, mesh), cache=cache, positions=integers([at, at], mesh), page_table=pages)
            found.append(max_difference(values.to_torch(y)[0, 0], torch.stack([each[at] for each in whole])))
    return found


CASES = [
    ("plain", "bfloat8_b", False, (32, 64)),
    ("window", "bfloat16", False, (32, 32, 32)),
    ("plain", "bfloat16", True, (64, 32)),
    ("window", "bfloat8_b", True, (32, 32, 32)),
    ("sinks", "bfloat8_b", True, (32, 64)),
]


@pytest.mark.parametrize(("name", "dtype", "paged", "pieces"), CASES)
def test_steps_after_pieces_equal_one_long_prefill(name: str, dtype: str, paged: bool, pieces: Any, mesh: Any) -> None:
    """The window's edge is crossed within the second piece, and by every step."""
    assert max(departures(mesh, name, dtype, paged=paged, pieces=pieces, steps=STEPS)) < 1e-4


def on_board(board: str) -> float:
    with open_mesh(board, backend="mock") as mesh:
        return max(
            departure
            for name, dtype, paged, pieces in CASES[1:4]
            for departure in departures(mesh, name, dtype, paged=paged, pieces=pieces, steps=STEPS)
        )


def test_on_eight_chips() -> None:
    assert run_in_process(on_board, "t3k", device="t3k") < 1e-4


@torch.no_grad()
def test_in_a_layer_whose_norms_know_nothing_of_pages(mesh: Any) -> None:
    layer = DecoderLayer(
        attention=block_of(SPEC, mesh),
        ffn=SwiGLU(
            hidden_dim=HIDDEN,
            intermediate_dim=64,
            gate=random(64, HIDDEN).numpy(),
            up=random(64, HIDDEN, seed=1).numpy(),
            down=random(HIDDEN, 64).numpy() / 100,
            device=mesh,
        ),
        norm=RMSNorm(dim=HIDDEN, weight=False, device=mesh),
    )
    x = random(97, HIDDEN)
    with shadow() as values:
        whole = values.to_torch(prompt(layer, x, mesh, None))[0, 0]
        cache: Any = layer.attention.allocate_paged_cache(blocks=6, block=BLOCK)  # type: ignore[attr-defined]
        pages = page_table(PAGES[:1], device=mesh)
        for start in (0, 32):
            after = cache.after(start) if start else cache
            y = prompt(layer, x[start : 32 + 2 * start], mesh, after, start, pages)
            assert max_difference(values.to_torch(y)[0, 0], whole[start : 32 + 2 * start]) < 1e-4
        y = layer.decode_forward(rows(x[96:], mesh), cache=cache, positions=integers([96], mesh), page_table=pages)
        assert max_difference(values.to_torch(y)[0, 0], whole[96:]) < 1e-4


def test_keeps_the_protocols(mesh: Any) -> None:
    block: Paged = block_of(SPEC, mesh)
    cache: KVCache = block.allocate_paged_cache(blocks=2, block=64)
    assert isinstance(cache, ResumableCache)
    assert tuple(cache.keys.shape) == (2, 8, 64, 32)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"blocks": 0}, "a paged KV cache of 0 blocks; at least one is wanted."),
        ({"blocks": 1, "block": 33}, "a paged KV cache with blocks of 33 tokens; whole tiles are wanted. Nearest: 64."),
    ],
)
def test_sizes_out_of_range_are_refused(sizes: Any, message: str, mesh: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        PagedKVCache.allocate(SPEC, **sizes, device=mesh)
    assert str(caught.value) == message


def test_where_a_prompt_cannot_go_on(mesh: Any) -> None:
    block = block_of(SPEC, mesh)
    contiguous, paged = block.allocate_cache(users=1, context=64), block.allocate_paged_cache(blocks=2, block=64)
    for cache, start, nearest in ((contiguous, 33, 32), (contiguous, 64, 32), (contiguous, -32, 0), (paged, 32, 0)):
        with pytest.raises(ShapeError, match=rf"^a prompt that goes on after {start} tokens .* Nearest: {nearest}\.$"):
            cache.after(start)
    with pytest.raises(
        ShapeError, match=r"^a page table with rows of \[1, 2\] blocks; pad them to one length, at least 1\.$"
    ):
        page_table([[0], [1, 2]], device=mesh)


def test_step_by_step_attention_reads_no_pages(mesh: Any) -> None:
    block = block_of(replace(SPEC, soft_cap=2.0), mesh)
    cache, pages = block.allocate_paged_cache(blocks=2), page_table([[0, 1]], device=mesh)
    with pytest.raises(SpecError, match="only ttnn's fused attention reads paged caches"):
        prompt(block, random(32, HIDDEN), mesh, cache, pages=pages)
