"""FlashAttention: exact buffers on every kind of chip, and the rules that ttnn does not check."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import estimate
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.flash_attention import FlashAttention
from ttt_hw.requests import PrefillAttentionRequest


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def request(tokens: int, heads: int, kv_heads: int, head_dim: int, **changes: Any) -> PrefillAttentionRequest:
    inputs = ("q", "k", "v") if changes.get("start") is None else ("q", "k", "v", "pages")
    inputs = (*inputs, *["sinks"] * changes.get("sinks", False))
    if "value_dim" in changes:
        inputs = tuple(name for name in inputs if name != "v")
    whole = PrefillAttentionRequest(
        name="a", inputs=inputs, tokens=tokens, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim
    )
    return replace(whole, **changes)


ONE = request(1024, 32, 8, 128)
GOES_ON = request(1024, 32, 8, 128, start=512, block=64, blocks=24)
BF16 = ComputeKernel(fidelity="hifi2", fp32_accumulate=False)
VARIED = [
    ONE,
    GOES_ON,
    request(2048, 3, 1, 128, window=512),
    request(2048, 3, 1, 128, window=512, kernel=BF16),
    request(160, 3, 3, 64),
    request(8192, 16, 8, 256, kernel=BF16, kv_dtype="bfloat8_b"),
    request(1024, 4, 4, 256),
    request(256, 64, 64, 128, kv_dtype="bfloat8_b"),
    request(1024, 8, 2, 64, sinks=True),
    request(512, 8, 2, 64, sinks=True, window=128, start=512, block=32, blocks=32),
    request(512, 8, 8, 64, causal=False),
    request(256, 8, 2, 128, causal=False, keys=512, kernel=BF16),
    request(256, 8, 1, 64, start=256, block=32, blocks=16, window=128, kernel=BF16),
    request(1024, 16, 1, 576, value_dim=512),
    request(512, 2, 1, 96, value_dim=64, start=256, block=32, blocks=32, kv_dtype="bfloat8_b"),
    request(512, 2, 1, 96, value_dim=64, kernel=BF16),
]


def configs(name: str) -> list[tuple[PrefillAttentionRequest, FlashAttention]]:
    """Every pair of chunks for each of `VARIED` that is legal and leaves room."""
    record, found = board(name), []
    for one, q_chunk, k_chunk in product(VARIED, (32, 128, 256), (32, 256, 512)):
        config = FlashAttention(grid=record.grid, q_chunk=q_chunk, k_chunk=k_chunk)
        reads = [layouts[0] for layouts in config.accepts(one, record)]
        small = config.circular_buffers(one, record, reads) < record.l1_bytes_per_core
        if small and not list(config.problems(one, record, reads)):
            found.append((one, config))
    return found


def test_every_chunk_is_exact(mesh: Any, probe: Any) -> None:
    pairs = configs("n150")
    assert len(pairs) > 40
    assert not probe.inexact(mesh, pairs)


@pytest.mark.parametrize("name", ["p150", "p100", "bh-galaxy"])
def test_every_chunk_is_exact_on_blackhole(name: str, probe: Any) -> None:
    pairs = configs(name) if name == "p150" else configs(name)[::6]
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, pairs, device=name)


@pytest.mark.parametrize("name", BOARDS)
def test_every_model_has_a_legal_candidate(name: str, probe: Any) -> None:
    for (heads, kv_heads, head_dim), tokens in product(probe.HEADS.values(), (32, 96, 128, 1024, 2048, 8192)):
        wanted = request(tokens, heads, kv_heads, head_dim)
        config = probe.first_legal(FlashAttention, wanted, board(name))
        if head_dim < 256:
            assert config.q_chunk == {32: 32, 96: 32, 128: 64, 1024: 64}.get(tokens, 256)
        assert (
            estimate(config.work(wanted, board(name), config.accepts(wanted, board(name))[0]), board(name)).time_us > 0
        )


@pytest.mark.parametrize(
    ("config", "wanted", "reason"),
    [
        ({"grid": (9, 8)}, ONE, "grid=9x8 must lie on the chip's 8x8 cores; nearest legal: 8x8"),
        ({"q_chunk": 96}, ONE, "q_chunk=96 must be a power of two of at least 32 that divides the 1024 rows; nearest legal: 64"),
        ({"k_chunk": 2048}, ONE, "k_chunk=2048 must be a power of two of at least 32 that divides the 1024 rows; "
         "nearest legal: 1024"),
        ({"q_chunk": 1024}, GOES_ON, "q_chunk=1024 must divide the start, 512; nearest legal: 512"),
        ({"k_chunk": 1024}, GOES_ON, "k_chunk=1024 must divide the start, 512; nearest legal: 512"),
        ({}, replace(GOES_ON, block=48), "the cache's blocks of 48 tokens must be whole tiles of 32"),
        ({}, replace(GOES_ON, blocks=16), "16 blocks of 64 tokens do not hold the 1536 tokens; at least 24 do"),
        ({}, request(1024, 16, 1, 64, value_dim=40), "value_dim=40 must be whole tiles of 32, at most head_dim=64; "
         "nearest legal: 64"),
        ({}, replace(ONE, head_dim=80), "head_dim=80 must be whole tiles of 32; nearest legal: 96"),
        ({}, replace(ONE, num_kv_heads=5), "the 5 key-value heads must divide the 32 heads"),
    ],
)  # fmt: skip
def test_each_rule(config: dict[str, Any], wanted: PrefillAttentionRequest, reason: str, probe: Any) -> None:
    one = replace(FlashAttention(grid=(8, 8), q_chunk=64, k_chunk=64), **config)
    assert reason in probe.problems(one, wanted)


def test_longer_prompts_take_longer_and_a_window_shortens_them() -> None:
    record = board("n150")

    def time(wanted: PrefillAttentionRequest) -> float:
        config = FlashAttention(grid=(8, 8), q_chunk=128, k_chunk=128)
        return estimate(config.work(wanted, record, ()), record).time_us

    assert (
        time(request(8192, 32, 8, 128)) > 10 * time(request(2048, 32, 8, 128)) > 10 * time(request(512, 32, 8, 128)) / 4
    )
    assert time(request(8192, 32, 8, 128, window=1024)) < time(request(8192, 32, 8, 128)) / 2
