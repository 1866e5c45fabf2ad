"""Fused attention of one query a user against its cache: the context split over cores, partial softmaxes merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, row_of_cores, user_sharded
from ttt_hw.patterns._matmul_blocks import ceil_div
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.patterns.flash_attention import SOFTMAX_PASSES, grid_problems, head_problems, value_problems, value_width
from ttt_hw.records import Board
from ttt_hw.requests import DecodeAttentionRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["DecodeAttention"]

CORES_PER_HEAD = 16  # at most, of one user: SDPAProgramConfig.max_cores_per_head_batch
AUTOMATIC_CHUNK = 512  # at most
HALF_TILE_HEADS = 16  # up to so many query heads are computed in tiles of 16 rows


@dataclass(frozen=True, kw_only=True)
class DecodeAttention(Pattern[DecodeAttentionRequest]):
    """Flash decoding: cores are dealt to users, a user's to key-value heads, and a head's split its context.

    `k_chunk` is how many keys a core takes at a time; 0 leaves it to ttnn, which takes the largest power of two up to 512 that
    divides the context or, of a paged cache, chooses by the current position. q lies with one user a core along the rows of
    the chip's grid, or interleaved in DRAM. `memory` is where the result lies, interleaved. Values that are columns of the
    keys are copied from L1, where the keys are.
    Source: ttnn.transformer.scaled_dot_product_attention_decode, flash_multi_latent_attention_decode, paged_… of both,
    SDPAProgramConfig.
    """

    serves: ClassVar = (DecodeAttentionRequest,)

    grid: tuple[int, int]
    k_chunk: int = 0
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: DecodeAttentionRequest, board: Board) -> Iterator[DecodeAttention]:
        """The grid that puts most cores to work; chunks from the longest; the result in L1 or in DRAM."""
        grid = widest_grid(request, board)
        chunks = [chunk for chunk in (512, 256, 128, 64, 32) if request.context % chunk == 0]
        for chunk in (*chunks, 0):
            yield cls(grid=grid, k_chunk=chunk, memory="l1")
            yield cls(grid=grid, k_chunk=chunk)

    def accepts(self, request: DecodeAttentionRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        q, *others = request.operands
        layouts = [interleaved(q)]
        if request.users <= board.grid[0] * board.grid[1]:
            layouts.insert(0, user_sharded(row_of_cores(request.users, board.grid)))
        return (tuple(layouts), *((interleaved(type_),) for type_ in others))

    def results(self, request: DecodeAttentionRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.results[request.name], self.memory),)

    def problems(self, request: DecodeAttentionRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        yield from grid_problems(self.grid, board)
        yield from head_problems(request.num_heads, request.num_kv_heads, request.head_dim)
        yield from value_problems(request)
        yield from self._core_problems(request, board, reads)
        chunk = self.k_chunk or (TILE if request.block else automatic_chunk(request.context))
        if chunk < TILE or chunk & (chunk - 1) or request.context % chunk:
            yield (
                f"k_chunk={chunk} must be a power of two of at least {TILE} that divides the context, {request.context}; "
                f"nearest legal: {min(automatic_chunk(request.context), max(chunk, TILE))}"
            )
        width, dst = value_width(request), request.kernel.dst_tiles
        if width > dst and width % dst:
            name = "head_dim" if request.value_dim is None else "value_dim"
            yield f"{name}={width * TILE} must be at most {dst * TILE} or a multiple of it: the engine holds {dst} tiles"
        step = min(
            request.head_dim // TILE, dst
        )  # tiles of a result that the kernel scales at a time, if a power of two
        if width > step and step & (step - 1) == 0 and width % step:
            yield f"value_dim={width * TILE} must be a multiple of {step * TILE}, which the kernel scales at a time"
        if request.block is not None and (request.block % TILE or request.context % request.block):
            yield f"blocks of {request.block} tokens must be whole tiles of {TILE} and divide the context, {request.context}"

    def _core_problems(self, request: DecodeAttentionRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        """The op numbers its cores by user, `cores // users` for each, and starts only as many as heads can use."""
        x, y = self.grid
        users, heads = request.users, request.num_kv_heads
        if x * y < users:
            yield f"grid={x}x{y} has fewer cores than the {users} users"
            return
        cores = self._cores_per_user(request)
        if cores % heads and heads % cores:
            yield (
                f"grid={x}x{y} gives each of {users} users {cores} cores, of which {_even(cores, heads)} can share "
                f"{heads} key-value heads evenly, and the op would leave the last users out; nearest legal: "
                "{}x{}".format(*widest_grid(request, board))
            )
        if "@core" in reads[0] and x != board.grid[0] and users > x:
            yield f"grid={x}x{y} must be {board.grid[0]} cores wide, as the rows of cores on which q's users lie"

    def _cores_per_user(self, request: DecodeAttentionRequest) -> int:
        return _cores_per_user(self.grid[0] * self.grid[1], request)

    def circular_buffers(self, request: DecodeAttentionRequest, board: Board, reads: Sequence[str]) -> int:
        """Queries twice, keys and values twice, mask and scores, four partial outputs, eleven statistics, what other cores
        of a head send, the output; the positions twice, and the page table."""
        half = request.num_heads <= HALF_TILE_HEADS
        tile = tile_bytes("bfloat16")
        part = tile // 2 if half else tile
        rows, width, values = -(-request.num_heads // TILE), request.head_dim // TILE, value_width(request)
        if self.k_chunk:
            keys = self.k_chunk // TILE
        else:
            keys = request.kernel.dst_tiles if request.block else automatic_chunk(request.context) // TILE
        masks = 1 if request.window is None else 2
        senders = max(1, self._cores_per_user(request) // request.num_kv_heads) - 1
        parts = (
            2 * rows * width  # queries
            + (masks + 1) * rows * keys  # scores
            + 4 * rows * values
            + (11 + request.sinks) * rows
            + senders * (rows * values + 2 * rows)
            + 2  # scalars
        )
        positions = 2 * _aligned(4 * request.users, board)
        pages = _aligned(4 * request.context // request.block, board) if request.block else 0
        return (
            parts * part
            + 2 * keys * (width + values) * tile_bytes(request.kv_dtype)
            + (rows * values + 1) * tile
            + positions
            + pages
        )

    def cores(self, request: DecodeAttentionRequest, board: Board) -> int:
        return request.users * _even(self._cores_per_user(request), request.num_kv_heads)

    def work(self, request: DecodeAttentionRequest, board: Board, reads: Sequence[str]) -> Work:
        rows, width, values = -(-request.num_heads // TILE), request.head_dim // TILE, value_width(request)
        seen = request.context if request.window is None else min(request.window + TILE, request.context)
        keys = -(-seen // TILE)
        kv_tile, tile = tile_bytes(request.kv_dtype), tile_bytes("bfloat16")
        per_head = max(1, self._cores_per_user(request) // request.num_kv_heads)
        heads = max(1, request.num_kv_heads // self._cores_per_user(request))
        chunk = max(1, self.k_chunk // TILE)
        a_core = heads * ceil_div(ceil_div(keys, chunk), per_head) * chunk  # keys, in tiles
        read = 2 * width if request.value_dim is None else width
        kv_tiles = request.users * request.num_kv_heads * keys * read
        rounds = (per_head - 1).bit_length()
        return Work(
            matrix_cycles=a_core * rows * (width + values) * getattr(board.chip.tile_cycles, request.kernel.fidelity),
            vector_bytes=SOFTMAX_PASSES * a_core * rows * tile,
            dram_bytes=kv_tiles * kv_tile + (request.users * rows * values * tile if self.memory == "dram" else 0),
            dram_pages=kv_tiles,
            noc_bytes=a_core * (width + values) * kv_tile + rounds * rows * (values + 2) * tile,
        )

    def program(self) -> Any:
        """ttnn's object for the fields."""
        import ttnn

        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(*self.grid),
            q_chunk_size=0,
            k_chunk_size=self.k_chunk,
            exp_approx_mode=False,
        )

    def to_ttnn(self, request: DecodeAttentionRequest, board: Board) -> dict[str, Any]:
        import ttnn

        return {
            "scale": request.scale,
            "sliding_window_size": request.window,
            "program_config": self.program(),
            "compute_kernel_config": kernel_config(request.kernel),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG if self.memory == "dram" else ttnn.L1_MEMORY_CONFIG,
        }

    def issue(self, request: DecodeAttentionRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        if request.value_dim is not None:
            return self._issue_latent(request, board, tensors)
        q, keys, values, positions, *pages = tensors
        kwargs = {"cur_pos_tensor": positions, **self.to_ttnn(request, board)}
        if request.sinks:
            kwargs["attention_sink"] = pages.pop()
        if pages:
            return ttnn.transformer.paged_scaled_dot_product_attention_decode(q, keys, values, *pages, **kwargs)
        return ttnn.transformer.scaled_dot_product_attention_decode(q, keys, values, **kwargs)

    def _issue_latent(self, request: DecodeAttentionRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        q, keys, positions, *pages = tensors
        kwargs = {"head_dim_v": request.value_dim, "cur_pos_tensor": positions, **self.to_ttnn(request, board)}
        if pages:
            (table,) = pages
            return ttnn.transformer.paged_flash_multi_latent_attention_decode(
                q, keys, page_table_tensor=table, **kwargs
            )
        return ttnn.transformer.flash_multi_latent_attention_decode(q, keys, **kwargs)


def automatic_chunk(context: int) -> int:
    """What ttnn takes for a cache that is no paged one: the largest power of two that divides the context, at most 512."""
    return min(context & -context, AUTOMATIC_CHUNK)


def widest_grid(request: DecodeAttentionRequest, board: Board) -> tuple[int, int]:
    """The grid whose cores the key-value heads of each user share evenly, with most of them at work; of equals the smallest.

    As wide as the chip where the users do not fit into one row of cores: then that is how q lies.
    """
    x, y = board.grid
    widths = range(min(request.users, x), x + 1)
    grids = [(i, j) for i in widths for j in range(1, y + 1) if i * j >= request.users]

    def rank(grid: tuple[int, int]) -> tuple[int, int]:
        size = grid[0] * grid[1]
        cores = _cores_per_user(size, request)
        even = cores % request.num_kv_heads == 0 or request.num_kv_heads % cores == 0
        return (cores if even else 0, -size)

    return max(grids, key=rank, default=board.grid)


def _cores_per_user(cores: int, request: DecodeAttentionRequest) -> int:
    return min(cores, CORES_PER_HEAD * request.users * request.num_kv_heads) // request.users


def _even(cores: int, heads: int) -> int:
    """Of a user's cores those that are at work."""
    return cores // heads * heads if cores >= heads else heads // -(-heads // cores)


def _aligned(size: int, board: Board) -> int:
    return -(-size // board.dram_alignment) * board.dram_alignment
