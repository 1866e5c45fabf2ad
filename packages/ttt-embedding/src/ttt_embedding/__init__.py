"""Token embedding and language-model head for ttnn."""

from ttt_embedding.head import LMHead as LMHead
from ttt_embedding.requests import embedding_request as embedding_request, head_request as head_request
from ttt_embedding.spec import EmbeddingSpec as EmbeddingSpec, HeadSpec as HeadSpec
from ttt_embedding.token import TokenEmbedding as TokenEmbedding

__all__ = ["EmbeddingSpec", "HeadSpec", "LMHead", "TokenEmbedding", "embedding_request", "head_request"]
