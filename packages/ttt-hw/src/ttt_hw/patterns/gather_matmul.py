"""A matmul that begins while the activation is still being gathered from the chips of a ring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from ttt_core import ShapeError
from ttt_hw._kept import kept
from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, height_sharded, placed
from ttt_hw.patterns._bcast_search import Split, block_sizes, sizes_of, two_d
from ttt_hw.patterns._matmul_blocks import PROGRAM_RESERVE, Pair, ceil_div, kernel_of, largest_subblock, misplaced
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.bcast_matmul import BcastMatmul
from ttt_hw.records import Board
from ttt_hw.requests import MatmulRequest, TensorType
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["GatherMatmul"]

_PACKET_BYTES, _PACKETS = 4096, 3  # of whole tiles that a gathering core buffers
_CORES_PER_LINK = 2  # one a direction


@dataclass(frozen=True, kw_only=True, slots=True)
class GatherMatmulRequest(MatmulRequest):
    """all_gather(x) @ w + b: each of `chips` chips along mesh axis `axis` has k / chips columns of x. Inputs x, w, perhaps b."""

    chips: int
    axis: int = 1

    @property
    def operands(self) -> tuple[TensorType, ...]:
        if self.k % self.chips:
            raise ShapeError(f"{self.name}: {self.chips} chips do not divide the inner dim {self.k}.")
        x = TensorType(shape=(1, 1, self.m, self.k // self.chips), dtype=self.input_dtype)
        return (x, *self.whole.operands[1:])

    @property
    def whole(self) -> MatmulRequest:
        """The matmul alone, of an activation that has been gathered."""
        return MatmulRequest(**{f.name: getattr(self, f.name) for f in fields(MatmulRequest)})


@dataclass(frozen=True, kw_only=True)
class GatherMatmul(Pattern[GatherMatmulRequest]):
    """A BcastMatmul 1d or 2d of interleaved tensors on the upper rows of cores; the row below gathers, two cores a link.

    Fields as of BcastMatmul. Source: ttnn.experimental.all_gather_matmul_async, which needs chips in a ring.
    """

    serves: ClassVar = (GatherMatmulRequest,)

    kind: Literal["1d", "2d"]
    grid: Pair
    per_core: Pair
    inner: int
    block: Pair
    subblock: Pair

    @classmethod
    def candidates(cls, request: GatherMatmulRequest, board: Board) -> Iterator[GatherMatmul]:
        """Over all rows of cores but the last, with blocks that fill L1 and smaller ones."""
        mt, kt, nt = request.tiles
        x, y = board.grid[0], board.grid[1] - 1
        if kt % request.chips:
            return
        one_d = Split("1d", (x, y), (mt, ceil_div(nt, x * y)))
        for split in (one_d,) if mt == 1 else (two_d(mt, nt, x, y), one_d) if mt <= 8 else (two_d(mt, nt, x, y),):
            room = board.l1_bytes_per_core - PROGRAM_RESERVE
            for inner, block in block_sizes(
                kt, split.per_core, kt // request.chips, False, sizes_of(request.whole), room
            ):
                yield cls(
                    kind="1d" if split.kind == "1d" else "2d",
                    grid=split.grid,
                    per_core=split.per_core,
                    inner=inner,
                    block=block,
                    subblock=largest_subblock(block, kernel_of(request)),
                )

    @property
    def matmul(self) -> BcastMatmul:
        return BcastMatmul(
            kind=self.kind,
            grid=self.grid,
            per_core=self.per_core,
            inner=self.inner,
            block=self.block,
            subblock=self.subblock,
        )

    def accepts(self, request: GatherMatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return tuple((DRAM,) for _ in request.operands)

    def results(self, request: GatherMatmulRequest, board: Board) -> tuple[str, ...]:
        return (DRAM,)

    def problems(self, request: GatherMatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        chips = board.mesh[request.axis]
        if board.topology != "ring" or chips != request.chips:
            shape = f"{board.mesh[0]}x{board.mesh[1]}"
            yield f"{request.chips} chips must form a ring along axis {request.axis}, and the mesh is {shape} ({board.topology})"
        if self.grid[1] >= board.grid[1]:
            yield f"{self.grid[1]} rows of cores leave none of {board.grid[1]} to gather with; {board.grid[1] - 1} do"
        if board.links * _CORES_PER_LINK > board.grid[0]:
            yield f"{board.links} links take {board.links * _CORES_PER_LINK} cores of a row of {board.grid[0]}"
        kt = request.tiles[1]
        if request.k % (request.chips * TILE):
            yield f"a chip's {request.k // request.chips} columns of the activation are no whole tiles"
        elif self.inner > 0 and kt // request.chips % self.inner:
            yield f"inner={self.inner} does not divide the {kt // request.chips} inner tiles of a chip"
        yield from self.matmul.problems(request.whole, board, (DRAM,) * len(request.operands))
        yield from misplaced(reads, self.accepts(request, board), ("the activation", "the weight", "the bias"))

    def circular_buffers(self, request: GatherMatmulRequest, board: Board, reads: Sequence[str]) -> int:
        """Of the matmul's cores or of those that gather, which are others."""
        tile = tile_bytes(request.input_dtype)
        gathering = _PACKETS * (_PACKET_BYTES // tile) * tile
        return max(gathering, self.matmul.circular_buffers(request.whole, board, reads))

    def cores(self, request: GatherMatmulRequest, board: Board) -> int:
        return self.matmul.cores(request.whole, board)

    def work(self, request: GatherMatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        """The matmul's, and the bytes over the slowest link at its rate: half of the other chips' parts each way round."""
        work = self.matmul.work(request.whole, board, reads)
        part = request.m * request.k // request.chips * tile_bytes(request.input_dtype) / TILE**2
        rate = board.links * board.link_gb_per_s * 1e3 * board.chip.rates.link_efficiency  # bytes per µs
        hops = request.chips // 2
        return Work(
            matrix_cycles=work.matrix_cycles,
            dram_bytes=work.dram_bytes + part * request.chips,
            dram_pages=work.dram_pages,
            noc_bytes=work.noc_bytes,
            multicast_bytes=work.multicast_bytes,
            link_us=hops * (part / rate + board.chip.rates.hop_us),
        )

    def to_ttnn(self, request: GatherMatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        matmul = self.matmul.to_ttnn(request.whole, board)
        gathered = TensorType(shape=(1, 1, request.m, request.k), dtype=request.input_dtype)
        return {
            "dim": 3,
            "all_gather_core_grid_offset": ttnn.CoreCoord(0, self.grid[1]),
            "num_links": board.links,
            "topology": ttnn.Topology.Ring,
            "memory_config_ag": placed(DRAM, gathered, board).to_memory_config(),
            "memory_config_mm": matmul["memory_config"],
            "program_config": matmul["program_config"],
            "compute_kernel_config": matmul["compute_kernel_config"],
            "dtype": matmul["dtype"],
        }

    def issue(self, request: GatherMatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        """The result; the gathered activation is dropped."""
        import ttnn

        x, weight, *bias = tensors
        gathered, result = ttnn.experimental.all_gather_matmul_async(
            x,
            weight,
            persistent_output_buffer=None,
            multi_device_global_semaphore=_semaphores(x.device(), board),
            bias=bias[0] if bias else None,
            **self.to_ttnn(request, board),
        )
        del gathered
        return result


def _semaphores(mesh: Any, board: Board) -> list[Any]:
    """Two for each mesh that is open, on all cores: one a direction."""
    import ttnn

    x, y = board.grid
    everywhere = placed(height_sharded(board.grid), TensorType(shape=(1, 1, x * y * TILE, TILE)), board)
    cores = everywhere.to_memory_config().shard_spec.grid
    return kept(mesh, "all_gather_matmul", lambda: [ttnn.create_global_semaphore(mesh, cores, 0) for _ in range(2)])
