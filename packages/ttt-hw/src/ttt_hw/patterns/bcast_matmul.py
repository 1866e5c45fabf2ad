"""Matmuls whose operands are read once and multicast over a grid of cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, L1, block_sharded, interleaved, over_banks, placed, row_of_cores
from ttt_hw.patterns._matmul_blocks import (
    Pair,
    below_one,
    beyond_grid,
    beyond_registers,
    ceil_div,
    fused_activation,
    indivisible,
    kernel_of,
    misplaced,
    operand_bytes,
    partial_dtype,
    tile_cycles,
    tiles,
    unfused,
)
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import LMHeadRequest, MatmulRequest
from ttt_shard_dsl import TILE, LayoutError, tile_bytes

__all__ = ["BcastMatmul"]

Kind = Literal["1d", "1d_in1", "2d"]
Weight = Literal["interleaved", "banks"]


@dataclass(frozen=True, kw_only=True)
class BcastMatmul(Pattern[MatmulRequest]):
    """Cores split the output; what several of them read is multicast.

    `1d`: each core has all rows of its share of the columns, and the activation is multicast. `1d_in1`: each core has all
    columns of its share of the rows, and the weight is multicast. `2d`: rows over the grid's rows, columns over its columns
    (the other way round if `transpose`); the activation is multicast along rows, the weight along columns.

    `per_core` output tiles (rows, columns) in blocks of `block`, `inner` tiles of the inner dim a step, `subblock` in the
    registers. `activation`: None reads interleaved pages of DRAM or L1, else the layout of a sharded one. `weight`: pages
    of all banks, or columns in equal blocks over the banks. `output`: dram, l1, or a sharded layout.

    Source: MatmulMultiCoreReuseMultiCast1DProgramConfig and MatmulMultiCoreReuseMultiCastProgramConfig of ttnn.
    """

    serves: ClassVar = (MatmulRequest, LMHeadRequest)

    kind: Kind
    grid: Pair
    per_core: Pair
    inner: int
    block: Pair
    subblock: Pair
    transpose: bool = False
    activation: str | None = None
    weight: Weight = "interleaved"
    output: str = "dram"

    @classmethod
    def candidates(cls, request: MatmulRequest, board: Board) -> Iterator[BcastMatmul]:
        from ttt_hw.patterns._bcast_search import bcast_candidates  # which makes objects of this class

        return bcast_candidates(request, board)

    def accepts(self, request: MatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        if self.activation is not None:
            activation: tuple[str, ...] = (self.activation,)
        else:
            activation = (L1, DRAM) if request.m <= TILE else (DRAM, L1)
        stored = (over_banks() if self.weight == "banks" else DRAM,)
        return (activation, stored, stored)[: len(request.operands)]

    def results(self, request: MatmulRequest, board: Board) -> tuple[str, ...]:
        if self.output in ("dram", "l1"):
            return (interleaved(request.results[request.name], self.output),)
        return (self.output,)

    @property
    def _spread(self) -> Pair:
        """Over how many cores rows and columns may be split."""
        x, y = self.grid
        if self.kind == "2d":
            return (x, y) if self.transpose else (y, x)
        return (1, x * y) if self.kind == "1d" else (x * y, 1)

    def _used(self, request: MatmulRequest) -> Pair:
        mt, _, nt = request.tiles
        return ceil_div(mt, self.per_core[0]), ceil_div(nt, self.per_core[1])

    def problems(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        counts = [(name, getattr(self, name)) for name in ("grid", "per_core", "inner", "block", "subblock")]
        wrong = [*below_one(counts), *beyond_grid(self.grid, board)]
        yield from wrong
        if wrong:
            return
        mt, kt, nt = request.tiles
        (m, n), (h, w) = self.per_core, self.block
        rows, columns = self._spread
        if rows * m < mt:
            yield f"{rows} x {m} rows of tiles cover less than the {mt} there are; {ceil_div(mt, rows)} a core would do"
        if columns * n < nt:
            yield (
                f"{columns} x {n} columns of tiles cover less than the {nt} there are; "
                f"{ceil_div(nt, columns)} a core would do"
            )
        tight = ceil_div(mt, ceil_div(mt, m))
        if m != tight:  # ttnn accepts it; P100 made garbage of 4 row tiles with 7 a core: tt-metal issue 50656
            yield f"{m} rows of tiles a core are more than the {mt} there are need; {tight} do on as many cores"
        yield from indivisible(kt, self.inner, "inner", f"the {kt} inner tiles")
        yield from indivisible(m, h, "block height", f"the {m} rows a core")
        yield from indivisible(n, w, "block width", f"the {n} columns a core")
        yield from indivisible(h, self.subblock[0], "subblock height", f"the block's {h}")
        yield from indivisible(w, self.subblock[1], "subblock width", f"the block's {w}")
        yield from beyond_registers(self.subblock, kernel_of(request))
        yield from unfused(request.activation)
        if self.transpose and (self.kind != "2d" or self.activation or self.weight == "banks" or self._sharded):
            yield "only a 2d matmul of interleaved tensors may be transposed"
        yield from misplaced(reads, self.accepts(request, board), ("the activation", "the weight", "the bias"))
        if self.activation is not None:
            yield from self._activation_problems(request, board, self.activation)
        if self._sharded:
            yield from self._output_problems(request)
        if self.weight == "banks":
            yield from self._bank_problems(request, board)

    @property
    def _sharded(self) -> bool:
        return self.output not in ("dram", "l1")

    def _activation_problems(self, request: MatmulRequest, board: Board, text: str) -> Iterator[str]:
        """Shards are read where they lie: whole, in the order of the cores, by steps that do not cross them."""
        mt, kt, _ = request.tiles
        rows, _ = self._used(request)
        if self.kind == "1d_in1" or (" d@core " if self.kind == "1d" else "s@core.y d@core.x") not in text:
            kinds = {"1d": "width-sharded", "2d": "block-sharded"}
            wanted = f"interleaved or {kinds[self.kind]}" if self.kind in kinds else "interleaved"
            yield f"a {self.kind} matmul reads an activation that is {wanted}, not '{text}'"
            return
        try:
            placement = placed(text, request.operands[0], board)
        except LayoutError as error:
            yield f"the activation cannot lie so: {error}"
            return
        assert placement.shard_shape is not None
        height, width = (size // TILE for size in placement.shard_shape)
        if kt % width:
            yield f"shards of {width} tiles do not divide the {kt} inner tiles evenly"
        yield from indivisible(width, self.inner, "inner", f"the {width} tiles of a shard")
        if height != self.per_core[0] or mt % height:
            yield f"shards are {height} rows of tiles, but a core computes {self.per_core[0]} of {mt}"
        shards, x = placement.num_shards, self.grid[0]
        in_order = [(shard % x, shard // x) for shard in range(shards)]
        if self.kind == "1d" and (shards > x * self.grid[1] or placement.cores != in_order):
            # ttnn computes where the senders are from the program's grid
            yield f"{shards} shards must lie on the first cores of the grid {x}x{self.grid[1]}, row by row, not as '{text}'"
        if self.kind == "2d" and (placement.shard_grid[0] != rows or placement.shard_grid[1] > x):
            yield f"shards on {placement.shard_grid[0]} rows of {placement.shard_grid[1]} cores do not fit {rows} rows of {x}"
        if self.kind == "2d" and placement.cores[0] != (0, 0):
            yield f"shards must begin at core 0-0, not as '{text}'"

    def _output_problems(self, request: MatmulRequest) -> Iterator[str]:
        """ttnn puts shards where the program makes them, whatever it is told."""
        rows, columns = self._used(request)
        mt, _, nt = request.tiles
        if self.kind == "1d":
            wanted = f"b h s d@core in l1 on {row_of_cores(columns, self.grid)}"
        elif self.kind == "2d":
            wanted = block_sharded((columns, rows))
        else:
            yield "the result of a 1d_in1 matmul is interleaved"
            return
        if self.output != wanted:
            yield f"the result lies as '{wanted}', not '{self.output}'"
        if self.per_core[1] != ceil_div(nt, columns) or rows * self.per_core[0] != mt:
            yield f"shards of {self.per_core[0]} x {self.per_core[1]} tiles do not fit {mt} x {nt} on {columns} x {rows} cores"
        if self.block[1] != self.per_core[1] and self.block[0] != 1:
            yield f"blocks of a sharded result must be as wide as a core's {self.per_core[1]} columns, or one row high"
        if self.subblock[1] != self.per_core[1] and self.subblock[0] != 1:
            yield f"subblocks of a sharded result must be as wide as a core's {self.per_core[1]} columns, or one row high"

    def _bank_problems(self, request: MatmulRequest, board: Board) -> Iterator[str]:
        """What ttnn does not check: a core goes through the banks in order and takes all that is left of the first.

        Where a core has fewer columns than a bank, it takes too many, and the next core begins at the next bank: the result is
        wrong. Only one block of columns is read.
        """
        if self.kind != "2d":
            yield f"a {self.kind} matmul reads an interleaved weight"
            return
        in_bank = ceil_div(request.tiles[2], board.dram_banks)
        if self.per_core[1] < in_bank:
            yield (
                f"{self.per_core[1]} columns of tiles a core are fewer than the {in_bank} that a bank holds: "
                f"ttnn would read wrong columns; take {in_bank} or more"
            )
        if self.block[1] != self.per_core[1]:
            yield (
                f"a weight over banks is read in one block of columns, {self.per_core[1]} wide, not in blocks of {self.block[1]}"
            )

    def circular_buffers(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> int:
        """Operand blocks, twice if there is more than one step; the output's block, and its partial sums unless they have
        its dtype and place. A sharded activation and a sharded result lend their own memory."""
        kernel = kernel_of(request)
        steps = request.tiles[1] // self.inner
        partial = partial_dtype(request.output_dtype, kernel, steps)
        area = self.block[0] * self.block[1]
        size = operand_bytes(request, 2 if steps > 1 else 1, self.inner, self.block)
        if not self._sharded:
            size += area * tile_bytes(request.output_dtype)
        apart = self._sharded and self.block != self.per_core
        return size + (area * tile_bytes(partial) if partial != request.output_dtype or apart else 0)

    def cores(self, request: MatmulRequest, board: Board) -> int:
        rows, columns = self._used(request)
        return rows * columns

    def work(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        mt, kt, nt = request.tiles
        m, n = self.per_core
        row_blocks, column_blocks = m // self.block[0], n // self.block[1]
        in0, in1 = tile_bytes(request.input_dtype), tile_bytes(request.weight_dtype)
        rows_in, columns_in = column_blocks * m * kt * in0, row_blocks * n * kt * in1  # enter a core
        dram_tiles = row_blocks * kt * nt
        dram = dram_tiles * in1
        if reads[0] == DRAM:
            dram_tiles += column_blocks * mt * kt
            dram += column_blocks * mt * kt * in0
        noc = 0
        if self.output == "dram":
            made = tiles(request.results[request.name])
            dram_tiles += made
            dram += made * tile_bytes(request.output_dtype)
        elif self.output == "l1":
            noc += m * n * tile_bytes(request.output_dtype)
        alone = {"1d": columns_in, "1d_in1": rows_in, "2d": 0}[self.kind]
        products = m * n * kt
        return Work(
            matrix_cycles=products * tile_cycles(kernel_of(request), board),
            matrix_bytes=products * (in0 + in1),
            dram_bytes=dram,
            dram_pages=dram_tiles,
            sender_bytes=max(columns_in, rows_in if reads[0] == DRAM else 0),
            noc_bytes=noc + alone,
            multicast_bytes=rows_in + columns_in - alone,
            multicasts=1,
        )

    def to_ttnn(self, request: MatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        common: dict[str, Any] = {
            "compute_with_storage_grid_size": self.grid,
            "in0_block_w": self.inner,
            "out_subblock_h": self.subblock[0],
            "out_subblock_w": self.subblock[1],
            "out_block_h": self.block[0],
            "out_block_w": self.block[1],
            "per_core_M": self.per_core[0],
            "per_core_N": self.per_core[1],
            "fuse_batch": True,
            "fused_activation": fused_activation(request.activation),
        }
        program = (
            ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(**common, transpose_mcast=self.transpose)
            if self.kind == "2d"
            else ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**common, mcast_in0=self.kind == "1d")
        )
        (text,) = self.results(request, board)
        return {
            "program_config": program,
            "compute_kernel_config": kernel_config(kernel_of(request)),
            "memory_config": placed(text, request.results[request.name], board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),
        }

    def issue(self, request: MatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        x, weight, *bias = tensors
        return ttnn.linear(x, weight, bias=bias[0] if bias else None, **self.to_ttnn(request, board))
