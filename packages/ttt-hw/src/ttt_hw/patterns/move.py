"""The same values in another order, shape or dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._tilize import tilize_buffers, untilize_buffers
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import MoveRequest, OpRequest, TensorType
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Move"]

FACE = 512  # bytes: a quarter of a tile of bfloat16, of zeros, with which a transpose pads
ROW_CHUNK = 4096  # bytes of a row-major tensor that a cast reads at a time


@dataclass(frozen=True, kw_only=True)
class Move(Pattern[MoveRequest]):
    """Transposes of dims 1 and 2 or of rows and columns, slices of rows and columns, casts, and reshapes that move nothing;
    the result interleaved in `memory`, where its source lies if nothing moves.

    Rows that begin within a tile are cut out in two steps: the tiles that hold them, then, as rows, those that are wanted.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (MoveRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: MoveRequest, board: Board) -> Iterator[Move]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: MoveRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        if _stays(request):
            return ((interleaved(request.source, own),),)
        return ((interleaved(request.source, own), interleaved(request.source, other)),)

    def results(self, request: MoveRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.results[request.name], self.memory),)

    def problems(self, request: MoveRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        source = request.source
        (layouts,) = self.accepts(request, board)
        if reads[0] not in layouts:
            yield f"the source lies in {reads[0]!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if not source.tiled and request.op == "slice":
            yield from _row_major_slice_problems(request)
        elif not source.tiled and request.op == "transpose":
            yield f"a row-major tensor is not taken by {request.op}; bring it into tiles"
        elif request.op == "transpose" and (sorted(request.dims) not in ([1, 2], [2, 3]) or len(source.shape) != 4):
            yield f"dims {request.dims} of {source} are exchanged; only dims 1 and 2 of four are, or 2 and 3"
        elif request.op == "transpose" and 3 in request.dims and source.dtype != "bfloat16":
            yield f"rows and columns of {source} are exchanged; only bfloat16 is, so cast it first"
        elif request.op == "slice":
            yield from _slice_problems(request)
        elif request.op == "typecast":
            if request.dtype in (None, source.dtype):
                yield f"the source is {source.dtype} already; leave the cast out"
            if not source.tiled and (source.dtype, request.dtype) != ("int32", "uint32"):
                yield f"row-major {source.dtype} is cast to {request.dtype}; only int32 to uint32 is, others in tiles"
        elif request.op == "reshape":
            yield from _reshape_problems(request)

    def circular_buffers(self, request: MoveRequest, board: Board, reads: Sequence[str]) -> int:
        """Two pages of what is read and, where they differ, two of what is written. Units: bytes on the fullest core."""
        bytes_, made = pages(request.source)[1], pages(request.results[request.name])[1]
        if _stays(request):
            return 0
        if request.op == "typecast":
            return 2 * (bytes_ + made) if request.source.tiled else 4 * ROW_CHUNK
        if request.op == "transpose" and 3 in request.dims:
            return 4 * bytes_  # two tiles in, two tiles out
        if request.op == "transpose":
            bf16 = tile_bytes("bfloat16")
            if request.source.dtype == "bfloat8_b":  # cast there, and back
                return 2 * (bytes_ + bf16)
            return 2 * bytes_ + (FACE if request.source.shape[1] % TILE else 0)
        if not request.source.tiled:
            return max(2 * ROW_CHUNK, 2 * bytes_)  # at most
        if not _within_a_tile(request):
            return 2 * bytes_
        width = -(-request.source.shape[-1] // TILE)
        lines = max(2 * ROW_CHUNK, 4 * request.source.shape[-1])
        return max(2 * bytes_, untilize_buffers(width, board), lines, tilize_buffers(width, board))

    def cores(self, request: MoveRequest, board: Board) -> int:
        if request.op == "typecast" and not request.source.tiled:
            return 1
        return spread(pages(request.results[request.name])[0], board)

    def work(self, request: MoveRequest, board: Board, reads: Sequence[str]) -> Work:
        if _stays(request):
            return Work(programs=0)
        result = request.results[request.name]
        read, programs = request.source, 1
        if request.op == "slice":  # of the source what is wanted
            read = replace(request.source, shape=result.shape)
            programs = 4 if _within_a_tile(request) else 1
        cores = self.cores(request, board)
        work = traffic([(reads[0], read)] * programs, [(self.results(request, board)[0], result)] * programs, cores)
        if request.op != "transpose" or 3 in request.dims:
            return replace(work, programs=programs)
        lines = prod(request.source.shape[:-1]) * (
            request.source.shape[-1] // 16
        )  # a tile is gathered from halves of lines
        return replace(
            work,
            vector_bytes=0,
            dram_pages=(lines if " in dram" in reads[0] else 0) + (pages(result)[0] if self.memory == "dram" else 0),
            programs=3 if request.source.dtype == "bfloat8_b" else 1,
        )

    def to_ttnn(self, request: MoveRequest, board: Board) -> dict[str, Any]:
        if request.op == "reshape":
            return {}  # a view lies where its source does
        (text,) = self.results(request, board)
        return {"memory_config": placed(text, request.results[request.name], board).to_memory_config()}

    def issue(self, request: MoveRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (x,) = tensors
        arguments = self.to_ttnn(request, board)
        if request.op == "transpose":
            return ttnn.transpose(x, *request.dims, **arguments)
        if request.op == "typecast":
            return ttnn.typecast(x, getattr(ttnn, str(request.dtype)), **arguments)
        if request.op == "reshape":
            *others, _ = request.results[request.name].shape
            return ttnn.reshape(x, (*others, x.shape[-1]))  # which stays, and may end within a tile
        shape = tuple(x.shape)  # a prompt may end within its last tile
        start, stop = request.rows or (0, shape[-2])
        stop, first_column, columns = min(stop, shape[-2]), request.first_column, request.columns or shape[-1]
        lead = [0] * (len(shape) - 2)
        if _within_a_tile(request):
            first, last = start // TILE * TILE, min(-(-stop // TILE) * TILE, shape[-2])
            if (first, last) != (0, shape[-2]):
                x = ttnn.slice(x, [*lead, first, 0], [*shape[:-2], last, shape[-1]], **arguments)
                start, stop = start - first, stop - first
        return ttnn.slice(x, [*lead, start, first_column], [*shape[:-2], stop, columns], **arguments)


def _stays(request: MoveRequest) -> bool:
    """Whether the result is the source's own memory: a view of it, or a slice that is all of it."""
    same = request.op == "slice" and request.results[request.name] == request.source
    return same or request.op == "reshape"


def _within_a_tile(request: MoveRequest) -> bool:
    return request.rows is not None and request.rows[0] % TILE != 0


def _slice_problems(request: MoveRequest) -> Iterator[str]:
    rows, columns = request.source.shape[-2:]
    if request.rows is not None:
        start, stop = request.rows
        if not 0 <= start < stop <= rows:
            yield f"rows {start} to {stop} are no part of {rows}"
        elif start % TILE and start // TILE != (stop - 1) // TILE:
            yield f"rows {start} to {stop} begin within a tile and reach into the next; begin at {start // TILE * TILE}"
        elif start % TILE and (request.columns not in (None, columns) or request.first_column):
            yield "rows within a tile and columns are cut at once; cut the columns first"
        elif start % TILE and request.source.dtype != "bfloat16":
            yield f"rows within a tile of {request.source.dtype} are cut; only bfloat16 has a row-major form for it"
    if request.columns is not None and not 0 < request.columns <= columns:
        yield f"{request.columns} columns are no part of {columns}"
    if request.first_column % TILE or not 0 <= request.first_column < (request.columns or columns):
        yield f"columns begin at {request.first_column}; they must begin with a tile of {TILE}, before their end"
    if request.rows is None and request.columns is None and not request.first_column:
        yield "neither rows nor columns are named; leave the slice out"


def _row_major_slice_problems(request: MoveRequest) -> Iterator[str]:
    """Of a page table."""
    columns = request.source.shape[-1]
    if request.rows is not None or not 0 <= request.first_column < (request.columns or columns) <= columns:
        yield f"of row-major {request.source} only columns are cut, and they must be some of its {columns}"


def _reshape_problems(request: MoveRequest) -> Iterator[str]:
    old: TensorType = request.source
    new = request.results[request.name]
    if prod(old.shape) != prod(new.shape):
        yield f"{old} and {new} do not have as many elements"
    elif old.shape[-1] != new.shape[-1]:
        yield f"the last dim of {old} becomes {new.shape[-1]}; only a view is made, so it must stay {old.shape[-1]}"
    elif old.tiled and any(other.shape[-2] % TILE and old.shape[-2] != new.shape[-2] for other in (old, new)):
        yield f"rows of {old} become {new.shape[-2]}; only a view is made, so both must be whole tiles or the same"
