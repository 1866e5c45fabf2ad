"""A prompt's keys or values into a cache, and a row a user in decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, row_of_cores, user_sharded
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import CacheFillRequest, CacheUpdateRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["CacheFill", "CacheUpdate"]

POSITIONS_BYTES = 4096  # that paged_update_cache sets aside, however many users there are


@dataclass(frozen=True, kw_only=True)
class CacheFill(Pattern[CacheFillRequest]):
    """A prompt's rows copied tile by tile into one user's slot, heads × tiles of rows dealt over all cores.

    Source: ttnn.fill_cache, ttnn.experimental.paged_fill_cache. The user may follow the tensors of a cache that is not paged;
    without, it is the first.
    """

    serves: ClassVar = (CacheFillRequest,)

    @classmethod
    def candidates(cls, request: CacheFillRequest, board: Board) -> Iterator[CacheFill]:
        yield cls()

    def accepts(self, request: CacheFillRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        cache, x, *pages = request.operands
        x_layouts = (interleaved(x),) if pages else (interleaved(x), interleaved(x, "l1"))
        return (interleaved(cache),), x_layouts, *((interleaved(type_),) for type_ in pages)

    def results(self, request: CacheFillRequest, board: Board) -> tuple[str, ...]:
        return ()

    def problems(self, request: CacheFillRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.start + request.tokens > request.context:
            yield f"{request.start + request.tokens} tokens must fit into the cache's context of {request.context}"
        unit = request.block or TILE
        if request.start % unit:
            yield f"start={request.start} must be a multiple of {unit}; nearest legal: {request.start // unit * unit}"
        yield from _whole_tiles(request)
        yield from block_problems(request.block, request.context)

    def circular_buffers(self, request: CacheFillRequest, board: Board, reads: Sequence[str]) -> int:
        """Two tiles; of a paged cache a row of tiles twice, and the page table."""
        if request.block is None:
            return 2 * tile_bytes(request.dtype)
        row = request.head_dim // TILE * tile_bytes(request.dtype)
        return 2 * row + _aligned(4 * request.operands[2].shape[1], board)

    def cores(self, request: CacheFillRequest, board: Board) -> int:
        return min(board.grid[0] * board.grid[1], request.num_kv_heads * -(-request.tokens // TILE))

    def work(self, request: CacheFillRequest, board: Board, reads: Sequence[str]) -> Work:
        blocks = request.num_kv_heads * -(-request.tokens // TILE)
        width, tile = request.head_dim // TILE, tile_bytes(request.dtype)
        ways = 2 if "dram" in reads[1] else 1  # in and out
        a_core = -(-blocks // self.cores(request, board))
        return Work(
            dram_bytes=ways * blocks * width * tile,
            dram_pages=ways * blocks * width,
            noc_bytes=2 * a_core * width * tile,
        )

    def to_ttnn(self, request: CacheFillRequest, board: Board) -> dict[str, Any]:
        return {}

    def issue(self, request: CacheFillRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        cache, x, *others = tensors
        if request.block is not None:
            return ttnn.experimental.paged_fill_cache(cache, x, others[0], batch_idx=0)
        return ttnn.fill_cache(cache, x, *(others or (0,)), update_idx=request.start)


@dataclass(frozen=True, kw_only=True)
class CacheUpdate(Pattern[CacheUpdateRequest]):
    """Each user's core reads the tiles that hold its position, untilizes them, puts its row in and writes them back.

    x lies with one user a core along the rows of the chip's grid.
    Source: ttnn.experimental.paged_update_cache.
    """

    serves: ClassVar = (CacheUpdateRequest,)

    @classmethod
    def candidates(cls, request: CacheUpdateRequest, board: Board) -> Iterator[CacheUpdate]:
        yield cls()

    def accepts(self, request: CacheUpdateRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        cache, _, *indices = request.operands
        users = min(request.users, board.grid[0] * board.grid[1])
        x = (user_sharded(row_of_cores(users, board.grid)),)
        return (interleaved(cache),), x, *((interleaved(type_),) for type_ in indices)

    def results(self, request: CacheUpdateRequest, board: Board) -> tuple[str, ...]:
        return ()

    def problems(self, request: CacheUpdateRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        cores = board.grid[0] * board.grid[1]
        if request.users > cores:
            yield f"{request.users} users must lie on one core each of {cores}"
        yield from _whole_tiles(request)
        yield from block_problems(request.block, request.context)

    def circular_buffers(self, request: CacheUpdateRequest, board: Board, reads: Sequence[str]) -> int:
        """A row of the cache's tiles, twice; the same untilized, and the user's row, twice each; a row of tiles out for each
        user; the positions."""
        width, tile = request.head_dim // TILE, tile_bytes(request.dtype)
        pages = 0 if request.block is None else 4 * request.context // request.block
        return (2 + request.users) * width * tile + 2 * 2 * width * tile_bytes("bfloat16") + POSITIONS_BYTES + pages

    def cores(self, request: CacheUpdateRequest, board: Board) -> int:
        return request.users

    def work(self, request: CacheUpdateRequest, board: Board, reads: Sequence[str]) -> Work:
        tiles = request.num_kv_heads * request.head_dim // TILE  # of a user
        tile = tile_bytes(request.dtype)
        return Work(
            vector_bytes=tiles * (tile + 2 * tile_bytes("bfloat16")),
            dram_bytes=2 * request.users * tiles * tile,
            dram_pages=2 * request.users * tiles,
            noc_bytes=2 * tiles * tile,
        )

    def to_ttnn(self, request: CacheUpdateRequest, board: Board) -> dict[str, Any]:
        return {}

    def issue(self, request: CacheUpdateRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        cache, x, positions, *pages = tensors
        table = {"page_table": pages[0]} if pages else {}
        return ttnn.experimental.paged_update_cache(cache, x, update_idxs_tensor=positions, **table)


def _whole_tiles(request: CacheFillRequest | CacheUpdateRequest) -> Iterator[str]:
    for name in ("context", "head_dim"):
        size = getattr(request, name)
        if size % TILE:
            yield f"{name}={size} must be whole tiles of {TILE}; nearest legal: {-(-size // TILE) * TILE}"


def block_problems(block: int | None, context: int) -> Iterator[str]:
    """Of a paged cache."""
    if block is not None and (block % TILE or block < TILE or context % block):
        yield f"blocks of {block} tokens must be whole tiles of {TILE} and divide the context, {context}"


def _aligned(size: int, board: Board) -> int:
    return -(-size // board.dram_alignment) * board.dram_alignment
