"""Attention blocks with rotary embeddings and KV caches for ttnn."""

from ttt_attention.base import BaseAttention as BaseAttention
from ttt_attention.cache import (
    MAX_USERS as MAX_USERS,
    ContiguousKVCache as ContiguousKVCache,
    cache_placement as cache_placement,
)
from ttt_attention.cross import MemoryCache as MemoryCache, MultiHeadCrossAttention as MultiHeadCrossAttention
from ttt_attention.cross_requests import cross_attention_request as cross_attention_request
from ttt_attention.flash import FlashAttention as FlashAttention
from ttt_attention.grouped_query import GroupedQueryAttention as GroupedQueryAttention
from ttt_attention.heads import padded_head_dim as padded_head_dim
from ttt_attention.latent import MultiLatentAttention as MultiLatentAttention
from ttt_attention.latent_requests import latent_attention_request as latent_attention_request
from ttt_attention.latent_spec import LatentAttentionSpec as LatentAttentionSpec
from ttt_attention.masks import Masks as Masks
from ttt_attention.multi_head import MultiHeadAttention as MultiHeadAttention
from ttt_attention.paged import PagedKVCache as PagedKVCache, page_table as page_table
from ttt_attention.requests import attention_request as attention_request
from ttt_attention.rotary import Rotary as Rotary, inverse_frequencies as inverse_frequencies
from ttt_attention.scalings import (
    DynamicScaling as DynamicScaling,
    LinearScaling as LinearScaling,
    Llama3Scaling as Llama3Scaling,
    LongRopeScaling as LongRopeScaling,
    ProportionalScaling as ProportionalScaling,
    RopeScaling as RopeScaling,
    YarnScaling as YarnScaling,
)
from ttt_attention.sliding_window import SlidingWindowAttention as SlidingWindowAttention
from ttt_attention.spec import (
    AttentionSpec as AttentionSpec,
    CrossAttentionSpec as CrossAttentionSpec,
    GateSpec as GateSpec,
    HeadNormSpec as HeadNormSpec,
    RopeSpec as RopeSpec,
    TemperatureSpec as TemperatureSpec,
)

__all__ = [
    "MAX_USERS",
    "AttentionSpec",
    "BaseAttention",
    "ContiguousKVCache",
    "CrossAttentionSpec",
    "DynamicScaling",
    "FlashAttention",
    "GateSpec",
    "GroupedQueryAttention",
    "HeadNormSpec",
    "LatentAttentionSpec",
    "LinearScaling",
    "Llama3Scaling",
    "LongRopeScaling",
    "Masks",
    "MemoryCache",
    "MultiHeadAttention",
    "MultiHeadCrossAttention",
    "MultiLatentAttention",
    "PagedKVCache",
    "ProportionalScaling",
    "RopeScaling",
    "RopeSpec",
    "Rotary",
    "SlidingWindowAttention",
    "TemperatureSpec",
    "YarnScaling",
    "attention_request",
    "cache_placement",
    "cross_attention_request",
    "inverse_frequencies",
    "latent_attention_request",
    "padded_head_dim",
    "page_table",
]
