"""The published hand rules for configs: what a hand-optimised decoder takes for a matmul, a norm, attention.

They are no part of the search. Tests hold each against the planner's choice, which must never be estimated slower; a user can
take one by an override. Grids are those of the rules: 8 columns everywhere, though Blackhole has 11 or more.

Source: models/tt_transformers of tt-metal (model_config.py, lm_head.py) and tech_reports/LLMs/llms.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ttt_core import PlacementError
from ttt_hw.estimate import estimate
from ttt_hw.layouts import row_of_cores, width_sharded
from ttt_hw.options import first_problem
from ttt_hw.patterns._matmul_blocks import MAX_INNER, Pair, ceil_div, divisors, kernel_of, largest_subblock
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.bcast_matmul import BcastMatmul
from ttt_hw.patterns.decode_attention import DecodeAttention
from ttt_hw.patterns.dram_sharded_matmul import DramShardedMatmul
from ttt_hw.patterns.flash_attention import LONG_PREFILL, FlashAttention
from ttt_hw.patterns.minimal_matmul import MinimalMatmul
from ttt_hw.patterns.sharded_norm import ShardedNorm
from ttt_hw.records import Board
from ttt_hw.requests import (
    DecodeAttentionRequest,
    LMHeadRequest,
    MatmulRequest,
    NormRequest,
    OpRequest,
    PrefillAttentionRequest,
)
from ttt_shard_dsl import TILE

__all__ = [
    "Recipe",
    "decode_attention",
    "dram_sharded",
    "lm_head",
    "mcast_1d",
    "mcast_2d",
    "minimal",
    "prefill_attention",
    "sharded_norm",
]

COLUMNS = 8  # of cores, in every rule
SHARDED_CORES = 32  # that decode activations lie on, if they divide the width
STEPS_OF_2D = 4  # inner tiles of a step, at most
SUBBLOCK_OF_2D = 4  # tiles: what registers of 32-bit values hold
NORM_SUBBLOCK = 4
LM_HEAD_COLUMNS = 668  # of a vocabulary on a core, so that a piece fits L1

MatmulT = TypeVar("MatmulT", bound=MatmulRequest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A rule applied to a request: the config, and the request that it runs `repeats` times where the rule cuts the work up."""

    name: str
    request: OpRequest
    pattern: Pattern[Any]
    repeats: int = 1

    def problem(self, board: Board) -> str | None:
        """Why the rule is not legal for this shape; None: it is."""
        return first_problem(self.pattern, self.request, board)

    def time_us(self, board: Board) -> float:
        """By the estimate, with inputs where the config likes them best. Errors: PlacementError where it is not legal."""
        if (problem := self.problem(board)) is not None:
            raise PlacementError(f"recipe {self.name} does not do for {self.request} on {board.name}: {problem}.")
        reads = [layouts[0] for layouts in self.pattern.accepts(self.request, board)]
        return self.repeats * estimate(self.pattern.work(self.request, board, reads), board).time_us


