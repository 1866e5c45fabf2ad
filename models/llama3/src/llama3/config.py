"""The sizes of the Llama 3 family, as its models' config.json give them."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_attention import AttentionSpec, Llama3Scaling, RopeSpec
from ttt_embedding import EmbeddingSpec, HeadSpec
from ttt_ffn import FFNSpec
from ttt_norm import NormSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Config:
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int = 128_256
    max_context: int = 131_072
    tied_head: bool = False
    norm_eps: float = 1e-5
    rope: RopeSpec = RopeSpec(theta=500_000.0)

    @property
    def attention(self) -> AttentionSpec:
        return AttentionSpec(
            hidden_dim=self.hidden_dim,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            max_context=self.max_context,
            rope=self.rope,
        )

    @property
    def ffn(self) -> FFNSpec:
        return FFNSpec(hidden_dim=self.hidden_dim, intermediate_dim=self.intermediate_dim)

    @property
    def norm(self) -> NormSpec:
        return NormSpec(dim=self.hidden_dim, eps=self.norm_eps)

    @property
    def embedding(self) -> EmbeddingSpec:
        return EmbeddingSpec(vocab_size=self.vocab_size, hidden_dim=self.hidden_dim)

    @property
    def head(self) -> HeadSpec:
        return HeadSpec(vocab_size=self.vocab_size, hidden_dim=self.hidden_dim, tied=self.tied_head)


def _stretched(factor: float) -> RopeSpec:
    scaling = Llama3Scaling(factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
    return RopeSpec(theta=500_000.0, scaling=scaling)


LLAMA_3_2_1B = Llama3Config(
    hidden_dim=2048,
    intermediate_dim=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    tied_head=True,
    rope=_stretched(32.0),
)
LLAMA_3_2_3B = Llama3Config(
    hidden_dim=3072,
    intermediate_dim=8192,
    num_layers=28,
    num_heads=24,
    num_kv_heads=8,
    head_dim=128,
    tied_head=True,
    rope=_stretched(32.0),
)
LLAMA_3_1_8B = Llama3Config(
    hidden_dim=4096,
    intermediate_dim=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    rope=_stretched(8.0),
)
