"""Feed-forward blocks for ttnn."""

from ttt_ffn.experts import MoE as MoE
from ttt_ffn.gated import GatedMLP as GatedMLP, GeGLU as GeGLU, SwiGLU as SwiGLU
from ttt_ffn.plain import MLP as MLP
from ttt_ffn.requests import ffn_request as ffn_request
from ttt_ffn.spec import ActivationType as ActivationType, FFNSpec as FFNSpec, MoESpec as MoESpec

__all__ = ["MLP", "ActivationType", "FFNSpec", "GatedMLP", "GeGLU", "MoE", "MoESpec", "SwiGLU", "ffn_request"]
