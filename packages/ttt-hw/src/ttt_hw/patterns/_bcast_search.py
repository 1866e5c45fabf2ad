"""Which multicast matmuls are worth comparing for a request: few splits over the cores, few block sizes for each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ttt_hw.layouts import block_sharded, row_of_cores
from ttt_hw.patterns._matmul_blocks import (
    PROGRAM_RESERVE,
    Pair,
    ceil_div,
    divisors,
    inner_widths,
    kernel_of,
    largest_subblock,
    partial_dtype,
)
from ttt_hw.patterns.bcast_matmul import BcastMatmul, Kind, Weight
from ttt_hw.records import Board
from ttt_hw.requests import MatmulRequest
from ttt_shard_dsl import tile_bytes

_L1_SHARES = (1.0, 0.5, 0.25)  # of the L1 that is left beside PROGRAM_RESERVE
_ROWS_OF_1D = 16  # tiles; with more, every core has to take in too much of the activation
_ROWS_SHARDED = 32  # tiles; with more, an activation stays in DRAM
_CORES_OF_SHARDS = (64, 32, 16, 8)


class Split(NamedTuple):
    """How the output is dealt over cores."""

    kind: Kind
    grid: Pair
    per_core: Pair
    transpose: bool = False


class Sizes(NamedTuple):
    """Bytes of a tile of the activation, the weight, the bias, the output and of partial sums beside it."""

    activation: int
    weight: int
    bias: int
    output: int
    partial: int


def sizes_of(request: MatmulRequest) -> Sizes:
    partial = partial_dtype(request.output_dtype, kernel_of(request), 2)
    return Sizes(
        activation=tile_bytes(request.input_dtype),
        weight=tile_bytes(request.weight_dtype),
        bias=tile_bytes(request.bias_dtype) if request.bias_dtype else 0,
        output=tile_bytes(request.output_dtype),
        partial=tile_bytes(partial) if partial != request.output_dtype else 0,
    )


def bcast_candidates(request: MatmulRequest, board: Board) -> Iterator[BcastMatmul]:
    """Splits over all cores first, each with blocks that fill L1, then with smaller ones."""
    mt, kt, nt = request.tiles
    decode = mt == 1
    for split in splits(mt, nt, board.grid):
        outputs = ["l1", "dram"] if decode else ["dram", "l1"] if _fits_l1(request, board) else ["dram"]
        if decode:
            outputs.insert(0, f"b h s d@core in l1 on {row_of_cores(ceil_div(nt, split.per_core[1]), split.grid)}")
        for output in outputs:
            yield from _configs(request, board, split, None, "interleaved", output)
        if decode:
            for text, inner_whole in _width_sharded(kt, split.grid):
                for output in outputs:
                    yield from _configs(request, board, split, text, "interleaved", output, inner_whole, most=1)
        elif split.kind == "2d" and not split.transpose and mt <= _ROWS_SHARDED:
            yield from _block_sharded(request, board, split)
    if not decode:
        for split in over_bank_splits(mt, nt, board):
            yield from _configs(request, board, split, None, "banks", "dram")


def splits(mt: int, nt: int, grid: Pair) -> Iterator[Split]:
    """Over the whole grid each way that makes sense, then over fewer cores with an output on a rectangle of them."""
    x, y = grid
    seen: set[Split] = set()
    for split in _all_splits(mt, nt, x, y):
        if split not in seen:
            seen.add(split)
            yield split


def _all_splits(mt: int, nt: int, x: int, y: int) -> Iterator[Split]:
    if mt > 1:
        yield two_d(mt, nt, x, y)
        yield two_d(mt, nt, x, y, transpose=True)
    if mt <= _ROWS_OF_1D:
        yield Split("1d", (x, y), (mt, ceil_div(nt, x * y)))
    if mt == 1:
        for columns, rows in ((8, 8), (8, 4), (8, 2), (8, 1)):
            if rows <= y and columns * rows <= nt:
                yield Split("1d", (columns, rows), (1, ceil_div(nt, columns * rows)))
    if mt > x * y // 2:
        yield Split("1d_in1", (x, y), (ceil_div(mt, x * y), nt))
    if mt > 1:  # the grid of the published configs, which fits boards with fewer columns too
        yield two_d(mt, nt, min(x, 8), y)


def two_d(mt: int, nt: int, x: int, y: int, *, transpose: bool = False) -> Split:
    """Rows and columns of tiles in equal shares over as much of a grid as they fill."""
    rows, columns = (x, y) if transpose else (y, x)
    m, n = ceil_div(mt, rows), ceil_div(nt, columns)
    used = ceil_div(mt, m), ceil_div(nt, n)
    return Split("2d", used if transpose else (used[1], used[0]), (m, n), transpose)


def over_bank_splits(mt: int, nt: int, board: Board) -> Iterator[Split]:
    """Those that read a weight over DRAM banks as it lies: a core has at least the columns of a bank."""
    x, y = board.grid
    n = max(ceil_div(nt, x), ceil_div(nt, board.dram_banks))
    m = ceil_div(mt, y)
    yield Split("2d", (ceil_div(nt, n), ceil_div(mt, m)), (m, n))


def _fits_l1(request: MatmulRequest, board: Board) -> bool:
    x, y = board.grid
    mt, _, nt = request.tiles
    return 2 * mt * nt * tile_bytes(request.output_dtype) <= x * y * board.l1_bytes_per_core // 2


def _width_sharded(kt: int, grid: Pair) -> Iterator[tuple[str, int]]:
    """Layouts of a decode activation in even shards on the first cores of a grid, and the tiles of a shard."""
    for cores in _CORES_OF_SHARDS:
        if kt % cores == 0 and cores <= grid[0] * grid[1]:
            yield f"b h s d@core in l1 on {row_of_cores(cores, grid)}", kt // cores


def _block_sharded(request: MatmulRequest, board: Board, split: Split) -> Iterator[BcastMatmul]:
    mt, kt, nt = request.tiles
    (columns, rows), (m, n) = split.grid, split.per_core
    if rows * m != mt or kt % columns or not _fits_l1(request, board):
        return
    text = block_sharded((columns, rows))
    outputs = ["dram", *([text] if n == ceil_div(nt, columns) else [])]
    for output in outputs:
        yield from _configs(request, board, split, text, "interleaved", output, kt // columns, most=1)


def _configs(
    request: MatmulRequest,
    board: Board,
    split: Split,
    activation: str | None,
    weight: Weight,
    output: str,
    shard: int | None = None,
    *,
    most: int = 3,
) -> Iterator[BcastMatmul]:
    """A split with the blocks that `block_sizes` finds for it."""
    kernel = kernel_of(request)
    sizes = sizes_of(request)
    wide = weight == "banks" or (output not in ("dram", "l1") and split.per_core[0] > 1)
    room = board.l1_bytes_per_core - PROGRAM_RESERVE
    if activation is not None:
        wide = wide or split.kind == "2d"
    found = block_sizes(request.tiles[1], split.per_core, shard or request.tiles[1], wide, sizes, room)
    sharded = output not in ("dram", "l1")
    for inner, block in found[:most]:
        subblock = largest_subblock(block, kernel)
        if sharded and subblock[0] > 1 and subblock[1] != split.per_core[1]:
            subblock = largest_subblock((1, block[1]), kernel)
        yield BcastMatmul(
            kind=split.kind,
            grid=split.grid,
            per_core=split.per_core,
            inner=inner,
            block=block,
            subblock=subblock,
            transpose=split.transpose,
            activation=activation,
            weight=weight,
            output=output,
        )


@lru_cache(maxsize=1 << 14)
def block_sizes(
    kt: int, per_core: Pair, shard: int, wide: bool, sizes: Sizes, room: int, again: bool = False
) -> tuple[tuple[int, Pair], ...]:
    """(inner, block) that take the fewest operand bytes into a core within each share of L1; none twice.

    `shard`: the inner tiles that lie together, which steps may not cross. `wide`: blocks are as wide as a core's columns.
    `again`: there is more to do after the last step, so operands are buffered twice even if there is but one.
    """
    m, n = per_core
    options = [
        (
            kt * ((n // w) * m * sizes.activation + (m // h) * n * sizes.weight),
            -inner,
            -min(h * w, 8),
            (2 if again or kt > inner else 1) * inner * (h * sizes.activation + w * sizes.weight)
            + w * sizes.bias
            + h * w * (sizes.output + sizes.partial),
            (h, w),
        )
        for inner in inner_widths(shard)
        for h in divisors(m)
        for w in ((n,) if wide else divisors(n))
    ]
    found: list[tuple[int, Pair]] = []
    for share in _L1_SHARES:
        fitting = [option for option in options if option[3] <= share * room]
        best = min(fitting) if fitting else min(options, key=lambda option: option[3])
        if (-best[1], best[4]) not in found:
            found.append((-best[1], best[4]))
    return tuple(found)
