"""Norms of rows that chips split between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import spread, tile_rows, traffic
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.patterns.norm import KERNEL, operands_by_name
from ttt_hw.records import Board
from ttt_hw.requests import NormRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["DistributedNorm"]

GATHER_TILES = 18  # buffers of the gather of statistics, whatever their size


@dataclass(frozen=True, kw_only=True)
class DistributedNorm(Pattern[NormRequest]):
    """Statistics of a chip's columns, gathered over the chips of a mesh axis, then the norm; the result interleaved in `memory`.

    Statistics are a tile of columns for each row of tiles: the mean of squares, and for a layer norm another of means.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (NormRequest,)
    axis: int
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: NormRequest, board: Board) -> Iterator[DistributedNorm]:
        if request.chips > 1:
            yield cls(axis=request.axis, memory="l1")
            yield cls(axis=request.axis, memory="dram")

    def accepts(self, request: NormRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        x, *vectors = request.operands
        return ((interleaved(x, own), interleaved(x, other)), *((interleaved(vector),) for vector in vectors))

    def results(self, request: NormRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.chips < 2:
            yield "one chip has whole rows; use InterleavedNorm"
        elif self.axis != request.axis:
            yield f"statistics are gathered along axis {self.axis}; the rows are split along axis {request.axis}"
        elif board.mesh[self.axis] != request.chips:
            yield (
                f"axis {self.axis} of the {board.mesh[0]}x{board.mesh[1]} mesh has {board.mesh[self.axis]} chips; the rows "
                f"are split over {request.chips}"
            )
        if request.shape[-1] % TILE:
            yield f"dim {request.shape[-1]} is no multiple of {TILE}, and the padding would count in the statistics"
        if request.bias and not request.weight:
            yield "there is a bias but no weight; give a weight of ones"
        for index, (text, layouts) in enumerate(zip(reads, self.accepts(request, board), strict=True)):
            if text not in layouts:
                yield f"input {index} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"

    def circular_buffers(self, request: NormRequest, board: Board, reads: Sequence[str]) -> int:
        """The most of the three steps. Units: bytes; counted in tiles of bfloat16, of which one of float32 is two."""
        row = request.shape[-1] // TILE
        layer = request.kind == "layer"
        stats = 2 if layer else 1
        before = 2 * row + 2 + 4 * row + stats  # x twice, a number, squares in float32 twice, statistics
        if before * tile_bytes("bfloat16") > board.l1_bytes_per_core:
            before -= 2 * row  # ttnn compares with all L1, not with what is free: then squares are there once
        vectors = request.weight + request.bias
        after = 2 * row + request.chips * stats + vectors * row + 6  # x and the result, statistics, numbers
        if layer:
            after += 6 + 2 * row  # x − mean
        after += 2 * row * vectors if layer else 2 * row * min(vectors, 1)
        return max(before, after, GATHER_TILES) * tile_bytes("bfloat16")

    def cores(self, request: NormRequest, board: Board) -> int:
        return spread(tile_rows(request.shape), board)

    def work(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Work:
        x = request.operands[0]
        cores = self.cores(request, board)
        steps = traffic([(reads[0], x)] * 2, [(self.results(request, board)[0], x)], cores, passes=2)
        vectors = cores * (request.weight + request.bias) * request.shape[-1] // TILE
        stats = tile_rows(request.shape) * (2 if request.kind == "layer" else 1) * tile_bytes("bfloat16")
        rates = board.chip.rates
        hops = request.chips - 1
        wire = hops * stats / (board.links * board.link_gb_per_s * 1e3 * rates.link_efficiency) if board.links else 0.0
        return Work(
            vector_bytes=steps.vector_bytes,
            dram_bytes=steps.dram_bytes + vectors * tile_bytes("bfloat16"),
            dram_pages=steps.dram_pages + vectors,
            noc_bytes=steps.noc_bytes,
            link_us=hops * rates.hop_us + wire,
            programs=3,
        )

    def to_ttnn(self, request: NormRequest, board: Board) -> dict[str, Any]:
        """Of the last step."""
        (text,) = self.results(request, board)
        return {
            "epsilon": request.epsilon,
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "compute_kernel_config": kernel_config(KERNEL),
        }

    def issue(self, request: NormRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        rms = request.kind == "rms"
        statistics = ttnn.rms_norm_pre_all_gather if rms else ttnn.layer_norm_pre_all_gather
        norm = ttnn.rms_norm_post_all_gather if rms else ttnn.layer_norm_post_all_gather
        arguments = self.to_ttnn(request, board)
        own = statistics(
            tensors[0],
            dtype=ttnn.bfloat16,
            memory_config=arguments["memory_config"],
            compute_kernel_config=arguments["compute_kernel_config"],
        )
        gathered = ttnn.all_gather(
            own,
            dim=3,
            cluster_axis=self.axis,
            topology=ttnn.Topology.Linear,
            memory_config=arguments["memory_config"],
        )
        return norm(tensors[0], gathered, **operands_by_name(request, tensors), **arguments)
