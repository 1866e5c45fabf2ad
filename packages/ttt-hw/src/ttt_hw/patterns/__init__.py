"""The op-config patterns, one module each, by name."""

from __future__ import annotations

from typing import Any

from ttt_hw.patterns.base import Pattern as Pattern
from ttt_hw.patterns.batched_matmul import BatchedMatmul as BatchedMatmul
from ttt_hw.patterns.bcast_matmul import BcastMatmul as BcastMatmul
from ttt_hw.patterns.broadcast import Broadcast as Broadcast
from ttt_hw.patterns.cache import CacheFill as CacheFill, CacheUpdate as CacheUpdate
from ttt_hw.patterns.collective import AllGather as AllGather, AllReduce as AllReduce, ReduceScatter as ReduceScatter
from ttt_hw.patterns.concat import Concat as Concat
from ttt_hw.patterns.custom import Custom as Custom
from ttt_hw.patterns.decode_attention import DecodeAttention as DecodeAttention
from ttt_hw.patterns.distributed_norm import DistributedNorm as DistributedNorm
from ttt_hw.patterns.dram_sharded_matmul import DramShardedMatmul as DramShardedMatmul
from ttt_hw.patterns.eltwise import EltwiseGate as EltwiseGate
from ttt_hw.patterns.embedding import Embedding as Embedding
from ttt_hw.patterns.expert_matmul import ExpertMatmul as ExpertMatmul
from ttt_hw.patterns.flash_attention import FlashAttention as FlashAttention
from ttt_hw.patterns.fused_all_reduce import FusedAllReduce as FusedAllReduce
from ttt_hw.patterns.gather_matmul import GatherMatmul as GatherMatmul
from ttt_hw.patterns.heads import HeadConcat as HeadConcat, HeadSplit as HeadSplit
from ttt_hw.patterns.lm_head_matmul import LMHeadMatmul as LMHeadMatmul
from ttt_hw.patterns.minimal_matmul import MinimalMatmul as MinimalMatmul
from ttt_hw.patterns.move import Move as Move
from ttt_hw.patterns.norm import InterleavedNorm as InterleavedNorm
from ttt_hw.patterns.reduce import Reduce as Reduce
from ttt_hw.patterns.ring_matmul import RingMatmul as RingMatmul
from ttt_hw.patterns.rotary import RotaryEmbedding as RotaryEmbedding
from ttt_hw.patterns.router import Router as Router
from ttt_hw.patterns.sharded_norm import ShardedNorm as ShardedNorm
from ttt_hw.patterns.softmax import Softmax as Softmax
from ttt_hw.patterns.unary import Unary as Unary

__all__ = [
    "PATTERNS",
    "AllGather",
    "AllReduce",
    "BatchedMatmul",
    "BcastMatmul",
    "Broadcast",
    "CacheFill",
    "CacheUpdate",
    "Concat",
    "Custom",
    "DecodeAttention",
    "DistributedNorm",
    "DramShardedMatmul",
    "EltwiseGate",
    "Embedding",
    "ExpertMatmul",
    "FlashAttention",
    "FusedAllReduce",
    "GatherMatmul",
    "HeadConcat",
    "HeadSplit",
    "InterleavedNorm",
    "LMHeadMatmul",
    "MinimalMatmul",
    "Move",
    "Pattern",
    "Reduce",
    "ReduceScatter",
    "RingMatmul",
    "RotaryEmbedding",
    "Router",
    "ShardedNorm",
    "Softmax",
    "Unary",
]

PATTERNS: dict[str, type[Pattern[Any]]] = {
    pattern.__name__: pattern
    for pattern in (
        AllGather,
        AllReduce,
        FusedAllReduce,
        BatchedMatmul,
        BcastMatmul,
        CacheFill,
        CacheUpdate,
        DecodeAttention,
        DistributedNorm,
        DramShardedMatmul,
        EltwiseGate,
        Embedding,
        FlashAttention,
        HeadConcat,
        HeadSplit,
        InterleavedNorm,
        LMHeadMatmul,
        MinimalMatmul,
        Move,
        ReduceScatter,
        RotaryEmbedding,
        ShardedNorm,
        Softmax,
        Broadcast,
        Reduce,
        Concat,
        Custom,
        Router,
        ExpertMatmul,
        RingMatmul,
        GatherMatmul,
        Unary,
    )
}
"""Every pattern, by name."""
