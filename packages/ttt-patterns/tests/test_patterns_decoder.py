"""DecoderLayer against transformers' LlamaDecoderLayer, and every block against its Protocol by mypy.

Tolerance: weights of size 1/√k keep every intermediate near 1; the float32 sums on both sides then differ by 1e-6 in practice,
1e-4 is asked.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from ttt_attention import AttentionSpec, ContiguousKVCache, GroupedQueryAttention, RopeSpec
from ttt_core import Layer
from ttt_ffn import FFNSpec, SwiGLU
from ttt_hw import upload
from ttt_norm import NormSpec, RMSNorm
from ttt_patterns import DecoderLayer, LayerSpec
from ttt_testing import max_difference, pcc, shadow

CONTEXT = 128
SHAPES = {  # hidden, intermediate, query heads, key-value heads, head dim
    "odd": (72, 100, 4, 2, 16),
    "head 80": (160, 224, 2, 1, 80),
    "smollm-135m": (576, 1536, 9, 3, 64),
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def theirs(shape: tuple[int, int, int, int, int]) -> tuple[LlamaDecoderLayer, LlamaRotaryEmbedding]:
    hidden, inner, heads, kv_heads, head_dim = shape
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
    )
    layer = LlamaDecoderLayer(config, layer_idx=0)
    for seed, weight in enumerate(layer.parameters()):
        values = random(*weight.shape, seed=seed)
        weight.data = values * weight.shape[1] ** -0.5 if weight.dim() > 1 else 1 + 0.2 * values
    return layer, LlamaRotaryEmbedding(config)


def spec_of(shape: tuple[int, int, int, int, int]) -> LayerSpec[AttentionSpec, FFNSpec, NormSpec]:
    hidden, inner, heads, kv_heads, head_dim = shape
    return LayerSpec(
        attention=AttentionSpec(
            hidden_dim=hidden,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            max_context=CONTEXT,
            rope=RopeSpec(),
        ),
        ffn=FFNSpec(hidden_dim=hidden, intermediate_dim=inner),
        attention_norm=NormSpec(dim=hidden, eps=1e-5),
        ffn_norm=NormSpec(dim=hidden, eps=1e-5),
    )


def ours(
    module: LlamaDecoderLayer, spec: LayerSpec[AttentionSpec, FFNSpec, NormSpec], mesh: Any, dtype: Any
) -> DecoderLayer:
    weights = {name: weight.detach().numpy() for name, weight in module.named_parameters()}
    return DecoderLayer(
        attention=GroupedQueryAttention(
            spec.attention,
            **{name: weights[f"self_attn.{name}_proj.weight"] for name in "qkvo"},
            device=mesh,
            dtype=dtype,
            cache_dtype=dtype,
        ),
        ffn=SwiGLU(
            spec.ffn,
            **{name: weights[f"mlp.{name}_proj.weight"] for name in ("gate", "up", "down")},
            device=mesh,
            dtype=dtype,
        ),
        attention_norm=RMSNorm(spec.attention_norm, weights["input_layernorm.weight"], device=mesh),
        ffn_norm=RMSNorm(spec.ffn_norm, weights["post_attention_layernorm.weight"], device=mesh),
    )


@torch.no_grad()
def recomputed(module: LlamaDecoderLayer, rotary: LlamaRotaryEmbedding, x: torch.Tensor) -> torch.Tensor:
    """x [S, D] → [S, D], without a cache."""
    tokens = len(x)
    tables = rotary(x[None], torch.arange(tokens)[None])
    mask = torch.full((tokens, tokens), -torch.inf).triu(1)[None, None]
    y = module(x[None], attention_mask=mask, position_embeddings=tables)
    whole: torch.Tensor = y[0] if isinstance(y, tuple) else y
    return whole.reshape(tokens, -1)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("rounding", "dtype"), [("none", "bfloat8_b"), ("device", "bfloat16"), ("device", "bfloat8_b")]
)
def test_equals_transformers(name: str, rounding: Literal["none", "device"], dtype: str, mesh: Any) -> None:
    """Three users with prompts of 1, 33 and 64 tokens, then two tokens each through the cache."""
    module, rotary = theirs(SHAPES[name])
    spec = spec_of(SHAPES[name])
    layer = ours(module, spec, mesh, dtype)
    lengths, steps = [1, 33, 64], 2
    sequences = [random(length + steps, spec.ffn.hidden_dim, seed=user) for user, length in enumerate(lengths)]
    expected = [recomputed(module, rotary, sequence) for sequence in sequences]
    rows = []

    def on(x: torch.Tensor) -> Any:
        return upload(x[None, None].numpy(), mesh, dtype="bfloat16")

    def indices(x: Any) -> Any:
        return upload(np.asarray(x, np.int32), mesh, dtype="int32", layout="row_major")

    with shadow(rounding) as values:
        cache = ContiguousKVCache.allocate(spec.attention, users=3, context=CONTEXT, device=mesh, dtype=dtype)  # type: ignore[arg-type]
        for user, (length, sequence) in enumerate(zip(lengths, sequences, strict=True)):
            x, at = on(sequence[:length]), indices([range(length)])
            y = values.to_torch(layer.prefill_forward(x, cache=cache.for_user(user), positions=at))
            alone = values.to_torch(layer.prefill_forward(x, cache=None, positions=at))
            assert torch.equal(y, alone)
            rows.append((y[0, 0], expected[user][:length]))
        for step in range(steps):
            now = [length + step for length in lengths]
            x = on(torch.stack([sequence[at] for sequence, at in zip(sequences, now, strict=True)]))
            y = values.to_torch(layer.decode_forward(x, cache=cache, positions=indices(now)))
            rows.append((y[0, 0], torch.stack([whole[at] for whole, at in zip(expected, now, strict=True)])))
    for actual, wanted in rows:
        assert actual.shape == wanted.shape
        if rounding == "none":
            assert max_difference(actual, wanted) < 1e-4
        else:
            assert pcc(actual, wanted) > (0.999 if dtype == "bfloat16" else 0.99)


def test_keeps_the_protocol(mesh: Any) -> None:
    module, _ = theirs(SHAPES["odd"])
    layer: Layer = ours(module, spec_of(SHAPES["odd"]), mesh, "bfloat16")
    assert isinstance(layer, Layer)


def test_equal_layers_are_equal_specs() -> None:
    assert spec_of(SHAPES["odd"]) == spec_of(SHAPES["odd"])
    assert len({spec_of(SHAPES["odd"]), spec_of(SHAPES["odd"]), spec_of(SHAPES["head 80"])}) == 2


BLOCKS = """\
from ttt_attention import ContiguousKVCache, GroupedQueryAttention
from ttt_core import Attention, Embedding, FeedForward, Head, KVCache, Layer, Norm
from ttt_embedding import LMHead, TokenEmbedding
from ttt_ffn import SwiGLU
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer

def fits(
    norm: RMSNorm, ffn: SwiGLU, attention: GroupedQueryAttention, embedding: TokenEmbedding, head: LMHead,
    layer: DecoderLayer, cache: ContiguousKVCache,
) -> tuple[Norm, FeedForward, Attention, Embedding, Head, Layer, KVCache]:
    return norm, ffn, attention, embedding, head, layer, cache

def fits_not(norm: RMSNorm) -> Attention:
    return norm   # line 15
"""


def test_blocks_keep_their_protocols_by_type(tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--cache-dir", str(tmp_path), "blocks.py"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line and line.startswith("blocks.py")]
    assert len(errors) == 1, checked.stdout + checked.stderr
    assert errors[0].startswith("blocks.py:15: error: Incompatible return value type")
