"""Small real blocks with weights, and what they compute, written in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ttt_attention import AttentionSpec, GroupedQueryAttention, RopeSpec
from ttt_embedding import EmbeddingSpec, HeadSpec, LMHead, TokenEmbedding
from ttt_ffn import FFNSpec, SwiGLU
from ttt_norm import NormSpec, RMSNorm
from ttt_patterns import DecoderLayer, DecoderModel

WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCABULARY, EPS = 96, 4, 2, 32, 160, 256, 1e-5
ATTENTION = AttentionSpec(
    hidden_dim=WIDTH, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, max_context=256, rope=RopeSpec()
)
FFN = FFNSpec(hidden_dim=WIDTH, intermediate_dim=INNER)
NORM = NormSpec(dim=WIDTH, eps=EPS)
Function = Callable[[torch.Tensor], torch.Tensor]


class Blocks:
    """Each call makes a block with weights of its own; `functions` has what the block should compute."""

    def __init__(self, mesh: Any) -> None:
        self.mesh = mesh
        self.functions: dict[int, Function] = {}
        self._random = np.random.default_rng(0)

    def of(self, block: Any) -> Function:
        return self.functions[id(block)]

    def weights(self, *shape: int) -> NDArray[np.float32]:
        return (self._random.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)

    def norm(self, spec: NormSpec = NORM, kind: type[RMSNorm] = RMSNorm) -> RMSNorm:
        weight = self.weights(WIDTH) * WIDTH**0.5
        block = kind(spec, weight, device=self.mesh)
        w = torch.from_numpy(weight)
        self.functions[id(block)] = lambda x: x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * w
        return block

    def ffn(self, dtype: Any = "bfloat8_b", *, swapped: bool = False, kind: type[SwiGLU] = SwiGLU) -> SwiGLU:
        gate, up, down = self.weights(INNER, WIDTH), self.weights(INNER, WIDTH), self.weights(WIDTH, INNER)
        first, second = (up, gate) if swapped else (gate, up)
        block = kind(FFN, gate=first, up=second, down=down, device=self.mesh, dtype=dtype)
        g, u, d = (torch.from_numpy(weight) for weight in (gate, up, down))
        self.functions[id(block)] = lambda x: (torch.nn.functional.silu(x @ g.T) * (x @ u.T)) @ d.T
        return block

    def attention(
        self, spec: AttentionSpec = ATTENTION, kind: type[GroupedQueryAttention] = GroupedQueryAttention, **options: Any
    ) -> GroupedQueryAttention:
        q, o = self.weights(HEADS * HEAD_DIM, WIDTH), self.weights(WIDTH, HEADS * HEAD_DIM)
        k, v = self.weights(KV_HEADS * HEAD_DIM, WIDTH), self.weights(KV_HEADS * HEAD_DIM, WIDTH)
        block = kind(spec, q=3 * q, k=3 * k, v=v, o=o, device=self.mesh, **options)
        tensors = [torch.from_numpy(weight) for weight in (3 * q, 3 * k, v, o)]
        self.functions[id(block)] = lambda x: torch_attention(x, *tensors)
        return block

    def head(self, weight: NDArray[np.float32] | None = None) -> LMHead:
        weight = self.weights(VOCABULARY, WIDTH) if weight is None else weight
        return LMHead(HeadSpec(vocab_size=VOCABULARY, hidden_dim=WIDTH), weight, device=self.mesh)

    def layer(self) -> DecoderLayer:
        return DecoderLayer(
            attention=self.attention(), ffn=self.ffn(), attention_norm=self.norm(), ffn_norm=self.norm()
        )

    def model(self, num_layers: int = 2) -> DecoderModel:
        table = self.weights(VOCABULARY, WIDTH)
        return DecoderModel(
            embedding=TokenEmbedding(EmbeddingSpec(vocab_size=VOCABULARY, hidden_dim=WIDTH), table, device=self.mesh),
            layers=[self.layer() for _ in range(num_layers)],
            final_norm=self.norm(),
            head=self.head(),
            vocab_size=VOCABULARY,
            max_context=256,
            device=self.mesh,
        )


def torch_attention(
    x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor
) -> torch.Tensor:
    """x [1, S, D] → the same: LlamaAttention without its cache."""
    tokens = x.shape[1]
    frequencies = 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.arange(tokens)[:, None] * frequencies
    cos, sin = (torch.cat([table, table], -1) for table in (angles.cos(), angles.sin()))

    def heads(weight: torch.Tensor) -> torch.Tensor:
        return (x[0] @ weight.T).reshape(tokens, -1, HEAD_DIM).transpose(0, 1)

    def turned(y: torch.Tensor) -> torch.Tensor:
        first, second = y.chunk(2, -1)
        return y * cos + torch.cat([-second, first], -1) * sin

    keys, values = (y.repeat_interleave(HEADS // KV_HEADS, 0) for y in (turned(heads(k)), heads(v)))
    scores = turned(heads(q)) @ keys.transpose(1, 2) / HEAD_DIM**0.5
    mask = torch.full((tokens, tokens), -torch.inf).triu(1)
    joined = ((scores + mask).softmax(-1) @ values).transpose(0, 1).reshape(1, tokens, -1)
    return joined @ o.T


@pytest.fixture
def blocks(mesh: Any) -> Blocks:
    return Blocks(mesh)
