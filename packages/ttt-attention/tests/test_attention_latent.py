"""Latent attention: against transformers, after prompts in pieces and steps, its cache, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ttt_attention import LatentAttentionSpec, MultiLatentAttention, RopeSpec, latent_attention_request, page_table
from ttt_attention.requests import PROFILES
from ttt_core import Attention, Cached, Paged, PlacementError, ShapeError, SpecError, WeightError
from ttt_ffn import SwiGLU
from ttt_hw import open_mesh, run_in_process, upload
from ttt_hw.requests import Workload
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer
from ttt_testing import max_difference, shadow
from ttt_testing.variants import check_variant
from ttt_weights import RandomWeights

HIDDEN, CONTEXT, PROMPT, STEPS, BLOCK = 128, 192, 96, 64, 32
SPEC = LatentAttentionSpec(
    hidden_dim=HIDDEN,
    num_heads=8,
    q_rank=96,
    kv_rank=64,
    nope_dim=32,
    rope_dim=32,
    v_head_dim=64,
    max_context=CONTEXT,
    rope=RopeSpec(style="interleaved"),
)
PAGES = [[3, 0, 5, 1, 4, 2], [11, 8, 6, 10, 7, 9]]
DECODE = Workload(mode="decode", users=8, context=1000)
PREFILL = Workload(mode="prefill", tokens=100, context=1000)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def block_of(mesh: Any, spec: LatentAttentionSpec = SPEC, **how: Any) -> MultiLatentAttention:
    return MultiLatentAttention(spec, device=mesh, dtype="bfloat16", **how).load(RandomWeights(seed=1))


def rows(x: torch.Tensor, mesh: Any) -> Any:
    return upload(x[None, None].numpy(), mesh, dtype="bfloat16")


def integers(values: Any, mesh: Any) -> Any:
    return upload(np.asarray(values, np.int32), mesh, dtype="int32", layout="row_major")


def prompt(block: Any, x: torch.Tensor, mesh: Any, cache: Any, start: int = 0, pages: Any = None) -> Any:
    positions = integers([list(range(start, start + len(x)))], mesh)
    return block.prefill_forward(rows(x, mesh), cache=cache, positions=positions, page_table=pages)


@torch.no_grad()
def departure(mesh: Any, dtype: Any, *, paged: bool, pieces: tuple[int, ...], steps: int) -> float:
    """Of two users, the second's prompt read in pieces, then both decoding; from one long prefill of each."""
    block = block_of(mesh, cache_dtype=dtype)
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
                mine = cache.for_user(user).after(start) if start else cache.for_user(user)
                y = prompt(block, each[start : start + tokens], mesh, mine, start, pages)
                found.append(max_difference(values.to_torch(y)[0, 0], whole[user][start : start + tokens]))
                start += tokens
        pages = page_table(PAGES, device=mesh) if paged else None
        for at in range(PROMPT, PROMPT + steps):
            now = rows(torch.stack([each[at] for each in x]), mesh)
            y = block.decode_forward(now, cache=cache, positions=integers([at, at], mesh), page_table=pages)
            found.append(max_difference(values.to_torch(y)[0, 0], torch.stack([each[at] for each in whole])))
    return max(found)


@pytest.mark.parametrize(
    ("dtype", "paged", "pieces"), [("bfloat8_b", False, (32, 64)), ("bfloat16", True, (32, 32, 32))]
)
def test_steps_after_pieces_equal_one_long_prefill(dtype: str, paged: bool, pieces: Any, mesh: Any) -> None:
    assert departure(mesh, dtype, paged=paged, pieces=pieces, steps=STEPS) < 1e-4


def on_board(board: str) -> float:
    with open_mesh(board, backend="mock") as mesh:
        return max(
            departure(mesh, "bfloat8_b", paged=paged, pieces=(32, 64), steps=3 if paged else 1)
            for paged in (False, True)
        )


def test_on_eight_chips() -> None:
    assert run_in_process(on_board, "t3k", device="t3k") < 1e-4


@pytest.mark.parametrize("name", ["sizes within tiles", "yarn", "multipliers"])
def test_is_what_transformers_computes(name: str, mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import latent_variants

    (variant,) = (each for each in latent_variants.VARIANTS if each.name.endswith(f", {name}"))
    for case in check_variant(variant, mesh, most=1):
        assert case.status == "passed", case


def test_a_cache_has_one_row_a_token(mesh: Any) -> None:
    import ttnn

    def allocated() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank)

    block, before = block_of(mesh, replace(SPEC, max_context=1536)), allocated()
    cache = block.allocate_cache(users=4, context=1500)
    assert cache.keys is cache.values
    assert tuple(cache.keys.shape) == (4, 1, 1504, 64 + 32)
    assert allocated() - before == 4 * 47 * 3 * 1088 // 12  # of 12 banks
    assert tuple(block.allocate_paged_cache(blocks=3, block=64).keys.shape) == (3, 1, 64, 96)


def test_keeps_the_protocols(mesh: Any) -> None:
    block: Attention = block_of(mesh)
    assert isinstance(block, Cached)
    assert isinstance(block, Paged)


