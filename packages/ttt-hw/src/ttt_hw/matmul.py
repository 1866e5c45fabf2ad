"""The multicast matmul that blocks take when no planner has chosen for them: one operation at a time, activations interleaved.

m, k, n are rows, inner dim and columns in elements; mt, kt, nt the same in tiles of 32.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, Chip
from ttt_hw.compute import matmul_kernel
from ttt_hw.layouts import DRAM
from ttt_hw.patterns.bcast_matmul import BcastMatmul as BcastMatmul
from ttt_hw.patterns.bcast_search import Split, block_sizes, sizes_of, two_d
from ttt_hw.patterns.matmul_blocks import (
    MAX_INNER as MAX_BLOCK_W,
    PROGRAM_RESERVE as L1_RESERVED,
    ceil_div as ceil_div,
    divisors as divisors,
    kernel_of,
    largest_subblock,
)
from ttt_hw.records import Board
from ttt_hw.requests import MatmulRequest as MatmulRequest
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE

__all__ = [
    "L1_RESERVED",
    "MAX_BLOCK_W",
    "BcastMatmul",
    "MatmulRequest",
    "PlannedMatmul",
    "ceil_div",
    "divisors",
    "plan_matmul",
]


@lru_cache(maxsize=64)
def board_with(chip: Chip) -> Board:
    """Any board, but with this chip: patterns ask for a board, and know one chip of it."""
    return replace(next(iter(BOARDS.values())), chip=chip)


@lru_cache(maxsize=4096)
def plan_matmul(request: MatmulRequest, chip: Chip) -> BcastMatmul:
    """The legal BcastMatmul that streams the fewest operand bytes per core and leaves L1_RESERVED bytes to tensors.

    One tile of rows is spread over all cores by columns (1d); more rows use the grid in both directions (2d).
    Raises PlacementError when no block size fits.
    """
    mt, kt, nt = request.tiles
    x, y = chip.grid
    if mt == 1:
        columns = ceil_div(nt, x * y)
        cores = ceil_div(nt, columns)
        split = Split("1d", (min(cores, x), ceil_div(cores, x)), (1, columns))
    else:
        split = two_d(mt, nt, x, y)
    budget = chip.l1_bytes_per_core - L1_RESERVED
    inner, block = block_sizes(kt, split.per_core, kt, False, sizes_of(request), budget)[0]
    config = BcastMatmul(
        kind=split.kind,
        grid=split.grid,
        per_core=split.per_core,
        inner=inner,
        block=block,
        subblock=largest_subblock(block, kernel_of(request)),
    )
    board = board_with(chip)
    if config.circular_buffers(request, board, (DRAM, DRAM)) > budget:
        raise PlacementError(
            f"{request}: no block size fits the {budget:,} bytes of L1 per core of {chip.arch}. "
            "Split the matmul into fewer rows or columns."
        )
    config.check(request, board)
    return config


class PlannedMatmul:
    """A matmul with a fixed weight and any number of rows: the config for each row count, planned once.

    `for_rows(m)` gives the ttnn program config that `ttnn.linear` takes; `config_for(m)` the config it was made from.
    """

    def __init__(
        self, *, name: str, k: int, n: int, weight_dtype: DType, chip: Chip, bias_dtype: DType | None = None
    ) -> None:
        inputs = ("x", "weight") if bias_dtype is None else ("x", "weight", "bias")
        self._request = MatmulRequest(
            name=name, inputs=inputs, m=TILE, k=k, n=n, weight_dtype=weight_dtype, bias_dtype=bias_dtype
        )
        self._chip = chip
        self.kernel = matmul_kernel(weight_dtype).to_ttnn()
        self._programs: dict[int, Any] = {}

    def config_for(self, rows: int) -> BcastMatmul:
        return plan_matmul(replace(self._request, m=rows), self._chip)

    def for_rows(self, rows: int) -> Any:
        """The program config for `rows` rows."""
        program = self._programs.get(rows)
        if program is None:
            request, board = replace(self._request, m=rows), board_with(self._chip)
            program = self._programs[rows] = self.config_for(rows).to_ttnn(request, board)["program_config"]
        return program
