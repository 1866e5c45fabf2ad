"""What a block asks of a chip, as data: operations, the tensors between them, and what stays in memory.

A block package writes these lists; the planner reads them and knows nothing else of a block. Shapes are of one chip. A planner
picks for each request one of the patterns that serve its class.
"""

from __future__ import annotations

from ttt_hw.requests.attention import (
    DecodeAttentionRequest as DecodeAttentionRequest,
    PrefillAttentionRequest as PrefillAttentionRequest,
)
from ttt_hw.requests.base import (
    Activation as Activation,
    OpRequest as OpRequest,
    Stored as Stored,
    StoredKind as StoredKind,
    TensorType as TensorType,
    field_names as field_names,
)
from ttt_hw.requests.block import BlockRequest as BlockRequest
from ttt_hw.requests.cache import CacheFillRequest as CacheFillRequest, CacheUpdateRequest as CacheUpdateRequest
from ttt_hw.requests.custom import CustomRequest as CustomRequest
from ttt_hw.requests.elementwise import (
    BinaryRequest as BinaryRequest,
    BroadcastRequest as BroadcastRequest,
    UnaryRequest as UnaryRequest,
)
from ttt_hw.requests.experts import ExpertMatmulRequest as ExpertMatmulRequest, RouterRequest as RouterRequest
from ttt_hw.requests.heads import (
    HeadConcatRequest as HeadConcatRequest,
    HeadSplitRequest as HeadSplitRequest,
    RotaryRequest as RotaryRequest,
)
from ttt_hw.requests.matmul import (
    BatchedMatmulRequest as BatchedMatmulRequest,
    LMHeadRequest as LMHeadRequest,
    MatmulRequest as MatmulRequest,
)
from ttt_hw.requests.movement import (
    CollectiveRequest as CollectiveRequest,
    ConcatRequest as ConcatRequest,
    EmbeddingRequest as EmbeddingRequest,
    MoveRequest as MoveRequest,
)
from ttt_hw.requests.rows import (
    NormRequest as NormRequest,
    ReduceRequest as ReduceRequest,
    SoftmaxRequest as SoftmaxRequest,
)
from ttt_hw.requests.workload import Workload as Workload, decoding as decoding, prefilling as prefilling

__all__ = [
    "BatchedMatmulRequest",
    "BinaryRequest",
    "BlockRequest",
    "BroadcastRequest",
    "CacheFillRequest",
    "CacheUpdateRequest",
    "CollectiveRequest",
    "ConcatRequest",
    "CustomRequest",
    "DecodeAttentionRequest",
    "EmbeddingRequest",
    "ExpertMatmulRequest",
    "HeadConcatRequest",
    "HeadSplitRequest",
    "LMHeadRequest",
    "MatmulRequest",
    "MoveRequest",
    "NormRequest",
    "OpRequest",
    "PrefillAttentionRequest",
    "ReduceRequest",
    "RotaryRequest",
    "RouterRequest",
    "SoftmaxRequest",
    "Stored",
    "StoredKind",
    "TensorType",
    "UnaryRequest",
    "Workload",
    "decoding",
    "prefilling",
]
