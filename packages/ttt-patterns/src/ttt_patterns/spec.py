"""What a layer computes, whatever its parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

AttentionT = TypeVar("AttentionT")
FFNT = TypeVar("FFNT")
NormT = TypeVar("NormT")


@dataclass(frozen=True, kw_only=True)
class LayerSpec(Generic[AttentionT, FFNT, NormT]):
    """The specs of a layer's parts; equal layers are equal objects."""

    attention: AttentionT
    ffn: FFNT
    attention_norm: NormT
    ffn_norm: NormT