def dram_sharded(request: MatmulRequest, board: Board, *, cores: int | None = None) -> Recipe:
    """Decode: in0_block_w the largest divisor up to 8 of K / (32 · cores), per_core_N = ⌈N / (32 · cores)⌉ with the cores that
    the activation lies on: those nearest to 32 that divide its tiles (model_config.py, dram_matmul_config and find_grid)."""
    _, kt, nt = request.tiles
    count = cores or near_32(kt, board)
    per_core = ceil_div(nt, count)
    return Recipe(
        name="dram_sharded",
        request=request,
        pattern=DramShardedMatmul(
            activation=width_sharded(rectangle(count, board)),
            inner=largest_divisor(kt // count, MAX_INNER),
            per_core=per_core,
            output=f"b h s d@core in l1 on {row_of_cores(ceil_div(nt, per_core), board.grid)}",
        ),
    )


def mcast_2d(request: MatmulT, board: Board, *, rows: int | None = None, weight: Any = "interleaved") -> Recipe:
    """Prefill: 8×8 cores, 8×10 on Blackhole; per_core_M = ⌈M / (32 · 10)⌉, per_core_N = ⌈N / (32 · 8)⌉, in0_block_w up to 4,
    subblocks 1 × up to 4 (model_config.py, matmul_config). `rows`: the prompt is cut into as many, one after the other: 2048
    for queries, keys and values, 1024 for the attention's output; feed-forward 1024, on Blackhole 512."""
    repeats = 1
    if rows is not None and request.m > rows:
        repeats = ceil_div(request.m, rows)
        request = replace(request, m=rows)
    mt, kt, nt = request.tiles
    grid = (COLUMNS, board.grid[1])
    per_core = ceil_div(mt, grid[1]), ceil_div(nt, grid[0])
    return Recipe(
        name="mcast_2d",
        request=request,
        pattern=BcastMatmul(
            kind="2d",
            grid=grid,
            per_core=per_core,
            inner=largest_divisor(kt, min(STEPS_OF_2D, max(1, kt // grid[0]))),
            block=per_core,
            subblock=(1, largest_divisor(per_core[1], SUBBLOCK_OF_2D)),
            weight=weight,
        ),
        repeats=repeats,
    )


def mcast_1d(request: MatmulRequest, board: Board) -> Recipe:
    """Few rows, many columns: per_core_M all of them, per_core_N = ⌈N / (32 · cores)⌉, in0_block_w the largest divisor up to 8
    of K / (32 · cores), the largest subblocks (model_config.py, matmul_1d_config)."""
    mt, kt, nt = request.tiles
    grid = (COLUMNS, min(8, board.grid[1]))
    cores = grid[0] * grid[1]
    per_core = (mt, ceil_div(nt, cores))
    return Recipe(
        name="mcast_1d",
        request=request,
        pattern=BcastMatmul(
            kind="1d",
            grid=grid,
            per_core=per_core,
            inner=largest_divisor(max(1, kt // cores) if kt % cores == 0 else 1, MAX_INNER),
            block=per_core,
            subblock=largest_subblock(per_core, kernel_of(request)),
            output="l1",
        ),
    )


def minimal(request: MatmulRequest, board: Board) -> Recipe:
    """Prefill above 128 tokens: blocks 8 / 8 / 8 of ttnn.experimental.minimal_matmul on the whole grid."""
    block = (8, 8)
    return Recipe(
        name="minimal",
        request=request,
        pattern=MinimalMatmul(
            grid=board.grid, block=block, inner=8, subblock=largest_subblock(block, kernel_of(request))
        ),
    )


def prefill_attention(request: PrefillAttentionRequest, board: Board) -> Recipe:
    """Chunks of 256 from 2048 tokens on, else of 64, on 8×8 cores of every chip (model_config.py, SDPA_PROGCFG)."""
    chunk = 256 if request.tokens >= LONG_PREFILL else 64
    pattern = FlashAttention(grid=(COLUMNS, 8), q_chunk=chunk, k_chunk=chunk)
    return Recipe(name="prefill_attention", request=request, pattern=pattern)


def decode_attention(request: DecodeAttentionRequest, board: Board) -> Recipe:
    """8×8 cores, chunks that ttnn chooses (model_config.py, SDPA_DECODE_PROGCFG)."""
    return Recipe(name="decode_attention", request=request, pattern=DecodeAttention(grid=(COLUMNS, 8), k_chunk=0))


def sharded_norm(request: NormRequest, board: Board) -> Recipe:
    """Decode: width-sharded on as many cores as its consumer reads from, the subblock the largest divisor up to 4 of a core's
    tiles (model_config.py, create_sharded_norm_config)."""
    tiles = request.shape[-1] // TILE
    cores = near_32(tiles, board)
    pattern = ShardedNorm(grid=rectangle(cores, board), subblock=largest_divisor(tiles // cores, NORM_SUBBLOCK))
    return Recipe(name="sharded_norm", request=request, pattern=pattern)


def lm_head(request: LMHeadRequest, board: Board) -> Recipe:
    """The vocabulary cut into equal pieces of at most 668 columns a core, each a DRAM-sharded matmul (lm_head.py); joining
    the logits is not counted."""
    cores = near_32(request.tiles[1], board)
    pieces = ceil_div(request.n, LM_HEAD_COLUMNS * cores)
    piece = MatmulRequest(
        name=request.name,
        m=request.m,
        k=request.k,
        n=ceil_div(request.n, pieces * TILE) * TILE,
        weight_dtype=request.weight_dtype,
        input_dtype=request.input_dtype,
        output_dtype=request.output_dtype,
        kernel=request.kernel,
    )
    return replace(dram_sharded(piece, board, cores=cores), name="lm_head", repeats=pieces)


def near_32(tiles: int, board: Board) -> int:
    """The number of cores nearest to 32 that divides so many tiles and is a rectangle of up to 8 columns."""
    most = min(8, board.grid[1])
    counts = [
        count
        for count in divisors(tiles)
        if any(count % columns == 0 and count // columns <= most for columns in range(1, COLUMNS + 1))
    ]
    return min(counts, key=lambda count: (abs(count - SHARDED_CORES), -count))


def rectangle(cores: int, board: Board) -> Pair:
    """The widest of so many cores with up to 8 columns. Errors: PlacementError where there is none."""
    for columns in range(COLUMNS, 0, -1):
        if cores % columns == 0 and cores // columns <= board.grid[1]:
            return columns, cores // columns
    raise PlacementError(f"{cores} cores are no rectangle of up to {COLUMNS} columns on {board.name}.")


def largest_divisor(value: int, most: int) -> int:
    return max(divisor for divisor in divisors(value) if divisor <= most)
