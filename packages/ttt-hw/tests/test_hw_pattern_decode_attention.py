"""DecodeAttention: exact buffers, and how the op deals cores to users and heads."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.compute import ComputeKernel
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.decode_attention import DecodeAttention, automatic_chunk, widest_grid
from ttt_hw.requests import DecodeAttentionRequest


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def request(users: int, heads: int, kv_heads: int, head_dim: int, **changes: Any) -> DecodeAttentionRequest:
    inputs = (
        ("q", "keys", "values", "positions")
        if changes.get("block") is None
        else ("q", "keys", "values", "positions", "pages")
    )
    inputs = (*inputs, *["sinks"] * changes.get("sinks", False))
    whole = DecodeAttentionRequest(
        name="a", inputs=inputs, users=users, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, context=1024
    )
    return replace(whole, **changes)


ONE = request(32, 32, 8, 128)
BF16 = ComputeKernel(fidelity="hifi2", fp32_accumulate=False)


def configs(name: str) -> list[tuple[DecodeAttentionRequest, DecodeAttention]]:
    record, found = board(name), []
    sizes = ((32, 8, 64), (8, 1, 128), (40, 10, 128), (16, 8, 256), (40, 40, 128))
    variants: tuple[dict[str, Any], ...] = (
        {}, {"window": 256}, {"block": 64}, {"block": 32, "kernel": BF16, "context": 2048}, 
        {"kv_dtype": "bfloat16", "context": 384}, {"block": 64, "sinks": True},
    )  # fmt: skip
    for (heads, kv_heads, head_dim), users, changes, chunk in product(sizes, (1, 8, 32), variants, (0, 128)):
        wanted = request(users, heads, kv_heads, head_dim, **changes)
        memory = "l1" if chunk else "dram"
        found.append((wanted, DecodeAttention(grid=widest_grid(wanted, record), k_chunk=chunk, memory=memory)))  # type: ignore[arg-type]
    return found


def latent_configs(name: str) -> list[tuple[DecodeAttentionRequest, DecodeAttention]]:
    """Values that are columns of the keys: of DeepSeek-V3 on one chip of eight, and on one; of a small model."""
    record, found = board(name), []
    variants: tuple[dict[str, Any], ...] = ({}, {"block": 64, "kernel": BF16}, {"kv_dtype": "bfloat16"})
    for (heads, head_dim, value_dim), users, changes, chunk in product(
        ((16, 576, 512), (128, 576, 512), (2, 96, 64)), (1, 8, 32), variants, (0, 32, 128)
    ):
        wanted = latent(users, heads, head_dim, value_dim, **changes)
        config = DecodeAttention(grid=widest_grid(wanted, record), k_chunk=chunk, memory="l1" if chunk else "dram")
        reads = [layouts[0] for layouts in config.accepts(wanted, record)]
        if config.circular_buffers(wanted, record, reads) < record.l1_bytes_per_core - 2**17:
            found.append((wanted, config))
    return found


def latent(users: int, heads: int, head_dim: int, value_dim: int, **changes: Any) -> DecodeAttentionRequest:
    pages = ("pages",) if "block" in changes else ()
    wanted = request(users, heads, 1, head_dim, value_dim=value_dim, **changes)
    return replace(wanted, inputs=("q", "latents", "positions", *pages))


def test_values_of_the_keys_are_exact(mesh: Any, probe: Any) -> None:
    pairs = latent_configs("n150")
    assert len(pairs) > 40
    assert not probe.inexact(mesh, pairs)


def test_values_of_the_keys_are_exact_on_blackhole(probe: Any) -> None:
    pairs = latent_configs("p150")[::4]
    assert not run_in_process(probe.inexact_on, "p150", board("p150").mesh, pairs, device="p150")


def test_every_config_is_exact(mesh: Any, probe: Any) -> None:
    assert not probe.inexact(mesh, configs("n150"))


@pytest.mark.parametrize("name", ["p150", "tg"])
def test_every_config_is_exact_on_other_chips(name: str, probe: Any) -> None:
    pairs = configs(name)[::2] if name == "p150" else configs(name)[::11]
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, pairs, device=name)


@pytest.mark.parametrize("name", BOARDS)
def test_every_model_has_a_legal_candidate(name: str, probe: Any) -> None:
    for (heads, kv_heads, head_dim), users, context in product(probe.HEADS.values(), (1, 8, 32), (128, 1024, 131072)):
        probe.first_legal(DecodeAttention, request(users, heads, kv_heads, head_dim, context=context), board(name))


@pytest.mark.parametrize(
    ("config", "wanted", "reason"),
    [
        ({"grid": (9, 8)}, ONE, "grid=9x8 must lie on the chip's 8x8 cores; nearest legal: 8x8"),
        ({"grid": (8, 3)}, ONE, "grid=8x3 has fewer cores than the 32 users"),
        (
            {}, request(8, 40, 10, 128),
            "grid=8x8 gives each of 8 users 8 cores, of which 5 can share 10 key-value heads evenly, and the op would leave the "
            "last users out; nearest legal: 8x5",
        ),
        ({"grid": (7, 8)}, ONE, "grid=7x8 must be 8 cores wide, as the rows of cores on which q's users lie"),
        (
            {"k_chunk": 96}, ONE,
            "k_chunk=96 must be a power of two of at least 32 that divides the context, 1024; nearest legal: 96",
        ),
        ({}, replace(ONE, head_dim=192), "head_dim=192 must be at most 128 or a multiple of it: the engine holds 4 tiles"),
        ({}, latent(8, 16, 192, 160), "value_dim=160 must be at most 128 or a multiple of it: the engine holds 4 tiles"),
        ({}, latent(8, 16, 64, 96), "value_dim=96 must be whole tiles of 32, at most head_dim=64; nearest legal: 64"),
        ({}, latent(8, 16, 64, 96), "value_dim=96 must be a multiple of 64, which the kernel scales at a time"),
        (
            {}, latent(8, 16, 96, 64, window=64),
            "values that are columns of the keys go without a window and without sinks; leave them out",
        ),
        (
            {}, request(32, 32, 8, 128, block=96),
            "blocks of 96 tokens must be whole tiles of 32 and divide the context, 1024",
        ),
    ],
)  # fmt: skip
def test_each_rule(config: dict[str, Any], wanted: DecodeAttentionRequest, reason: str, probe: Any) -> None:
    assert reason in probe.problems(replace(DecodeAttention(grid=(8, 8)), **config), wanted)


def test_the_grid_of_a_wide_chip_gives_no_user_cores_that_idle() -> None:
    p150 = board("p150")
    assert widest_grid(request(32, 32, 8, 128), p150) == (11, 6)
    assert DecodeAttention(grid=(11, 6)).cores(request(32, 32, 8, 128), p150) == 64
    assert DecodeAttention(grid=widest_grid(request(1, 32, 8, 128), p150)).cores(request(1, 32, 8, 128), p150) % 8 == 0


def test_the_automatic_chunk() -> None:
    assert [automatic_chunk(context) for context in (128, 384, 1024, 131072)] == [128, 128, 512, 512]
