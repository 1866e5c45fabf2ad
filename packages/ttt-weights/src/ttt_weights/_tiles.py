"""Values as the bytes of a tiled tensor, piece by piece and on all cores, bit for bit as ttnn packs them.

A tile is 32 × 32 values: four faces of 16 × 16, row by row. Block floats share an exponent between the 16 values of a face's
row: a tile is 64 exponents, then a sign and 7 or 3 bits of mantissa for each value, rounded to nearest, ties to even.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ttt_shard_dsl import TILE

T = TypeVar("T")
R = TypeVar("R")
TileDType = Literal["bfloat16", "bfloat8_b", "bfloat4_b"]
TILE_BYTES: dict[TileDType, int] = {
    "bfloat16": 2 * TILE * TILE,
    "bfloat8_b": 64 + TILE * TILE,
    "bfloat4_b": 64 + TILE * TILE // 2,
}

_FACE = 16
_EXPONENTS = 4 * _FACE
_MANTISSA_BITS: dict[TileDType, int] = {"bfloat8_b": 7, "bfloat4_b": 3}
_LEAST_EXPONENT = (
    10  # below, the scale of a row is beyond float32, and numbers without an exponent of their own may not be zero
)
_ROWS = 2048  # of a piece, which with its temporaries stays in a core's cache

Bytes = NDArray[np.uint8]


def pack(values: NDArray[Any], dtype: TileDType, out: Bytes) -> None:
    """Write `values` [..., R, C], bfloat16 or float32, to the tiles `out` [..., row tiles, column tiles, bytes].

    `out` is zero before; what it has beyond R and C stays so. Values in any order of memory; of a transposed matrix fastest.
    """
    pieces = [
        (matrix, target, rows, columns)
        for matrix, target in _matrices(values, out)
        for rows in _pieces(matrix.shape[0], _ROWS)
        for columns in _pieces(matrix.shape[1], TILE)
    ]
    in_parallel(lambda piece: _pack_piece(*piece, dtype=dtype), pieces)


def copy(values: NDArray[Any], out: NDArray[Any], rows: int = 256) -> None:
    """out[...] = values, rounded to the dtype of `out` on the way, on all cores."""

    def part(start: int) -> None:
        out[start : start + rows] = values[start : start + rows]

    in_parallel(part, range(0, len(values), rows))


def in_parallel(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """[function(item) for item in items] on all cores, for functions that let go of the interpreter's lock."""
    return list(_pool().map(function, items))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        len(os.sched_getaffinity(0)), thread_name_prefix="ttt-weights"
    )  # NumPy lets go of the GIL


def _matrices(values: NDArray[Any], out: Bytes) -> Iterator[tuple[NDArray[Any], Bytes]]:
    if values.ndim == 2:
        yield values, out
        return
    for part, target in zip(values, out, strict=False):  # out may be longer, by padding
        yield from _matrices(part, target)


def _pieces(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _pack_piece(matrix: NDArray[Any], out: Bytes, rows: slice, columns: slice, *, dtype: TileDType) -> None:
    piece = matrix[
        rows, columns
    ].T  # [C, R]: the 16 values that share an exponent are 16 rows, which are reduced at once
    whole = tuple(-(-size // TILE) * TILE for size in piece.shape)
    if piece.shape != whole or piece.strides[1] != piece.itemsize or dtype == "bfloat16":
        padded = np.zeros(whole, ml_dtypes.bfloat16 if dtype == "bfloat16" else piece.dtype)
        padded[: piece.shape[0], : piece.shape[1]] = piece
        piece = padded
    tiles = out[rows.start // TILE :, columns.start // TILE :][: whole[1] // TILE, : whole[0] // TILE]
    if dtype == "bfloat16":
        _by_faces(piece.view(np.uint16), tiles.view(np.uint16))
    else:
        _pack_blocks(piece, _MANTISSA_BITS[dtype], tiles)


def _pack_blocks(values: NDArray[Any], bits: int, tiles: Bytes) -> None:
    """Values [C, R] as block floats."""
    columns, rows = values.shape
    if values.dtype == np.float32:
        raw: NDArray[Any] = values.view(np.uint32)
        magnitudes: NDArray[np.uint32] = raw & np.uint32(0x7FFFFFFF)
    else:
        raw = values.view(np.uint16)
        magnitudes = (raw & 0x7FFF).astype(np.uint32)
        magnitudes <<= 16
    sign = raw.view(np.uint8).reshape(columns, rows, -1)[..., -1] & 0x80
    grouped = magnitudes.reshape(columns // _FACE, _FACE, rows)
    largest = grouped.max(axis=1)
    exponents = largest >> 23
    if ((largest != 0) & (exponents < _LEAST_EXPONENT)).any() or (exponents == 255).any():
        mantissas = _rounded(grouped, exponents, bits)
    else:
        mantissas = _rounded_fast(grouped, exponents, bits)
    mantissas = mantissas.reshape(columns, rows)
    sign *= mantissas != 0  # a zero has no sign
    if bits == 3:
        nibbles = (mantissas | sign >> 4).reshape(columns // 2, 2, rows)
        packed = nibbles[:, 0] | nibbles[:, 1] << 4
    else:
        packed = mantissas | sign
    _by_faces(packed, tiles[..., _EXPONENTS:])
    by_row = exponents.astype(np.uint8).reshape(columns // TILE, 2, rows // TILE, 2, _FACE)
    tiles[..., :_EXPONENTS].reshape(rows // TILE, columns // TILE, 2, 2, _FACE)[...] = by_row.transpose(2, 0, 3, 1, 4)


def _rounded_fast(magnitudes: NDArray[np.uint32], exponents: NDArray[np.uint32], bits: int) -> Bytes:
    """Magnitudes [blocks, 16, rows] as mantissas: scaled, then 2²³ is added, whose last bits are the integer."""
    scale = ((253 + bits - exponents) << 23).astype(np.uint32).view(np.float32)  # 2^(bits - 1 - (exponent - 127))
    values = magnitudes.view(np.float32)
    values *= scale[:, None]
    values += np.float32(2**23)
    np.minimum(values, np.float32(2**23 + 2**bits - 1), out=values)
    return np.ascontiguousarray(values.view(np.uint8).reshape(*values.shape, 4)[..., 0])


def _rounded(magnitudes: NDArray[np.uint32], exponents: NDArray[np.uint32], bits: int) -> Bytes:
    """The same in integers, for numbers near the ends of the range: those without an exponent of their own are zero."""
    own = magnitudes >> 23
    mantissas = np.where(own == 0, 0, magnitudes & 0x7FFFFF | 0x800000).astype(np.uint64)
    shift = np.minimum(24 - bits + exponents[:, None] - own, 40).astype(np.uint64)
    one = np.uint64(1)
    half = (one << (shift - one)) - one + (mantissas >> shift & one)
    return np.minimum(mantissas + half >> shift, 2**bits - 1).astype(np.uint8)


def _by_faces(values: NDArray[Any], tiles: NDArray[Any]) -> None:
    """Values [C, R] to [row tiles, column tiles, 4 faces · 16 rows · columns of a face], C in the same faces."""
    row_tiles, column_tiles = tiles.shape[:2]
    faces = values.reshape(column_tiles, 2, -1, row_tiles, 2, _FACE).transpose(3, 0, 4, 1, 5, 2)
    tiles.reshape(faces.shape)[...] = faces
