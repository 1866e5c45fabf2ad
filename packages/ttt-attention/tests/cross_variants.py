"""Variants of attention to a memory, for the conformance session; all users have the same memory (test_attention_cross.py gives
each its own).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ttt_attention import CrossAttentionSpec, MemoryCache, MultiHeadCrossAttention
from ttt_core import Tensor
from ttt_hw import upload
from ttt_testing.variants import Precision, Variant, seeded

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MEMORY = 128, 16, 8, 32, 45
SPEC = CrossAttentionSpec(
    hidden_dim=HIDDEN, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, max_memory=MEMORY
)


def weights_of(spec: CrossAttentionSpec) -> dict[str, torch.Tensor]:
    """By the names of MultiHeadCrossAttention; sharp enough that what attention looks at counts."""
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    shapes = {"q": (q, spec.hidden_dim), "k": (kv, spec.memory), "v": (kv, spec.memory), "o": (spec.hidden_dim, q)}
    made = {name: seeded(name, *shape, scale=3.0 if name in "qk" else 1.0) for name, shape in shapes.items()}
    made |= {f"{name}_bias": seeded(f"{name}_bias", shapes[name][0], scale=0.5) for name in spec.heads.biased}
    return made | ({"o_bias": seeded("o_bias", spec.hidden_dim, scale=0.5)} if spec.output_bias else {})


def memory_of(spec: CrossAttentionSpec) -> torch.Tensor:
    """[M, D'], exact on the device."""
    return seeded("memory", MEMORY * spec.memory, scale=1.0).reshape(MEMORY, spec.memory).bfloat16().float()


@dataclass(frozen=True)
class Remembering:
    """The block with a memory, as a ttt_core.Attention: users are given it when their cache is made."""

    block: MultiHeadCrossAttention
    memory: torch.Tensor
    mesh: Any

    @property
    def spec(self) -> CrossAttentionSpec:
        return self.block.spec

    @property
    def weights(self) -> Any:
        return self.block.weights

    def allocate_cache(self, *, users: int, context: int) -> MemoryCache:
        cache = self.block.allocate_cache(users=users, context=MEMORY)
        x = upload(torch.zeros(1, 1, 32, HIDDEN).numpy(), self.mesh, dtype="bfloat16")
        for user in range(users):
            self.block.prefill_forward(x, memory=self._held(), cache=cache.for_user(user))
        return cache

    def prefill_forward(self, x: Tensor, /, *, cache: Any, positions: Tensor, page_table: Any = None) -> Tensor:
        return self.block.prefill_forward(x, memory=self._held(), cache=cache)

    def decode_forward(self, x: Tensor, /, *, cache: Any, positions: Tensor, page_table: Any = None) -> Tensor:
        return self.block.decode_forward(x, cache=cache)

    def _held(self) -> Any:
        return upload(self.memory[None, None].numpy(), self.mesh, dtype="bfloat16")


def build(spec: CrossAttentionSpec, mesh: Any, precision: Precision) -> Remembering:
    weights: dict[str, Any] = {name: weight.numpy() for name, weight in weights_of(spec).items()}
    exact: dict[str, Any] = {"dtype": "bfloat16", "cache_dtype": "bfloat16"}
    chosen = exact if precision == "bfloat16" else {"hw_mode": "performance"}
    return Remembering(MultiHeadCrossAttention(spec, **weights, device=mesh, **chosen), memory_of(spec), mesh)


def reference(spec: CrossAttentionSpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """Plain torch: BartAttention with a memory."""
    w, none = weights_of(spec), torch.zeros(1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        read = {"q": x[0], "k": memory_of(spec), "v": memory_of(spec)}
        q, k, v = (
            (read[name] @ w[name].T + w.get(f"{name}_bias", none)).unflatten(-1, (-1, spec.head_dim)).transpose(0, 1)
            for name in "qkv"
        )
        groups = spec.num_heads // spec.num_kv_heads
        scores = q @ k.repeat_interleave(groups, 0).transpose(-1, -2) * spec.heads.scale
        heads = scores.softmax(-1) @ v.repeat_interleave(groups, 0)
        return (heads.transpose(0, 1).flatten(1) @ w["o"].T + w.get("o_bias", none))[None]

    return forward


def variant(name: str, feature: str, spec: CrossAttentionSpec, without: CrossAttentionSpec | None) -> Variant:
    return Variant(
        name=f"cross-attention, {name}",
        feature=feature,
        protocol="attention",
        spec=spec,
        without=without,
        build=build,
        reference=reference,
    )


VARIANTS = [
    variant("grouped queries", "cross-attention", SPEC, None),
    variant("multi-head", "cross-attention", replace(SPEC, num_kv_heads=HEADS), None),
    variant("heads of 80", "cross-attention", replace(SPEC, num_heads=8, head_dim=80), None),
    variant("memory of another width", "cross-attention", replace(SPEC, memory_dim=192), None),
    variant("biases", "cross-attention biases", replace(SPEC, qkv_bias=True, output_bias=True), SPEC),
    variant("k without bias", "cross-attention biases", replace(SPEC, qkv_bias="qv", output_bias=True), SPEC),
    variant("own scale", "cross-attention scale", replace(SPEC, score_scale=0.5), SPEC),
]
