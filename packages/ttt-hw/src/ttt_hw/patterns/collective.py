"""What the chips along a mesh axis do together: sum, sum and split, join."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import CollectiveRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["AllGather", "AllReduce", "ReduceScatter"]

PACKET_BYTES = 4352  # the largest of the fabric that is whole tiles of any dtype: 4 of bfp8
GATHER_PACKETS = {"wormhole_b0": 9, "blackhole": 12}  # that an all_gather's worker holds: three buffers
REDUCE_TILES = {"linear": 4 * 24, "ring": 5 * 16}  # that a reduce_scatter's worker holds: own, received, summed, …
# Latencies of a hop that each step takes, fitted to tech_reports/CCLs/results.
GATHER_HOPS = {"linear": 2.7, "ring": 3.8}
REDUCE_HOPS = {"linear": 5.6, "ring": 5.0}


@dataclass(frozen=True, kw_only=True)
class Collective(Pattern[CollectiveRequest]):
    """A collective of chips in a line, or in a ring where the ends of the axis are cabled and the fabric is one of rings.

    x lies interleaved in `memory`, and so does the result. A ring is never a candidate: meshes are opened with a fabric of lines.
    """

    serves: ClassVar = (CollectiveRequest,)
    kind: ClassVar[Literal["all_reduce", "reduce_scatter", "all_gather"]]

    num_links: int
    topology: Literal["linear", "ring"] = "linear"
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: CollectiveRequest, board: Board) -> Iterator[Collective]:
        if request.kind == cls.kind:
            yield cls(num_links=board.links, memory="l1")
            yield cls(num_links=board.links)

    def accepts(self, request: CollectiveRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return ((interleaved(request.operands[0], self.memory),),)

    def results(self, request: CollectiveRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        yield from axis_problems(self.kind, request, board, self.num_links, self.topology)
        yield from self._shape_problems(request)

    @abstractmethod
    def _shape_problems(self, request: CollectiveRequest) -> Iterator[str]:
        """What the shape must be besides."""

    def cores(self, request: CollectiveRequest, board: Board) -> int:
        return self.num_links

    def work(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> Work:
        sent, hops, programs, moved = self._load(request)
        rates = board.chip.rates
        rate = self.num_links * board.link_gb_per_s * 1e3  # bytes per µs
        efficiency = rates.link_efficiency if request.kind == "all_gather" else rates.reduce_efficiency
        in_dram = self.memory == "dram"
        return Work(
            link_us=sent / (rate * efficiency) + hops * rates.hop_us + rates.collective_us * programs,
            dram_bytes=moved if in_dram else 0,
            dram_pages=int(moved / tile_bytes(request.dtype)) if in_dram else 0,
            noc_bytes=moved / self.num_links / 2,
            programs=programs,
        )

    @abstractmethod
    def _load(self, request: CollectiveRequest) -> tuple[float, float, int, float]:
        """Bytes over the busiest link in one direction, latencies of a hop, programs, bytes read and written on a chip."""

    def _steps(self, request: CollectiveRequest) -> int:
        """Parts of other chips that the busiest link carries, one after the other."""
        return request.chips // 2 if self.topology == "ring" else request.chips - 1

    def to_ttnn(self, request: CollectiveRequest, board: Board) -> dict[str, Any]:
        import ttnn

        return {
            "cluster_axis": request.axis,
            "num_links": self.num_links,
            "topology": ttnn.Topology.Ring if self.topology == "ring" else ttnn.Topology.Linear,
            "memory_config": ttnn.L1_MEMORY_CONFIG if self.memory == "l1" else ttnn.DRAM_MEMORY_CONFIG,
        }

    def arguments(self, request: CollectiveRequest, board: Board) -> dict[str, Any]:
        """All keyword arguments of the call: `to_ttnn`, and the dim that is split or joined."""
        return self.to_ttnn(request, board) | ({} if self.kind == "all_reduce" else {"dim": request.dim})


@dataclass(frozen=True, kw_only=True)
class AllGather(Collective):
    """Each chip sends its part to all; one worker a link. Source: ttnn.all_gather."""

    kind = "all_gather"

    def _shape_problems(self, request: CollectiveRequest) -> Iterator[str]:
        yield from _broken_tiles(request)
        if request.dim == 2 and request.shape[2] % TILE:
            yield f"dim 2, {request.shape[2]}, must be whole tiles of {TILE} to be joined"

    def circular_buffers(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> int:
        return gather_buffers(request.dtype, board)

    def _load(self, request: CollectiveRequest) -> tuple[float, float, int, float]:
        part, steps = _bytes(request), self._steps(request)
        return steps * part, steps * GATHER_HOPS[self.topology], 1, (1 + request.chips) * part

    def issue(self, request: CollectiveRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (x,) = tensors
        return ttnn.all_gather(x, **self.arguments(request, board))


@dataclass(frozen=True, kw_only=True)
class ReduceScatter(Collective):
    """Sums travel along the chips, each chip's part towards it. Source: ttnn.reduce_scatter."""

    kind = "reduce_scatter"

    def _shape_problems(self, request: CollectiveRequest) -> Iterator[str]:
        yield from _broken_tiles(request)
        if not _splits(request, request.dim):
            yield (
                f"dim {request.dim}, {request.shape[request.dim]}, must be a multiple of {request.chips} chips × "
                f"{TILE if request.dim > 1 else 1}"
            )

    def circular_buffers(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> int:
        return REDUCE_TILES[self.topology] * tile_bytes(request.dtype)

    def _load(self, request: CollectiveRequest) -> tuple[float, float, int, float]:
        part, steps = _bytes(request) / request.chips, self._steps(request)
        return steps * part, steps * REDUCE_HOPS[self.topology], 1, 3 * _bytes(request)

    def issue(self, request: CollectiveRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (x,) = tensors
        return ttnn.reduce_scatter(x, **self.arguments(request, board))


@dataclass(frozen=True, kw_only=True)
class AllReduce(Collective):
    """A reduce_scatter and an all_gather where a dim splits into whole tiles over the chips, else each chip sends all that it has
    to all, and each sums. Source: ttnn.all_reduce."""

    kind = "all_reduce"

    def _shape_problems(self, request: CollectiveRequest) -> Iterator[str]:
        if not _composite(request) and request.dtype != "bfloat16":
            yield f"{request.dtype} values that do not split over {request.chips} chips in whole tiles must be bfloat16"

    def circular_buffers(self, request: CollectiveRequest, board: Board, reads: Sequence[str]) -> int:
        if not _composite(request):
            return 3 * packet_bytes(request.dtype)  # of the broadcast; joining and summing take less
        return max(REDUCE_TILES[self.topology] * tile_bytes(request.dtype), gather_buffers(request.dtype, board))

    def scratch(self, request: CollectiveRequest, board: Board) -> int:
        """A chip's part of the sum; without one, what every chip sent."""
        if self.memory == "dram":
            return 0
        tiles = _bytes(request) // tile_bytes(request.dtype)
        parts, pieces = (request.chips, 1) if _composite(request) else (1, request.chips)
        return pieces * -(-tiles // (parts * prod(board.grid))) * tile_bytes(request.dtype)

    def _load(self, request: CollectiveRequest) -> tuple[float, float, int, float]:
        whole, steps = _bytes(request), self._steps(request)
        if not _composite(request):
            return steps * whole, steps * GATHER_HOPS[self.topology], 3, 3 * request.chips * whole
        return (
            2 * steps * whole / request.chips,
            steps * (GATHER_HOPS[self.topology] + REDUCE_HOPS[self.topology]),
            2,
            4 * whole,
        )

    def issue(self, request: CollectiveRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (x,) = tensors
        return ttnn.all_reduce(x, **self.to_ttnn(request, board))


def axis_problems(
    kind: str, request: CollectiveRequest, board: Board, num_links: int, topology: Literal["linear", "ring"]
) -> Iterator[str]:
    """Whether a collective of that kind can run along the axis, with so many links."""
    if request.kind != kind:
        yield f"it is an {kind}, and the request an {request.kind}"
    along = board.mesh[request.axis]
    if request.chips != along or along < 2:
        yield f"{request.chips} chips must be all of the mesh's axis {request.axis}, which has {along}, and at least 2"
    if not 1 <= num_links <= board.links:
        yield f"num_links={num_links} must be at least 1 and at most the {board.links} links of {board.name}"
    if topology == "ring" and board.topology != "ring":
        yield f"topology=ring needs an axis whose ends are cabled, but a {board.mesh[0]}×{board.mesh[1]} mesh is none"


def _broken_tiles(request: CollectiveRequest) -> Iterator[str]:
    if request.shape[3] % TILE:  # ttnn goes through row-major, in programs of other sizes
        yield f"the last dim, {request.shape[3]}, must be whole tiles of {TILE}"


def gather_buffers(dtype: str, board: Board) -> int:
    """Of an all_gather's worker."""
    return GATHER_PACKETS[board.chip.arch] * packet_bytes(dtype)


def packet_bytes(dtype: str) -> int:
    """Whole tiles."""
    return max(1, PACKET_BYTES // tile_bytes(dtype)) * tile_bytes(dtype)


def _splits(request: CollectiveRequest, dim: int) -> bool:
    return request.shape[dim] % (request.chips * (TILE if dim > 1 else 1)) == 0


def _composite(request: CollectiveRequest) -> bool:
    return any(_splits(request, dim) for dim in range(4))


def _bytes(request: CollectiveRequest) -> int:
    batch, heads, rows, columns = request.shape
    return prod((batch, heads, -(-rows // TILE), -(-columns // TILE), tile_bytes(request.dtype)))
