"""Layouts of ttnn tensors in one line of text: read, checked before any device, and lowered to a MemoryConfig.

Names are imported when first used, so that a program that needs one layout does not wait for the pictures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttt_shard_dsl.algebra import (
        canonical as canonical,
        coalesce as coalesce,
        complement as complement,
        make_layout_like as make_layout_like,
        nullspace as nullspace,
        slice_layout as slice_layout,
    )
    from ttt_shard_dsl.compose import composition as composition
    from ttt_shard_dsl.divide import (
        flat_divide as flat_divide,
        logical_divide as logical_divide,
        tiled_divide as tiled_divide,
        zipped_divide as zipped_divide,
    )
    from ttt_shard_dsl.dtypes import SHORT_NAMES as SHORT_NAMES, TILE as TILE, tile_bytes as tile_bytes
    from ttt_shard_dsl.errors import LayoutError as LayoutError
    from ttt_shard_dsl.from_ttnn import (
        placement_of as placement_of,
        spec_of as spec_of,
        spec_of_tensor as spec_of_tensor,
    )
    from ttt_shard_dsl.geometry import Device as Device, Geometry as Geometry
    from ttt_shard_dsl.inverse import left_inverse as left_inverse, right_inverse as right_inverse
    from ttt_shard_dsl.json_form import from_json as from_json, to_json as to_json
    from ttt_shard_dsl.layout import Layout as Layout
    from ttt_shard_dsl.parser import parse as parse, parse_rule as parse_rule
    from ttt_shard_dsl.picture import to_svg as to_svg, to_terminal as to_terminal
    from ttt_shard_dsl.placement import Page as Page, Placement as Placement, memory_config as memory_config
    from ttt_shard_dsl.repeat import (
        blocked_product as blocked_product,
        logical_product as logical_product,
        raked_product as raked_product,
        tile_to_shape as tile_to_shape,
    )
    from ttt_shard_dsl.reshard import plan as plan
    from ttt_shard_dsl.search import best_layouts as best_layouts, legal_layouts as legal_layouts
    from ttt_shard_dsl.steps import Call as Call, Plan as Plan, Step as Step
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
    from ttt_shard_dsl.vector import Vector as Vector

_HOMES = {
    "Axis": "tree",
    "Call": "steps",
    "CoreRange": "tree",
    "Cores": "tree",
    "Device": "geometry",
    "Dim": "tree",
    "Geometry": "geometry",
    "Layout": "layout",
    "LayoutError": "errors",
    "Page": "placement",
    "Place": "tree",
    "Placement": "placement",
    "Plan": "steps",
    "Rule": "tree",
    "SHORT_NAMES": "dtypes",
    "Spec": "tree",
    "Step": "steps",
    "TILE": "dtypes",
    "Vector": "vector",
    "best_layouts": "search",
    "blocked_product": "repeat",
    "canonical": "algebra",
    "coalesce": "algebra",
    "complement": "algebra",
    "composition": "compose",
    "flat_divide": "divide",
    "from_json": "json_form",
    "left_inverse": "inverse",
    "legal_layouts": "search",
    "logical_divide": "divide",
    "logical_product": "repeat",
    "make_layout_like": "algebra",
    "memory_config": "placement",
    "nullspace": "algebra",
    "parse": "parser",
    "parse_rule": "parser",
    "placement_of": "from_ttnn",
    "plan": "reshard",
    "raked_product": "repeat",
    "right_inverse": "inverse",
    "slice_layout": "algebra",
    "spec_of": "from_ttnn",
    "spec_of_tensor": "from_ttnn",
    "tile_bytes": "dtypes",
    "tile_to_shape": "repeat",
    "tiled_divide": "divide",
    "to_json": "json_form",
    "to_memory_config": "to_ttnn",
    "to_svg": "picture",
    "to_terminal": "picture",
    "zipped_divide": "divide",
}

__all__ = [
    "SHORT_NAMES",
    "TILE",
    "Axis",
    "Call",
    "CoreRange",
    "Cores",
    "Device",
    "Dim",
    "Geometry",
    "Layout",
    "LayoutError",
    "Page",
    "Place",
    "Placement",
    "Plan",
    "Rule",
    "Spec",
    "Step",
    "Vector",
    "best_layouts",
    "blocked_product",
    "canonical",
    "coalesce",
    "complement",
    "composition",
    "flat_divide",
    "from_json",
    "left_inverse",
    "legal_layouts",
    "logical_divide",
    "logical_product",
    "make_layout_like",
    "memory_config",
    "nullspace",
    "parse",
    "parse_rule",
    "placement_of",
    "plan",
    "raked_product",
    "right_inverse",
    "slice_layout",
    "spec_of",
    "spec_of_tensor",
    "tile_bytes",
    "tile_to_shape",
    "tiled_divide",
    "to_json",
    "to_memory_config",
    "to_svg",
    "to_terminal",
    "zipped_divide",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ttt_shard_dsl' has no attribute {name!r}")
    value = getattr(import_module(f"ttt_shard_dsl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
