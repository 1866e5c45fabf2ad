"""Transformer layers composed from blocks by Protocol."""

from ttt_patterns.decoder import DecoderLayer as DecoderLayer
from ttt_patterns.model import DecoderModel as DecoderModel
from ttt_patterns.requests import layer_request as layer_request
from ttt_patterns.spec import LayerSpec as LayerSpec, Residual as Residual

__all__ = ["DecoderLayer", "DecoderModel", "LayerSpec", "Residual", "layer_request"]
