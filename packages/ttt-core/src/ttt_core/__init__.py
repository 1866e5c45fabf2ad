"""Protocols, errors and vocabulary that the ttt packages share. No dependencies, any OS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from ttt_core.keywords import SpecKeywords as SpecKeywords
    from ttt_core.lazy_module import LazyModule as LazyModule
    from ttt_core.on_demand import on_demand as on_demand
    from ttt_core.protocols import (
        Attention as Attention,
        Cached as Cached,
        CausalLM as CausalLM,
        CrossAttention as CrossAttention,
        Embedding as Embedding,
        FeedForward as FeedForward,
        Head as Head,
        KVCache as KVCache,
        Layer as Layer,
        LogitRows as LogitRows,
        Mode as Mode,
        Norm as Norm,
        Paged as Paged,
        ResumableCache as ResumableCache,
        Template as Template,
        Tensor as Tensor,
        Weight as Weight,
        Weighted as Weighted,
    )
    from ttt_core.reference import Closeness as Closeness, Referenced as Referenced, TrackedSpec as TrackedSpec
    from ttt_core.registry import ModuleRecord as ModuleRecord, ModuleTier as ModuleTier, modules as modules
else:
    from ttt_core.on_demand import on_demand

    __getattr__ = on_demand(  # dataclasses take longer to import than all the rest
        __name__,
        {
            "errors": [
                "DeviceError",
                "GenerationError",
                "GoldenError",
                "PlacementError",
                "ShapeError",
                "SpecError",
                "TttError",
                "UnsupportedOnDevice",
                "WeightError",
            ],
            "keywords": ["SpecKeywords"],
            "lazy_module": ["LazyModule"],
            "protocols": [
                "Attention",
                "Cached",
                "CausalLM",
                "CrossAttention",
                "Embedding",
                "FeedForward",
                "Head",
                "KVCache",
                "Layer",
                "LogitRows",
                "Mode",
                "Norm",
                "Paged",
                "ResumableCache",
                "Template",
                "Tensor",
                "Weight",
                "Weighted",
            ],
            "reference": ["Closeness", "Referenced", "TrackedSpec"],
            "registry": ["ModuleRecord", "ModuleTier", "modules"],
        },
        globals(),
    )

__all__ = [
    "Attention",
    "Cached",
    "CausalLM",
    "Closeness",
    "CrossAttention",
    "DeviceError",
    "Embedding",
    "FeedForward",
    "GenerationError",
    "GoldenError",
    "Head",
    "KVCache",
    "Layer",
    "LazyModule",
    "LogitRows",
    "Mode",
    "ModuleRecord",
    "ModuleTier",
    "Norm",
    "Paged",
    "PlacementError",
    "Referenced",
    "ResumableCache",
    "ShapeError",
    "SpecError",
    "SpecKeywords",
    "Template",
    "Tensor",
    "TrackedSpec",
    "TttError",
    "UnsupportedOnDevice",
    "Weight",
    "WeightError",
    "Weighted",
    "modules",
    "on_demand",
]
