"""Protocols, errors and vocabulary that the ttt packages share. No dependencies, any OS."""

from ttt_core.errors import (
    DeviceError as DeviceError,
    GenerationError as GenerationError,
    GoldenError as GoldenError,
    PlacementError as PlacementError,
    ShapeError as ShapeError,
    SpecError as SpecError,
    TttError as TttError,
    UnsupportedOnDevice as UnsupportedOnDevice,
    WeightError as WeightError,
)
from ttt_core.protocols import (
    Attention as Attention,
    CausalLM as CausalLM,
    Embedding as Embedding,
    FeedForward as FeedForward,
    Head as Head,
    KVCache as KVCache,
    Layer as Layer,
    LogitRows as LogitRows,
    Mode as Mode,
    Norm as Norm,
    Tensor as Tensor,
)

__all__ = [
    "Attention",
    "CausalLM",
    "DeviceError",
    "Embedding",
    "FeedForward",
    "GenerationError",
    "GoldenError",
    "Head",
    "KVCache",
    "Layer",
    "LogitRows",
    "Mode",
    "Norm",
    "PlacementError",
    "ShapeError",
    "SpecError",
    "Tensor",
    "TttError",
    "UnsupportedOnDevice",
    "WeightError",
]
