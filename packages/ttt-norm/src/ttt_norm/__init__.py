"""Normalisation blocks for ttnn."""

from ttt_norm.layer import LayerNorm as LayerNorm
from ttt_norm.requests import norm_request as norm_request
from ttt_norm.rms import RMSNorm as RMSNorm
from ttt_norm.spec import NormSpec as NormSpec, NormType as NormType

__all__ = ["LayerNorm", "NormSpec", "NormType", "RMSNorm", "norm_request"]
