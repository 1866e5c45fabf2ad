"""Hugging Face checkpoints to running ttnn models.

Names are imported when first used: `ttt --help` loads this package for its command, and ttnn takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttt_factory.check import CheckReport as CheckReport
    from ttt_factory.factory import ModelFactory as ModelFactory
    from ttt_factory.huggingface import read_config as read_config, spec_of_config as spec_of_config
    from ttt_factory.memory import Demand as Demand, DramUse as DramUse, dram_use as dram_use
    from ttt_factory.requests import (
        ModelPart as ModelPart,
        ModelRequest as ModelRequest,
        model_request as model_request,
        precision_of as precision_of,
    )
    from ttt_factory.spec import DecoderLayerSpec as DecoderLayerSpec, ModelSpec as ModelSpec

_HOMES = {
    "CheckReport": "check",
    "DecoderLayerSpec": "spec",
    "Demand": "memory",
    "DramUse": "memory",
    "ModelFactory": "factory",
    "ModelPart": "requests",
    "ModelRequest": "requests",
    "ModelSpec": "spec",
    "dram_use": "memory",
    "model_request": "requests",
    "precision_of": "requests",
    "read_config": "huggingface",
    "spec_of_config": "huggingface",
}

__all__ = [
    "CheckReport",
    "DecoderLayerSpec",
    "Demand",
    "DramUse",
    "ModelFactory",
    "ModelPart",
    "ModelRequest",
    "ModelSpec",
    "dram_use",
    "model_request",
    "precision_of",
    "read_config",
    "spec_of_config",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ttt_factory' has no attribute {name!r}")
    value = getattr(import_module(f"ttt_factory.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
