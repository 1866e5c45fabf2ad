"""Matmul configs: activations and weights multicast over a grid of cores.

m, k, n are rows, inner dim and columns in elements; mt, kt, nt the same in tiles of 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from ttt_core import PlacementError
from ttt_hw.catalogue import Chip
from ttt_hw.compute import ComputeKernel, matmul_kernel
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE, tile_bytes

MAX_BLOCK_W = 8  # inner tiles a core reads at once; reads are long enough to hide latency by then
L1_RESERVED = 128 * 1024  # left for activations that stay in L1 beside a matmul's buffers


_COUNTS = ("in0_block_w", "per_core_m", "per_core_n", "out_block_h", "out_block_w", "out_subblock_h", "out_subblock_w")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatmulRequest:
    """One matmul as data: [m, k] @ [k, n] and each operand's dtype."""

    name: str
    m: int
    k: int
    n: int
    weight_dtype: DType = "bfloat16"
    input_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    bias_dtype: DType | None = None

    @property
    def tiles(self) -> tuple[int, int, int]:
        return ceil_div(self.m, TILE), ceil_div(self.k, TILE), ceil_div(self.n, TILE)

    def __str__(self) -> str:
        return f"{self.name} [{self.m}, {self.k}] @ [{self.k}, {self.n}] {self.weight_dtype}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BcastMatmul:
    """Operands interleaved in memory, read once and multicast.

    `1d`: each core computes all rows of its share of the columns; the activation is multicast to all cores (decode).
    `2d`: cores form a grid over rows × columns; the activation is multicast along rows, the weight along columns (prefill).

    A core computes per_core_m × per_core_n output tiles in blocks of out_block_h × out_block_w, stepping through the inner
    dim by in0_block_w tiles; the engine holds out_subblock_h × out_subblock_w tiles at a time.

    Source: MatmulMultiCoreReuseMultiCast1DProgramConfig and MatmulMultiCoreReuseMultiCastProgramConfig of ttnn.
    """

    kind: Literal["1d", "2d"]
    grid: tuple[int, int]
    in0_block_w: int
    per_core_m: int
    per_core_n: int
    out_block_h: int
    out_block_w: int
    out_subblock_h: int
    out_subblock_w: int
    kernel: ComputeKernel

    def check(self, request: MatmulRequest, chip: Chip) -> None:
        """Raise PlacementError unless the config computes all of `request` and fits `chip`; no device is needed."""
        mt, kt, nt = request.tiles
        x, y = self.grid
        rows, columns = (1, x * y) if self.kind == "1d" else (y, x)
        subblock = self.out_subblock_h * self.out_subblock_w
        for name, value in (("grid", min(x, y)), *((name, getattr(self, name)) for name in _COUNTS)):
            if value < 1:
                raise PlacementError(f"{request} cannot run as {self}: {name} must be at least 1, not {value}.")
        l1_bytes, budget = self.l1_bytes(request), chip.l1_bytes_per_core - L1_RESERVED
        rules = (
            (
                x <= chip.grid[0] and y <= chip.grid[1],
                f"grid {x}x{y} is beyond the chip's {chip.grid[0]}x{chip.grid[1]}",
            ),
            (
                rows * self.per_core_m >= mt,
                f"{rows} x per_core_m={self.per_core_m} covers less than the {mt} row tiles",
            ),
            (
                columns * self.per_core_n >= nt,
                f"{columns} x per_core_n={self.per_core_n} covers less than the {nt} column tiles",
            ),
            (kt % self.in0_block_w == 0, f"in0_block_w={self.in0_block_w} does not divide the {kt} inner tiles"),
            (
                self.per_core_m % self.out_block_h == 0,
                f"out_block_h={self.out_block_h} does not divide per_core_m={self.per_core_m}",
            ),
            (
                self.per_core_n % self.out_block_w == 0,
                f"out_block_w={self.out_block_w} does not divide per_core_n={self.per_core_n}",
            ),
            (
                self.out_block_h % self.out_subblock_h == 0,
                f"out_subblock_h={self.out_subblock_h} does not divide out_block_h={self.out_block_h}",
            ),
            (
                self.out_block_w % self.out_subblock_w == 0,
                f"out_subblock_w={self.out_subblock_w} does not divide out_block_w={self.out_block_w}",
            ),
            (
                subblock <= self.kernel.dst_tiles,
                f"a subblock of {subblock} tiles is beyond the {self.kernel.dst_tiles} that the destination registers hold",
            ),
            (
                l1_bytes <= budget,
                f"{l1_bytes:,} bytes of L1 per core are beyond the {budget:,} left beside activations",
            ),
        )
        for holds, reason in rules:
            if not holds:
                raise PlacementError(
                    f"{request} cannot run as {self}: {reason}. Change that field, or let plan_matmul choose."
                )

    def l1_bytes(self, request: MatmulRequest) -> int:
        """Circular-buffer bytes per core: operand blocks, the output block, and its partial sums where their dtype differs.

        Operand blocks are double-buffered if there is more than one step along the inner dim. Partial sums are float32 where
        the destination registers are, bfloat16 where the packer adds up the steps, else the output's dtype.
        Equal to what ttnn 0.81 allocates.
        """
        steps = request.tiles[1] // self.in0_block_w
        buffers = 2 if steps > 1 else 1
        activation = buffers * self.in0_block_w * self.out_block_h * tile_bytes(request.input_dtype)
        weight = buffers * self.in0_block_w * self.out_block_w * tile_bytes(request.weight_dtype)
        partial = request.output_dtype
        if self.kernel.fp32_accumulate:
            partial = "float32"
        elif self.kernel.packer_l1_accumulate and steps > 1:
            partial = "bfloat16"
        bias = self.out_block_w * tile_bytes(request.bias_dtype) if request.bias_dtype else 0
        output = tile_bytes(request.output_dtype) + (tile_bytes(partial) if partial != request.output_dtype else 0)
        return activation + weight + bias + self.out_block_h * self.out_block_w * output

    def to_ttnn(self) -> Any:
        import ttnn

        if self.kind == "1d":
            return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
                compute_with_storage_grid_size=self.grid,
                in0_block_w=self.in0_block_w,
                out_subblock_h=self.out_subblock_h,
                out_subblock_w=self.out_subblock_w,
                out_block_h=self.out_block_h,
                out_block_w=self.out_block_w,
                per_core_M=self.per_core_m,
                per_core_N=self.per_core_n,
                fuse_batch=True,
                fused_activation=None,
                mcast_in0=True,
            )
        return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
            compute_with_storage_grid_size=self.grid,
            in0_block_w=self.in0_block_w,
            out_subblock_h=self.out_subblock_h,
            out_subblock_w=self.out_subblock_w,
            out_block_h=self.out_block_h,
            out_block_w=self.out_block_w,
            per_core_M=self.per_core_m,
            per_core_N=self.per_core_n,
            transpose_mcast=False,
            fused_activation=None,
            fuse_batch=True,
        )