@torch.no_grad()
def test_in_a_layer(mesh: Any) -> None:
    def layer(attention: Any) -> DecoderLayer:
        ffn = SwiGLU(hidden_dim=HIDDEN, intermediate_dim=64, device=mesh).load(RandomWeights())
        return DecoderLayer(attention=attention, ffn=ffn, norm=RMSNorm(dim=HIDDEN, weight=False, device=mesh))

    block, x = block_of(mesh), random(33, HIDDEN)
    first, second = layer(block), layer(block.another())
    second.attention.load(RandomWeights(seed=2))  # type: ignore[attr-defined]
    with shadow() as values:
        whole = values.to_torch(prompt(first, x, mesh, None))[0, 0]
        assert max_difference(values.to_torch(prompt(second, x, mesh, None))[0, 0], whole) > 1e-2
        cache = first.allocate_cache(users=1, context=64)
        prompt(first, x[:32], mesh, cache)
        y = first.decode_forward(rows(x[32:], mesh), cache=cache, positions=integers([32], mesh))
        assert max_difference(values.to_torch(y)[0, 0], whole[32:]) < 1e-4


def test_from_keywords_with_configs_of_its_own(mesh: Any) -> None:
    block = MultiLatentAttention(
        hidden_dim=HIDDEN, num_heads=4, kv_rank=64, nope_dim=32, rope_dim=32, v_head_dim=32, rope_theta=500.0,
        rope_style="interleaved", device=mesh, hw_mode="accuracy",
        hw_config_overrides={"kv_down_matmul": {"weight_dtype": "bfloat8_b"}},
    )  # fmt: skip
    assert block.spec.rope == RopeSpec(theta=500.0, style="interleaved")
    assert block.spec.num_parameters == sum(
        (4 * 64 * HIDDEN, 96 * HIDDEN, 64, 4 * 64 * 64, HIDDEN * 4 * 32)  # q, kv_down, its norm, kv_up, o
    )
    assert block.get_config()["dtypes"]["key_up_weight"] == "bfloat16"
    assert block.get_config()["dtypes"]["kv_down_weight"] == "bfloat8_b"
    assert block.get_default_hw_config("t3k").precision["kv_cache"] == "bfloat8_b"
    assert block.estimate_memory((1, 1, 32, HIDDEN), mode="decode").weight_bytes > 0


def test_what_each_chip_computes() -> None:
    names = {
        work: [op.name for op in latent_attention_request(SPEC, work, PROFILES["balanced"]).ops]
        for work in (PREFILL, DECODE)
    }
    assert "kv_row_cast" in names[PREFILL]
    assert names[DECODE][-4:] == ["transpose_heads", "attended_values", "concat_heads", "output_matmul"]
    assert not {"q_rope_by_user", "kv_row_update"} & set(names[PREFILL])
    plain = latent_attention_request(replace(SPEC, q_rank=None, rope=None), DECODE, PROFILES["accuracy"])
    gone = {"q_down_matmul", "q_latent_norm", "q_rotary", "k_rotary", "cos_rows", "rotary_indices"}
    assert not gone & {op.name for op in plain.ops}
    half = latent_attention_request(SPEC, replace(DECODE, chips=4), PROFILES["balanced"])
    types = half.types
    assert types["attention"].shape == (1, 8, 2, 64)
    assert types["latents"].shape == (8, 1, 1024, 96)  # each chip has all
    assert types["output_weight"].shape == (1, 1, 2 * 64, HIDDEN)
    assert half.ops[-1].name == "all_reduce"


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (replace(DECODE, chips=3), PlacementError, "8 query heads and 1 key-value heads do not split over 3 chips"),
        (replace(DECODE, hidden_chips=2), PlacementError, "the latents of attention do not split over 2 rows of chips yet"),
        (replace(PREFILL, tokens=1030), ShapeError, "a prompt of 1030 tokens with a cache for 1024"),
    ],
)  # fmt: skip
def test_what_is_not_planned(work: Workload, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        latent_attention_request(SPEC, work, PROFILES["balanced"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_rank": 0}, r"^LatentAttentionSpec\(kv_rank=0\): it must be at least 1\.$"),
        ({"eps": 0.0}, r"^LatentAttentionSpec\(eps=0\.0\): it must be above 0\.$"),
        ({"kv_multiplier": -1.0}, r"^LatentAttentionSpec\(kv_multiplier=-1\.0\): it must be above 0\.$"),
        ({"rope_dim": 33}, "rotary embedding turns pairs, so it must be even"),
    ],
)
def test_specs_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **changes)


def test_weights_that_do_not_belong_to_the_spec(mesh: Any) -> None:
    arrays = {
        "q": np.zeros((8 * 64, HIDDEN), np.float32), "kv_down": np.zeros((96, HIDDEN), np.float32),
        "kv_norm": np.ones(64, np.float32), "kv_up": np.zeros((8 * 96, 64), np.float32),
        "o": np.zeros((HIDDEN, 8 * 64), np.float32),
    }  # fmt: skip
    plain = replace(SPEC, q_rank=None)
    MultiLatentAttention(plain, **arrays, device=mesh)  # type: ignore[arg-type]
    with pytest.raises(WeightError, match="q_rank asks for q_down, q_norm and q_up, of which 0 were given"):
        MultiLatentAttention(SPEC, **arrays, device=mesh)  # type: ignore[arg-type]
    with pytest.raises(WeightError, match="latent_bias has no use for kv_bias"):
        MultiLatentAttention(plain, **arrays, kv_bias=np.zeros(96, np.float32), device=mesh)  # type: ignore[arg-type]
    wrong = {**arrays, "kv_up": np.zeros((8 * 96, 32), np.float32)}
    with pytest.raises(WeightError, match=r"the kv_up weight .*\[768, 64\]"):
        MultiLatentAttention(plain, **wrong, device=mesh)  # type: ignore[arg-type]
