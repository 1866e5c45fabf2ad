"""Layouts of ttnn tensors in one line of text: read, checked before any device, and lowered to a MemoryConfig."""

from ttt_shard_dsl.dtypes import tile_bytes as tile_bytes
from ttt_shard_dsl.errors import LayoutError as LayoutError
from ttt_shard_dsl.geometry import Device as Device, Geometry as Geometry
from ttt_shard_dsl.parser import parse as parse, parse_rule as parse_rule
from ttt_shard_dsl.placement import Placement as Placement, memory_config as memory_config
from ttt_shard_dsl.to_ttnn import to_memory_config as to_memory_config
from ttt_shard_dsl.tree import (
    Axis as Axis,
    CoreRange as CoreRange,
    Cores as Cores,
    Dim as Dim,
    Place as Place,
    Rule as Rule,
    Spec as Spec,
)

__all__ = [
    "Axis",
    "CoreRange",
    "Cores",
    "Device",
    "Dim",
    "Geometry",
    "LayoutError",
    "Place",
    "Placement",
    "Rule",
    "Spec",
    "memory_config",
    "parse",
    "parse_rule",
    "tile_bytes",
    "to_memory_config",
]