@lru_cache(maxsize=4096)
def plan_matmul(request: MatmulRequest, chip: Chip) -> BcastMatmul:
    """The legal BcastMatmul that streams the fewest operand bytes per core.

    One tile of rows is spread over all cores by columns (1d); more rows use the grid in both directions (2d).
    Raises PlacementError when no block size fits.
    """
    budget = chip.l1_bytes_per_core - L1_RESERVED
    configs = [config for config in _candidates(request, chip) if config.l1_bytes(request) <= budget]
    if not configs:
        raise PlacementError(
            f"{request}: no block size fits the {budget:,} bytes of L1 per core of {chip.arch}. "
            "Split the matmul into fewer rows or columns."
        )
    best = min(configs, key=lambda config: _cost(config, request))
    best.check(request, chip)
    return best


def _candidates(request: MatmulRequest, chip: Chip) -> Iterator[BcastMatmul]:
    mt, kt, nt = request.tiles
    x, y = chip.grid
    kernel = matmul_kernel(request.weight_dtype)
    kind: Literal["1d", "2d"] = "1d" if mt == 1 else "2d"
    if kind == "1d":
        per_core_m, per_core_n = 1, ceil_div(nt, x * y)
        cores = ceil_div(nt, per_core_n)
        grid = (min(cores, x), ceil_div(cores, x))
    else:
        per_core_m, per_core_n = ceil_div(mt, y), ceil_div(nt, x)
        grid = (ceil_div(nt, per_core_n), ceil_div(mt, per_core_m))
    widest = max(divisor for divisor in divisors(kt) if divisor <= MAX_BLOCK_W)
    for in0_block_w in (width for width in divisors(kt) if width <= widest):
        for out_block_h in divisors(per_core_m):
            for out_block_w in divisors(per_core_n):
                subblocks = (
                    (h, w) for h in divisors(out_block_h) for w in divisors(out_block_w) if h * w <= kernel.dst_tiles
                )
                out_subblock_h, out_subblock_w = max(
                    subblocks, key=lambda subblock: (subblock[0] * subblock[1], subblock[1])
                )
                yield BcastMatmul(
                    kind=kind,
                    grid=grid,
                    in0_block_w=in0_block_w,
                    per_core_m=per_core_m,
                    per_core_n=per_core_n,
                    out_block_h=out_block_h,
                    out_block_w=out_block_w,
                    out_subblock_h=out_subblock_h,
                    out_subblock_w=out_subblock_w,
                    kernel=kernel,
                )


def _cost(config: BcastMatmul, request: MatmulRequest) -> tuple[int, int, int]:
    """Operand bytes that enter a core, then the number of steps: each block of columns rereads the rows and vice versa."""
    _, kt, _ = request.tiles
    column_blocks = config.per_core_n // config.out_block_w
    row_blocks = config.per_core_m // config.out_block_h
    streamed = kt * (
        column_blocks * config.per_core_m * tile_bytes(request.input_dtype)
        + row_blocks * config.per_core_n * tile_bytes(request.weight_dtype)
    )
    return streamed, -config.in0_block_w, -config.out_subblock_h * config.out_subblock_w


class PlannedMatmul:
    """A matmul with a fixed weight and any number of rows: the config for each row count, planned once.

    `for_rows(m)` gives the ttnn objects that `ttnn.linear` takes; `config_for(m)` the config they were made from.
    """

    def __init__(
        self, *, name: str, k: int, n: int, weight_dtype: DType, chip: Chip, bias_dtype: DType | None = None
    ) -> None:
        self._request = MatmulRequest(name=name, m=TILE, k=k, n=n, weight_dtype=weight_dtype, bias_dtype=bias_dtype)
        self._chip = chip
        self.kernel = matmul_kernel(weight_dtype).to_ttnn()
        self._programs: dict[int, Any] = {}

    def config_for(self, rows: int) -> BcastMatmul:
        return plan_matmul(replace(self._request, m=rows), self._chip)

    def for_rows(self, rows: int) -> Any:
        """The program config for `rows` rows."""
        program = self._programs.get(rows)
        if program is None:
            program = self._programs[rows] = self.config_for(rows).to_ttnn()
        return program


def divisors(value: int) -> list[int]:
    return [divisor for divisor in range(1, value + 1) if value % divisor == 0]


def ceil_div(value: int, unit: int) -> int:
    return -(-value // unit)
