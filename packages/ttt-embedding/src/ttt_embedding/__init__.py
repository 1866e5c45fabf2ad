"""Token and position embeddings and language-model heads for ttnn."""

from ttt_embedding.head import LMHead as LMHead
from ttt_embedding.position import PositionEmbedding as PositionEmbedding
from ttt_embedding.requests import embedding_request as embedding_request, head_request as head_request
from ttt_embedding.spec import (
    EmbeddingSpec as EmbeddingSpec,
    HeadSpec as HeadSpec,
    HeadTransformSpec as HeadTransformSpec,
    PositionSpec as PositionSpec,
)
from ttt_embedding.token import TokenEmbedding as TokenEmbedding
from ttt_embedding.transform import HeadTransform as HeadTransform

__all__ = [
    "EmbeddingSpec",
    "HeadSpec",
    "HeadTransform",
    "HeadTransformSpec",
    "LMHead",
    "PositionEmbedding",
    "PositionSpec",
    "TokenEmbedding",
    "embedding_request",
    "head_request",
]
