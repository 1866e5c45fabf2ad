"""Checkpoints and weights that are converted when first used. No torch needed."""

from ttt_weights.checkpoint import Checkpoint as Checkpoint, StoredTensor as StoredTensor
from ttt_weights.lazy import (
    ArraySource as ArraySource,
    Float32 as Float32,
    LazyWeight as LazyWeight,
    NoValues as NoValues,
    NoWeight as NoWeight,
    Source as Source,
    as_source as as_source,
)

__all__ = [
    "ArraySource",
    "Checkpoint",
    "Float32",
    "LazyWeight",
    "NoValues",
    "NoWeight",
    "Source",
    "StoredTensor",
    "as_source",
]
