"""Layouts of ttnn tensors in one line of text: read, checked before any device, and lowered to a MemoryConfig."""

from ttt_shard_dsl.algebra import (
    coalesce as coalesce,
    complement as complement,
    composition as composition,
    left_inverse as left_inverse,
    logical_divide as logical_divide,
    logical_product as logical_product,
    right_inverse as right_inverse,
)
from ttt_shard_dsl.dtypes import SHORT_NAMES as SHORT_NAMES, TILE as TILE, tile_bytes as tile_bytes
from ttt_shard_dsl.errors import LayoutError as LayoutError
from ttt_shard_dsl.geometry import Device as Device, Geometry as Geometry
from ttt_shard_dsl.layout import Layout as Layout
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
    "SHORT_NAMES",
    "TILE",
    "Axis",
    "CoreRange",
    "Cores",
    "Device",
    "Dim",
    "Geometry",
    "Layout",
    "LayoutError",
    "Place",
    "Placement",
    "Rule",
    "Spec",
    "coalesce",
    "complement",
    "composition",
    "left_inverse",
    "logical_divide",
    "logical_product",
    "memory_config",
    "parse",
    "parse_rule",
    "right_inverse",
    "tile_bytes",
    "to_memory_config",
]
