"""Attention blocks with rotary embeddings and KV caches for ttnn."""

from ttt_attention.cache import (
    MAX_USERS as MAX_USERS,
    ContiguousKVCache as ContiguousKVCache,
    cache_placement as cache_placement,
)
from ttt_attention.grouped_query import GroupedQueryAttention as GroupedQueryAttention
from ttt_attention.heads import padded_head_dim as padded_head_dim
from ttt_attention.masks import Masks as Masks
from ttt_attention.multi_head import MultiHeadAttention as MultiHeadAttention
from ttt_attention.requests import attention_request as attention_request
from ttt_attention.rotary import Rotary as Rotary, inverse_frequencies as inverse_frequencies
from ttt_attention.spec import (
    AttentionSpec as AttentionSpec,
    HeadNormSpec as HeadNormSpec,
    Llama3Scaling as Llama3Scaling,
    LongRopeScaling as LongRopeScaling,
    RopeSpec as RopeSpec,
)

__all__ = [
    "MAX_USERS",
    "AttentionSpec",
    "ContiguousKVCache",
    "GroupedQueryAttention",
    "HeadNormSpec",
    "Llama3Scaling",
    "LongRopeScaling",
    "Masks",
    "MultiHeadAttention",
    "RopeSpec",
    "Rotary",
    "attention_request",
    "cache_placement",
    "inverse_frequencies",
    "padded_head_dim",
]
