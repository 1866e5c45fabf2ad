"""The sum of decode activations over chips in one program that needs no agreement among them before it starts."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, ClassVar, Literal

from ttt_hw._kept import kept
from ttt_hw.estimate import Work, estimate
from ttt_hw.layouts import height_sharded, placed, width_sharded
from ttt_hw.patterns._rectangles import even_rectangles, grid_problems
from ttt_hw.patterns._traffic import tile_rows
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.collective import AllReduce, axis_problems, packet_bytes
from ttt_hw.patterns.dram_sharded_matmul import whole_counts, width_layouts
from ttt_hw.records import Board
from ttt_hw.requests import CollectiveRequest, TensorType
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["FusedAllReduce"]

HEADER_BYTES = 16 * 48  # of packets that a link's worker prepares
TURNS = 2  # buffers, each with its semaphore, that calls take in turn
KEPT_SHARE = 16  # of a core's L1 at most one part is kept for a sum: prompts, which use none of them, go without it


@dataclass(frozen=True, kw_only=True)
class FusedAllReduce(Pattern[CollectiveRequest]):
    """Each chip sends all it has to every other, into a buffer that waits there, and each sums what it received.

    x is width-sharded on any cores, the sum on the rectangle `grid` from the corner; a worker for each link has a core outside
    of it. A line of N chips carries N-1 whole tensors over its busiest link, where a reduce_scatter and an all_gather carry
    2·(N-1)/N: faster while starts and hops cost more than bytes, which is decode.

    A chip may send before the others have begun, so the buffers stay for as long as the mesh is open. Consecutive calls take
    two of them in turn, each with a semaphore of its own: a chip ends a call only when all others have begun it, and so are
    done with the one before, whose buffer the next call takes. Of a trace with an odd number of calls, the last one and the
    first of the next replay share a buffer: the host, or another collective, must let all chips finish between them.

    Source: ttnn.experimental.all_reduce_async with a buffer, and its kernels.
    """

    serves: ClassVar = (CollectiveRequest,)

    num_links: int
    grid: tuple[int, int]
    topology: Literal["linear", "ring"] = "linear"

    @classmethod
    def candidates(cls, request: CollectiveRequest, board: Board) -> Iterator[FusedAllReduce]:
        """One, so that all workloads share its buffers: the most cores whose shards fill a packet; where it is the faster way
        and keeps little."""
        if request.kind != "all_reduce" or tile_rows(request.shape) != 1:
            return
        every = list(cls._every(request, board))
        full = [one for one in every if one._shard(request) >= packet_bytes(request.dtype)]
        for one in (full or every[-1:])[:1]:
            split = AllReduce(num_links=board.links, memory="l1")
            if sum(one.keeps(request, board).values()) * KEPT_SHARE > board.l1_bytes_per_core:
                return
            if _time(one, request, board) < _time(split, request, board):
                yield one

    @classmethod
    def _every(cls, request: CollectiveRequest, board: Board) -> Iterator[FusedAllReduce]:
        """Legal ones, those with the most cores first, and those that burden all links alike."""
        grids = [grid for grid in even_rectangles(request.shape[-1], board) if request.shape[-1] % TILE == 0]
        uneven = [grid[0] * grid[1] % max(1, board.links) != 0 for grid in grids]
        for grid in [grid for _, grid in sorted(zip(uneven, grids, strict=True), key=lambda pair: pair[0])]:
            one = cls(num_links=board.links, grid=grid)
            if not list(one.problems(request, board, [width_sharded(grid)])):
                yield one

    def accepts(self, request: CollectiveRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        tiles = -(-request.shape[-1] // TILE)
        others = [text for count in whole_counts(tiles, board) for text in width_layouts(count, board)]
        return (tuple(dict.fromkeys((width_sharded(self.grid), *others))),)

    def results(self, request: CollectiveRequest, board: Board) -> tuple[str, ...]:
        return (width_sharded(self.grid),)

    def problems(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        yield from axis_problems("all_reduce", request, board, self.num_links, self.topology)
        if request.chips % 2:
            yield f"{request.chips} chips are an odd number, and the kernel sums pairs"
        if (
            tile_rows(request.shape) != 1
        ):  # pages of a shard are sent in their order, whatever its width; not checked by ttnn
            yield f"x has {tile_rows(request.shape)} rows of tiles; it must have one, 32 rows"
        if request.dtype not in ("bfloat16", "bfloat8_b"):
            yield f"{request.dtype} values are not summed; bfloat16 and bfloat8_b are"
        if request.shape[-1] % TILE:
            yield f"the last dim, {request.shape[-1]}, must be whole tiles of {TILE}"
        else:  # a core whose shard is not full waits for ever; not checked by ttnn
            yield from grid_problems(self.grid, request.shape[-1], board)
        x, y = self.grid
        free = board.grid[0] * board.grid[1] - x * y
        if free < self.num_links:  # ttnn does not check it either, and breaks off
            yield f"grid {x}x{y} leaves {max(free, 0)} cores; each of {self.num_links} links needs one for its worker"
        (accepted,) = self.accepts(request, board)
        if reads and reads[0] not in accepted:
            yield f"x lies in {reads[0]!r}; it must lie in {' or '.join(map(repr, accepted))}"

    def _shard(self, request: CollectiveRequest) -> int:
        """Bytes of x on a core of the result."""
        return request.shape[-1] // TILE // (self.grid[0] * self.grid[1]) * tile_bytes(request.dtype)

    def _of_a_link(self, request: CollectiveRequest) -> int:
        """Bytes that the busiest link's worker sends: whole shards."""
        return -(-self.grid[0] * self.grid[1] // self.num_links) * self._shard(request)

    def circular_buffers(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> int:
        """Of a link's worker, who reads all that it sends; what is summed, and the sum, are where they lie."""
        return self._of_a_link(request) + HEADER_BYTES

    def keeps(self, request: CollectiveRequest, board: Board) -> Mapping[Hashable, int]:
        return {self._key(request): TURNS * request.chips * self._shard(request)}

    def cores(self, request: CollectiveRequest, board: Board) -> int:
        return self.grid[0] * self.grid[1] + self.num_links

    def work(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> Work:
        """Parts follow one another over the busiest link, and come from half of the axis away on average; then all are summed."""
        rates, chips, part = board.chip.rates, request.chips, self._of_a_link(request)
        steps = chips // 2 if self.topology == "ring" else chips - 1
        rate = min(board.link_gb_per_s * rates.reduce_efficiency, rates.multicast_gb_per_s) * 1e3  # bytes per µs
        summing = chips * self._shard(request) / rates.unpack_bytes_per_cycle / (board.chip.clock_hz / 1e6)
        return Work(
            link_us=steps * part / rate + chips // 2 * rates.hop_us + rates.collective_us + summing,
            noc_bytes=part,
        )

    def to_ttnn(self, request: CollectiveRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        return {
            "cluster_axis": request.axis,
            "dtype": getattr(ttnn, request.dtype),
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "topology": ttnn.Topology.Ring if self.topology == "ring" else ttnn.Topology.Linear,
            "num_links": self.num_links,
        }

    def prepare(self, request: CollectiveRequest, board: Board, mesh: Any) -> None:
        self._turns(request, board, mesh)

    def issue(self, request: CollectiveRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (x,) = tensors
        mesh = x.device()
        buffer, semaphore = self._turns(request, board, mesh).take()
        return ttnn.experimental.all_reduce_async(
            x, buffer, mesh_device=mesh, multi_device_global_semaphore=semaphore, **self.to_ttnn(request, board)
        )

    def _key(self, request: CollectiveRequest) -> Hashable:
        return "all_reduce", request.axis, request.chips, request.shape[-1], request.dtype, self.grid

    def _turns(self, request: CollectiveRequest, board: Board, mesh: Any) -> _Turns:
        return kept(mesh, self._key(request), lambda: self._make(request, board, mesh))

    def _make(self, request: CollectiveRequest, board: Board, mesh: Any) -> _Turns:
        """Buffers with a place for every chip's part of each core's shard; semaphores on all cores."""
        import ttnn

        parts = TensorType(shape=(1, 1, TILE, request.shape[-1] * request.chips), dtype=request.dtype)
        memory = placed(width_sharded(self.grid), parts, board).to_memory_config()
        dtype, x, y = getattr(ttnn, request.dtype), *board.grid
        everywhere = placed(height_sharded(board.grid), TensorType(shape=(1, 1, x * y * TILE, TILE)), board)
        cores = everywhere.to_memory_config().shard_spec.grid
        operation: Any = ttnn.empty
        empty = operation.function  # raw, so that no value shadow and no recorder sees it
        return _Turns(
            [
                (
                    empty(list(parts.shape), dtype, ttnn.TILE_LAYOUT, mesh, memory),
                    ttnn.create_global_semaphore(mesh, cores, 0),
                )
                for _ in range(TURNS)
            ]
        )


@dataclass(slots=True)
class _Turns:
    """Pairs of a buffer and its semaphore, taken one after another."""

    pairs: list[tuple[Any, Any]]
    _next: Iterator[tuple[Any, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._next = cycle(self.pairs)

    def take(self) -> tuple[Any, Any]:
        return next(self._next)


def _time(pattern: Pattern[Any], request: CollectiveRequest, board: Board) -> float:
    return estimate(pattern.work(request, board, ()), board).time_us
