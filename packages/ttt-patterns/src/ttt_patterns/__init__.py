"""Transformer layers composed from blocks by Protocol.

Names are imported when first used: plans need the specs and lists of operations, and ttnn takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttt_core import on_demand

if TYPE_CHECKING:
    from ttt_patterns.cross import CrossAttentionLayer as CrossAttentionLayer
    from ttt_patterns.decoder import DecoderLayer as DecoderLayer
    from ttt_patterns.encoder import EncoderLayer as EncoderLayer
    from ttt_patterns.model import DecoderModel as DecoderModel
    from ttt_patterns.requests import layer_request as layer_request
    from ttt_patterns.spec import LayerSpec as LayerSpec, Residual as Residual
else:
    __getattr__ = on_demand(
        __name__,
        {
            "cross": ["CrossAttentionLayer"],
            "decoder": ["DecoderLayer"],
            "encoder": ["EncoderLayer"],
            "model": ["DecoderModel"],
            "requests": ["layer_request"],
            "spec": ["LayerSpec", "Residual"],
        },
        globals(),
    )

__all__ = [
    "CrossAttentionLayer",
    "DecoderLayer",
    "DecoderModel",
    "EncoderLayer",
    "LayerSpec",
    "Residual",
    "layer_request",
]
