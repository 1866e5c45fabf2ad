"""Bytes of a tensor's pages by dtype: a 32×32 tile, or a row of elements."""

from __future__ import annotations

from collections.abc import Mapping

from ttt_shard_dsl.errors import LayoutError, nearest

__all__ = ["SHORT_NAMES", "TILE", "tile_bytes"]

TILE = 32
"""Rows and columns of a tile."""

TILE_BYTES: Mapping[str, int] = {
    "float32": 4096,
    "bfloat16": 2048,
    "bfloat8_b": 1088,  # 1024 mantissas and 64 shared exponents
    "bfloat4_b": 576,
    "uint32": 4096,
    "int32": 4096,
    "uint16": 2048,
}

ELEMENT_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "uint32": 4, "int32": 4, "uint16": 2}
"""Row-major dtypes; the block floats share exponents within a tile and have no row-major form."""

SHORT_NAMES: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "bfp8": "bfloat8_b", "bfp4": "bfloat4_b"}
"""Spellings that a layout text may use; the canonical text has ttnn's."""


def tile_bytes(dtype: str) -> int:
    """Bytes of a 32×32 tile.

    Errors: `LayoutError` for an unknown dtype.
    """
    try:
        return TILE_BYTES[dtype]
    except KeyError:
        raise LayoutError(f"'{dtype}' is not a dtype", choices=nearest(dtype, tuple(TILE_BYTES))) from None
