"""Attention to a memory against transformers' BartAttention and plain torch: prompts, then steps of two users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import BartConfig
from transformers.models.bart.modeling_bart import BartAttention

from ttt_attention import CrossAttentionSpec, MultiHeadCrossAttention
from ttt_core import CrossAttention, ShapeError, SpecError
from ttt_hw import open_mesh, run_in_process, upload
from ttt_testing import max_difference, shadow

SPEC = CrossAttentionSpec(
    hidden_dim=128, num_heads=8, num_kv_heads=8, head_dim=16, max_memory=96, qkv_bias=True, output_bias=True
)
SPECS = {
    "bart": SPEC,
    "k without bias": replace(SPEC, qkv_bias="qv", output_bias=False),  # Whisper
    "grouped, another width": replace(
        SPEC, num_kv_heads=2, memory_dim=192, head_dim=80, qkv_bias=False, score_scale=0.3
    ),
}
MEMORY = 45


def seeded(*shape: int, seed: int) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values * shape[-1] ** -0.5 if len(shape) > 1 else values


def weights_of(spec: CrossAttentionSpec) -> dict[str, torch.Tensor]:
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {"q": (q, spec.hidden_dim), "k": (kv, spec.memory), "v": (kv, spec.memory)}
    shapes["o"] = (spec.hidden_dim, q)
    shapes |= {f"{name}_bias": shapes[name][:1] for name in spec.heads.biased}
    shapes |= {"o_bias": (spec.hidden_dim,)} if spec.output_bias else {}
    return {name: 2 * seeded(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}


def in_torch(spec: CrossAttentionSpec, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """x [S, D], memory [M, D'] → [S, D]."""
    w, none = weights_of(spec), torch.zeros(1)
    read = {"q": x, "k": memory, "v": memory}
    q, k, v = (
        (read[name] @ w[name].T + w.get(f"{name}_bias", none)).unflatten(-1, (-1, spec.head_dim)).transpose(0, 1)
        for name in "qkv"
    )
    groups = spec.num_heads // spec.num_kv_heads
    scores = q @ k.repeat_interleave(groups, 0).transpose(-1, -2) * spec.heads.scale
    heads = scores.softmax(-1) @ v.repeat_interleave(groups, 0)
    return heads.transpose(0, 1).flatten(1) @ w["o"].T + w.get("o_bias", none)


def rows(x: torch.Tensor, mesh: Any) -> Any:
    return upload(x[None, None].numpy(), mesh, dtype="bfloat16")


@torch.no_grad()
def departures(mesh: Any, name: str, spec: CrossAttentionSpec) -> list[float]:
    weights: dict[str, Any] = {role: weight.numpy() for role, weight in weights_of(spec).items()}
    block = MultiHeadCrossAttention(spec, **weights, device=mesh)
    memories = [seeded(MEMORY, spec.memory, seed=10 + user) * 8 for user in range(2)]
    x = seeded(35, spec.hidden_dim, seed=20) * 8
    found = []
    with shadow() as values:
        cache = block.allocate_cache(users=2, context=MEMORY)
        for user, memory in enumerate(memories):
            y = block.prefill_forward(rows(x[:33], mesh), memory=rows(memory, mesh), cache=cache.for_user(user))
            found.append(max_difference(values.to_torch(y)[0, 0], in_torch(spec, x[:33], memory)))
        y = block.decode_forward(rows(x[33:], mesh), cache=cache)
        expected = torch.cat([in_torch(spec, x[33 + user :][:1], memory) for user, memory in enumerate(memories)])
        found.append(max_difference(values.to_torch(y)[0, 0], expected))
        other = torch.cat([in_torch(spec, x[33 + user :][:1], memory[:-1]) for user, memory in enumerate(memories)])
        assert max_difference(values.to_torch(y)[0, 0], other) > 1e-3  # the last token counts
    return found


@pytest.mark.parametrize("name", SPECS)
def test_equals_torch(name: str, mesh: Any) -> None:
    assert max(departures(mesh, name, SPECS[name])) < 1e-4


def on_board(board: str) -> float:
    with open_mesh(board, backend="mock") as mesh:
        return max(departure for name, spec in SPECS.items() for departure in departures(mesh, name, spec))


def test_on_eight_chips() -> None:
    assert run_in_process(on_board, "t3k", device="t3k") < 1e-4


@torch.no_grad()
def test_torch_is_transformers() -> None:
    theirs = BartAttention(128, 8, config=BartConfig(attn_implementation="eager"), layer_idx=0).eval()
    for name, weight in weights_of(SPEC).items():
        role, _, bias = name.partition("_")
        projection = getattr(theirs, "out_proj" if role == "o" else f"{role}_proj")
        (projection.bias if bias else projection.weight).copy_(weight)
    x, memory = seeded(5, 128, seed=1) * 8, seeded(MEMORY, 128, seed=2) * 8
    expected = theirs(x[None], key_value_states=memory[None])[0][0]
    assert max_difference(in_torch(SPEC, x, memory), expected) < 1e-5


def test_what_is_refused(mesh: Any) -> None:
    with pytest.raises(SpecError, match=r"CrossAttentionSpec\(memory_dim=0\): it must be at least 1\."):
        replace(SPEC, memory_dim=0)
    weights: dict[str, Any] = {role: weight.numpy() for role, weight in weights_of(SPEC).items()}
    block = MultiHeadCrossAttention(SPEC, **weights, device=mesh)
    assert isinstance(block, CrossAttention)
    cache = block.allocate_cache(users=2, context=64)
    x = rows(seeded(32, 128, seed=1), mesh)
    with pytest.raises(
        ShapeError, match=r"^a memory of 32 tokens with a cache for memories of 64: they must be as long\."
    ):
        block.prefill_forward(x, memory=x, cache=cache)
    with pytest.raises(ShapeError, match=r"^user 2 of a memory cache for 2 users; slots are 0 to 1\.$"):
        cache.for_user(2)


def test_a_prompt_takes_what_its_memory_takes(mesh: Any) -> None:
    """As long a memory as there may be, unless told."""
    block = MultiHeadCrossAttention(hidden_dim=128, num_heads=8, max_memory=1024, device=mesh)
    short, longer, typical = (
        block.estimate_memory((1, 1, 32, 128), context=context).activation_bytes for context in (64, 1024, 0)
    )
    assert longer == typical > 4 * short
    times = [block.op_times("prefill", 32, context=context) for context in (64, 1024)]
    assert sum(op.time_us or 0 for op in times[0]) < sum(op.time_us or 0 for op in times[1])
