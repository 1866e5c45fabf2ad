"""The decode matmul that streams its weight: a core beside each DRAM bank computes the columns which that bank holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work
from ttt_hw.layouts import over_banks, placed, row_of_cores, width_sharded
from ttt_hw.patterns._matmul_blocks import (
    PROGRAM_RESERVE,
    Pair,
    below_one,
    ceil_div,
    divisors,
    fused_activation,
    indivisible,
    inner_widths,
    kernel_of,
    misplaced,
    partial_dtype,
    tile_cycles,
    unfused,
)
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import LMHeadRequest, MatmulRequest
from ttt_shard_dsl import TILE, LayoutError, Placement, tile_bytes

__all__ = ["DramShardedMatmul"]

_SHARD_COUNTS = (64, 32, 16, 8)  # cores that activations lie on; a candidate takes what is nearest and even
_MOST_READERS = 3


@dataclass(frozen=True, kw_only=True)
class DramShardedMatmul(Pattern[MatmulRequest]):
    """One tile of rows; activation and result width-sharded in L1, the weight's columns (and the bias's) over all DRAM banks.

    `activation` and `output` are layouts; `per_core` the tiles of a shard of the result; `inner` the inner tiles a step;
    `readers` the cores that share a bank's columns.

    Source: MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig of ttnn.
    """

    serves: ClassVar = (MatmulRequest, LMHeadRequest)

    activation: str
    inner: int
    per_core: int
    output: str
    readers: int = 1

    @classmethod
    def candidates(cls, request: MatmulRequest, board: Board) -> Iterator[DramShardedMatmul]:
        """Shards on about 64, 32, 16 and 8 cores, the widest step that fits; on Blackhole two readers before one."""
        mt, kt, nt = request.tiles
        if mt > 1:
            return
        in_bank = ceil_div(nt, board.dram_banks)
        many = [2] if board.chip.arch == "blackhole" and in_bank % 2 == 0 else []
        for readers in (*many, 1):
            for cores in even_counts(kt, board):
                fitting = [
                    inner
                    for inner in inner_widths(kt // cores)
                    if _buffers(request, board, inner, readers) <= board.l1_bytes_per_core - PROGRAM_RESERVE
                ]
                for inner in fitting[:1]:
                    for text in width_layouts(cores, board):
                        for columns in whole_counts(nt, board):
                            yield cls(
                                activation=text,
                                inner=inner,
                                per_core=ceil_div(nt, columns),
                                output=width_layouts(columns, board)[-1],
                                readers=readers,
                            )

    def accepts(self, request: MatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return ((self.activation,), (over_banks(),), (over_banks(),))[: len(request.operands)]

    def results(self, request: MatmulRequest, board: Board) -> tuple[str, ...]:
        return (self.output,)

    def problems(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        mt, kt, nt = request.tiles
        counts = [(name, getattr(self, name)) for name in ("inner", "per_core", "readers")]
        wrong = list(below_one(counts))
        yield from wrong
        if wrong:
            return
        if mt > 1:
            yield f"{request.m} rows are more than the {TILE} of one tile"
        yield from self._activation_problems(request, board, kt)
        columns = ceil_div(nt, self.per_core)
        cores = board.grid[0] * board.grid[1]
        if columns > cores:
            yield f"{cores} x {self.per_core} columns of tiles cover less than the {nt} there are; {ceil_div(nt, cores)} would do"
        else:
            wanted = f"b h s d@core in l1 on {row_of_cores(columns, board.grid)}"
            if self.output != wanted:  # whatever it is told
                yield f"ttnn puts shards of {self.per_core} tiles where '{wanted}' says, not '{self.output}'"
            if self.per_core != ceil_div(nt, columns):
                yield f"shards of {self.per_core} tiles are wider than the {ceil_div(nt, columns)} of {nt} on {columns} cores"
        yield from unfused(request.activation)
        yield from misplaced(reads, self.accepts(request, board), ("the activation", "the weight", "the bias"))
        in_bank = ceil_div(nt, board.dram_banks)
        if self.readers > 1 and board.chip.arch != "blackhole":
            yield f"{self.readers} readers a bank are for Blackhole, not for {board.chip.arch}"
        if self.readers > _MOST_READERS:
            yield f"{self.readers} readers a bank are more than the {_MOST_READERS} that there are cores for"
        yield from indivisible(in_bank, self.readers, "readers", f"the {in_bank} columns of tiles in a bank")
        width, working = in_bank // self.readers, self.cores(request, board)
        if self.readers > 1 and (working - 1) * width >= nt:
            yield f"the last of {working} readers of {width} columns of tiles has none of the {nt}"

    def _activation_problems(self, request: MatmulRequest, board: Board, kt: int) -> Iterator[str]:
        try:
            placement: Placement = placed(self.activation, request.operands[0], board)
        except LayoutError as error:
            yield f"the activation cannot lie so: {error}"
            return
        if placement.sharding != "width" or placement.memory != "l1" or placement.shard_shape is None:
            yield f"the activation must be width-sharded in L1, not '{self.activation}'"
            return
        width = placement.shard_shape[1] // TILE
        if kt % width:
            yield f"shards of {width} tiles do not divide the {kt} inner tiles evenly"
        yield from indivisible(width, self.inner, "inner", f"the {width} tiles of a shard")
        if placement.cores != sorted(placement.cores, key=lambda core: (core[1], core[0])):
            yield f"shards must lie row by row, not as '{self.activation}'"  # senders take turns in that order

    def circular_buffers(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> int:
        return _buffers(request, board, self.inner, self.readers)

    def cores(self, request: MatmulRequest, board: Board) -> int:
        nt = request.tiles[2]
        return ceil_div(nt, ceil_div(nt, board.dram_banks)) * self.readers

    def work(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        _, kt, nt = request.tiles
        weight = kt * nt * tile_bytes(request.weight_dtype)
        kernel = kernel_of(request)
        width = padded_width(ceil_div(nt, board.dram_banks) // self.readers, kernel)
        return Work(
            matrix_cycles=width * kt * tile_cycles(kernel, board),
            dram_streamed=weight,
            noc_bytes=width * tile_bytes(request.output_dtype),
            multicast_bytes=kt * tile_bytes(request.input_dtype),
        )

    def to_ttnn(self, request: MatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        return {
            "program_config": ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
                in0_block_w=self.inner,
                per_core_M=1,
                per_core_N=self.per_core,
                fused_activation=fused_activation(request.activation),
                num_workers_per_dram_bank=self.readers,
            ),
            "compute_kernel_config": kernel_config(kernel_of(request)),
            "memory_config": placed(self.output, request.results[request.name], board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),
        }

    def issue(self, request: MatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        x, weight, *bias = tensors
        return ttnn.linear(x, weight, bias=bias[0] if bias else None, **self.to_ttnn(request, board))


def padded_width(columns: int, kernel: ComputeKernel) -> int:
    """Columns of tiles that a core computes: ttnn adds some where wider subblocks then need fewer turns."""
    most = kernel.dst_tiles
    width = max(divisor for divisor in divisors(columns) if divisor <= most)
    turns = columns // width
    for wider in range(width + 1, most + 1):
        if ceil_div(columns, wider) < turns:
            width, turns = wider, ceil_div(columns, wider)
    return width * turns


def _buffers(request: MatmulRequest, board: Board, inner: int, readers: int) -> int:
    """Two steps of the activation, three of the weight (one of each if there is but one), the output, partial sums."""
    _, kt, nt = request.tiles
    kernel = kernel_of(request)
    steps = kt // inner
    columns = ceil_div(nt, board.dram_banks) // readers
    width = padded_width(columns, kernel)
    partial = partial_dtype(request.output_dtype, kernel, steps)
    return (
        (2 if steps > 1 else 1) * inner * tile_bytes(request.input_dtype)
        + (3 if steps > 1 else 1) * inner * columns * tile_bytes(request.weight_dtype)
        + width * tile_bytes(request.output_dtype)
        + (width * tile_bytes(partial) if partial != request.output_dtype else 0)
        + (width * tile_bytes(request.bias_dtype) if request.bias_dtype else 0)
    )


def even_counts(tiles: int, board: Board) -> list[int]:
    """Numbers of cores that hold equal shards of so many tiles, near those that activations lie on."""
    counts = [count for count in divisors(tiles) if count <= board.grid[0] * board.grid[1]]
    return _nearest(counts)


def whole_counts(tiles: int, board: Board) -> list[int]:
    """Numbers of cores that each hold a shard of so many tiles, the last one perhaps in part; even ones where there are any."""
    most = min(tiles, board.grid[0] * board.grid[1])
    counts = {ceil_div(tiles, ceil_div(tiles, count)) for count in range(1, most + 1)}
    return list(dict.fromkeys([*even_counts(tiles, board), *_nearest(sorted(counts))]))[: len(_SHARD_COUNTS) + 1]


def _nearest(counts: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(min(counts, key=lambda count: abs(count - wanted)) for wanted in _SHARD_COUNTS))


def width_layouts(cores: int, board: Board) -> list[str]:
    """Width-sharded on a rectangle of so many cores, where there is one, and on the first cores of the grid."""
    rectangle = _rectangle(cores, board.grid)
    texts = [width_sharded(rectangle)] if rectangle else []
    first = f"b h s d@core in l1 on {row_of_cores(cores, board.grid)}"
    return list(dict.fromkeys([*texts, first]))


def _rectangle(cores: int, grid: Pair) -> Pair | None:
    """The widest up to 8 columns, which every chip has."""
    for columns in range(min(8, grid[0]), 0, -1):
        if cores % columns == 0 and cores // columns <= grid[1]:
            return columns, cores // columns
    return None
