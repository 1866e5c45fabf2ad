"""Token embedding and language-model head for ttnn."""

from ttt_embedding.head import LMHead as LMHead
from ttt_embedding.spec import EmbeddingSpec as EmbeddingSpec, HeadSpec as HeadSpec
from ttt_embedding.token import TokenEmbedding as TokenEmbedding

__all__ = ["EmbeddingSpec", "HeadSpec", "LMHead", "TokenEmbedding"]
