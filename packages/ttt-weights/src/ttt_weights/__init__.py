"""Checkpoints and weights that are converted when first used. No torch needed."""

from ttt_weights.cache import WeightCache as WeightCache, cache_folder as cache_folder
from ttt_weights.checkpoint import Checkpoint as Checkpoint, StoredTensor as StoredTensor
from ttt_weights.lazy import (
    ArraySource as ArraySource,
    FingerprintedSource as FingerprintedSource,
    Float32 as Float32,
    LazyWeight as LazyWeight,
    NoValues as NoValues,
    NoWeight as NoWeight,
    Shapeless as Shapeless,
    Source as Source,
    as_source as as_source,
)
from ttt_weights.left_out import (
    LeftOut as LeftOut,
    Loadable as Loadable,
    RandomWeights as RandomWeights,
    flags_apart as flags_apart,
    or_left_out as or_left_out,
)

__all__ = [
    "ArraySource",
    "Checkpoint",
    "FingerprintedSource",
    "Float32",
    "LazyWeight",
    "LeftOut",
    "Loadable",
    "NoValues",
    "NoWeight",
    "RandomWeights",
    "Shapeless",
    "Source",
    "StoredTensor",
    "WeightCache",
    "as_source",
    "cache_folder",
    "flags_apart",
    "or_left_out",
]
