"""Feed-forward blocks for ttnn."""

from ttt_ffn.gated import SwiGLU as SwiGLU
from ttt_ffn.requests import ffn_request as ffn_request
from ttt_ffn.spec import ActivationType as ActivationType, FFNSpec as FFNSpec, MoESpec as MoESpec

__all__ = ["ActivationType", "FFNSpec", "MoESpec", "SwiGLU", "ffn_request"]
