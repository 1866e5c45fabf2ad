"""Fused attention over a prompt: queries and keys taken in chunks, softmax kept online."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, prod
from typing import Any, ClassVar

from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, interleaved
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.patterns.softmax import float32
from ttt_hw.records import Board
from ttt_hw.requests import DecodeAttentionRequest, PrefillAttentionRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["FlashAttention"]

LONG_PREFILL = 2048  # tokens from which chunks of 256 pay; shorter prompts need the parallelism of small chunks
LARGEST_CHUNK = 512
HANDED_ON_QUERIES, HANDED_ON_KEYS = (
    4,
    8,
)  # tiles of a chunk up to which Blackhole's cores share work, and read keys ahead
HANDED_ON_BYTES = 1280 * 1024  # that a program with keys read ahead may take
SOFTMAX_PASSES = 4  # over each tile of scores: scale and mask, maximum, exponential, sum


@dataclass(frozen=True, kw_only=True)
class FlashAttention(Pattern[PrefillAttentionRequest]):
    """Prefill attention tiled over queries and keys [arXiv 2307.08691, algorithm 1].

    The op deals heads × query chunks over the grid. Everything lies in DRAM. A prompt whose first tokens are in a paged cache
    already (`start`) reads all keys and values from there. Values that are columns of the keys are read with fewer columns.
    Source: ttnn.transformer.scaled_dot_product_attention, flash_mla_prefill, chunked_… of both, SDPAProgramConfig.
    """

    serves: ClassVar = (PrefillAttentionRequest,)

    grid: tuple[int, int]
    q_chunk: int
    k_chunk: int

    @classmethod
    def candidates(cls, request: PrefillAttentionRequest, board: Board) -> Iterator[FlashAttention]:
        """The rule of thumb first: 256 tokens of long prompts, 64 of short ones; then smaller pairs, then larger."""
        limit = 256 if request.tokens >= LONG_PREFILL else 64
        rows, keys = chunkable(request), _keys(request)
        first, first_keys = largest_chunk(rows, limit), largest_chunk(keys, limit)
        legal, legal_keys = ([TILE << i for i in range(5) if size % (TILE << i) == 0] for size in (rows, keys))
        yield cls(grid=board.grid, q_chunk=first, k_chunk=first_keys)
        whole = first * first_keys
        smaller_first = sorted(product(legal, legal_keys), key=lambda pair: (prod(pair) > whole, -prod(pair)))
        for q_chunk, k_chunk in smaller_first:
            if (q_chunk, k_chunk) != (first, first_keys):
                yield cls(grid=board.grid, q_chunk=q_chunk, k_chunk=k_chunk)

    def accepts(self, request: PrefillAttentionRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return tuple((interleaved(type_),) for type_ in request.operands)

    def results(self, request: PrefillAttentionRequest, board: Board) -> tuple[str, ...]:
        return (DRAM,)

    def problems(self, request: PrefillAttentionRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        yield from grid_problems(self.grid, board)
        yield from head_problems(request.num_heads, request.num_kv_heads, request.head_dim)
        yield from value_problems(request)
        if not request.causal and (request.window is not None or request.start is not None):
            yield "queries that see all keys have neither a window nor a start; leave them out"
        for name, chunk, rows in (
            ("q_chunk", self.q_chunk, _rows(request)),
            ("k_chunk", self.k_chunk, _dealt_keys(request)),
        ):
            if chunk < TILE or chunk & (chunk - 1) or rows % chunk:
                yield (
                    f"{name}={chunk} must be a power of two of at least {TILE} that divides the {rows} rows; nearest legal: "
                    f"{largest_chunk(gcd(chunkable(request), rows), chunk)}"
                )
            elif request.start is not None and request.start % chunk:  # of q not checked before the kernel runs
                yield (
                    f"{name}={chunk} must divide the start, {request.start}; nearest legal: "
                    f"{largest_chunk(chunkable(request), chunk)}"
                )
        if request.start is not None:
            if request.block % TILE:
                yield f"the cache's blocks of {request.block} tokens must be whole tiles of {TILE}"
            if request.blocks * request.block < request.start + request.tokens:
                yield (
                    f"{request.blocks} blocks of {request.block} tokens do not hold the {request.start + request.tokens} "
                    f"tokens; at least {-(-(request.start + request.tokens) // request.block)} do"
                )

    def circular_buffers(self, request: PrefillAttentionRequest, board: Board, reads: Sequence[str]) -> int:
        """Queries twice where a core has several chunks, keys and values twice, the scores, two partial outputs and one whole,
        statistics; without fp32 accumulation the output leaves by rows of two tiles."""
        d, q, k = request.head_dim // TILE, self.q_chunk // TILE, self.k_chunk // TILE
        v = value_width(request)
        tile, fp32 = tile_bytes("bfloat16"), request.kernel.fp32_accumulate
        wide = tile_bytes("float32") if fp32 else tile
        queries = q * d * (2 if self._chunks_a_core(request) > 1 else 1)
        scalars = 2 if fp32 else 3
        statistics = 3 * tile + 2 * wide  # of each row of tiles: maxima, their change, sums
        output = q * v if fp32 else 2 * min(q, 2) * v
        total = (
            (queries + 2 * q * v + output + scalars) * tile
            + 2 * k * (d + v) * tile_bytes(request.kv_dtype)
            + q * k * wide
            + q * statistics
            + self._mask_bytes(request, q * k)
            + (q * tile if request.sinks else 0)
            + (_aligned(4 * request.blocks, board) if request.start is not None else 0)
        )
        return total + self._handed_on(request, board, total)

    def _handed_on(self, request: PrefillAttentionRequest, board: Board, total: int) -> int:
        """What Blackhole adds for an unwindowed prompt from its start, cut into an even number of small chunks: counters, and
        a third buffer of keys and values for the largest such chunks, if that fits."""
        q, k, d = self.q_chunk // TILE, self.k_chunk // TILE, request.head_dim // TILE
        uniform = request.kv_dtype == "bfloat16" or not request.kernel.fp32_accumulate
        if board.chip.arch != "blackhole" or request.window is not None or request.start is not None:
            return 0
        if not uniform or q > HANDED_ON_QUERIES or self._shares(request)[1] == 1:
            return 0
        ahead = k * (d + value_width(request)) * tile_bytes(request.kv_dtype) + 4 * 32
        if q == HANDED_ON_QUERIES and k <= HANDED_ON_KEYS and total + ahead <= HANDED_ON_BYTES:
            return ahead
        return 3 * 32

    def _mask_bytes(self, request: PrefillAttentionRequest, scores: int) -> int:
        """Two tiles for the diagonal, where there is one; a window takes five or, with fp32 accumulation, a mask of all scores in
        bfp4, twice."""
        if not request.causal:
            return 0
        if request.window is None:
            return 2 * tile_bytes("bfloat16")
        if request.kernel.fp32_accumulate:
            return 2 * scores * tile_bytes("bfloat4_b")
        return 5 * tile_bytes("bfloat16")

    def cores(self, request: PrefillAttentionRequest, board: Board) -> int:
        return min(self.grid[0] * self.grid[1], self._shares(request)[0])

    def _shares(self, request: PrefillAttentionRequest) -> tuple[int, int]:
        """What is dealt over the cores, and its size in chunks of queries: the first and the last chunk of a head, which see
        few and many keys, the second and the last but one, …; single chunks where their number is odd, or all see all keys."""
        chunks = _rows(request) // self.q_chunk
        return (
            (request.num_heads * chunks, 1)
            if chunks % 2 or not request.causal
            else (request.num_heads * chunks // 2, 2)
        )

    def _chunks_a_core(self, request: PrefillAttentionRequest) -> int:
        """Of queries, on the busiest core."""
        shares, size = self._shares(request)
        return -(-shares // (self.grid[0] * self.grid[1])) * size

    def work(self, request: PrefillAttentionRequest, board: Board, reads: Sequence[str]) -> Work:
        chunks = self._chunks_of_keys(request)
        d, q, k = request.head_dim // TILE, self.q_chunk // TILE, self.k_chunk // TILE
        a_core = self._chunks_a_core(request)
        # Of a core with several chunks some are long and some short; with one each, the longest decides.
        busiest = max(max(chunks), a_core * sum(chunks) / len(chunks))
        scores = busiest * q * k
        both = d + value_width(request)
        wide = tile_bytes("float32" if request.kernel.fp32_accumulate else "bfloat16")
        tile, kv_tile = tile_bytes("bfloat16"), tile_bytes(request.kv_dtype)
        kv_tiles = request.num_heads * sum(chunks) * k * both
        qo_tiles = request.num_heads * len(chunks) * q * both
        return Work(
            matrix_cycles=scores * both * getattr(board.chip.tile_cycles, request.kernel.fidelity),
            vector_bytes=SOFTMAX_PASSES * scores * wide,
            dram_bytes=kv_tiles * kv_tile + qo_tiles * tile,
            dram_pages=kv_tiles + qo_tiles,
            noc_bytes=busiest * k * both * kv_tile + a_core * q * both * tile,
        )

    def _chunks_of_keys(self, request: PrefillAttentionRequest) -> list[int]:
        """How many chunks of keys each chunk of a head's queries sees."""
        start, window = request.start or 0, request.window
        seen = []
        if not request.causal:
            return [_keys(request) // self.k_chunk] * (_rows(request) // self.q_chunk)
        for first in range(start, start + _rows(request), self.q_chunk):
            low = 0 if window is None else max(0, first - window + 1) // self.k_chunk
            seen.append(-(-(first + self.q_chunk) // self.k_chunk) - low)
        return seen

    def program(self) -> Any:
        """ttnn's object for the fields."""
        import ttnn

        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(*self.grid),
            q_chunk_size=self.q_chunk,
            k_chunk_size=self.k_chunk,
            exp_approx_mode=False,
        )

    def to_ttnn(self, request: PrefillAttentionRequest, board: Board) -> dict[str, Any]:
        given = {
            "scale": None if request.scale is None else float32(request.scale),
            "sliding_window_size": request.window,
        }
        return {
            "program_config": self.program(),
            "compute_kernel_config": kernel_config(request.kernel),
            **{name: value for name, value in given.items() if value is not None},
        }

    def issue(self, request: PrefillAttentionRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        if request.value_dim is not None:
            return self._issue_latent(request, request.value_dim, tensors)
        kwargs = dict(self.to_ttnn(request, board))
        q, k, v, *others = tensors
        if request.sinks:
            kwargs["attention_sink"] = others.pop()
        if request.start is None:
            return ttnn.transformer.scaled_dot_product_attention(q, k, v, is_causal=request.causal, **kwargs)
        (pages,) = others
        return ttnn.transformer.chunked_scaled_dot_product_attention(q, k, v, pages, request.start, **kwargs)

    def _issue_latent(self, request: PrefillAttentionRequest, value_dim: int, tensors: Sequence[Any]) -> Any:
        import ttnn

        q, k, *others = tensors
        kwargs = {
            "scale": None if request.scale is None else float32(request.scale),
            "program_config": self.program(),
            "compute_kernel_config": kernel_config(request.kernel),
        }
        if request.start is None:
            return ttnn.transformer.flash_mla_prefill(q, k, value_dim, is_causal=request.causal, **kwargs)
        (pages,) = others
        return ttnn.transformer.chunked_flash_mla_prefill(q, k, value_dim, pages, request.start, **kwargs)


def largest_chunk(rows: int, limit: int) -> int:
    """The largest power of two that divides `rows`, which are whole tiles, and is at most `limit` (at least one tile)."""
    chunk = TILE
    while chunk * 2 <= limit and rows % (chunk * 2) == 0:
        chunk *= 2
    return chunk


def chunkable(request: PrefillAttentionRequest) -> int:
    """What chunks must divide: the rows and, of a prompt that goes on, the start."""
    return gcd(_rows(request), -(-(request.start or 0) // TILE) * TILE)


def grid_problems(grid: tuple[int, int], board: Board) -> Iterator[str]:
    if not all(1 <= mine <= there for mine, there in zip(grid, board.grid, strict=True)):
        nearest = "x".join(str(min(max(mine, 1), there)) for mine, there in zip(grid, board.grid, strict=True))
        yield f"grid={grid[0]}x{grid[1]} must lie on the chip's {board.grid[0]}x{board.grid[1]} cores; nearest legal: {nearest}"


def head_problems(num_heads: int, num_kv_heads: int, head_dim: int) -> Iterator[str]:
    """What ttnn leaves to kernels that read whole tiles and whole groups."""
    if head_dim % TILE:
        yield f"head_dim={head_dim} must be whole tiles of {TILE}; nearest legal: {-(-head_dim // TILE) * TILE}"
    if num_heads % num_kv_heads:
        yield f"the {num_kv_heads} key-value heads must divide the {num_heads} heads"


def value_problems(request: PrefillAttentionRequest | DecodeAttentionRequest) -> Iterator[str]:
    """Of values that are columns of the keys."""
    dim = request.value_dim
    if dim is None:
        return
    if dim % TILE or not 0 < dim <= request.head_dim:
        nearest = min(max(TILE, -(-dim // TILE) * TILE), request.head_dim)
        yield (
            f"value_dim={dim} must be whole tiles of {TILE}, at most head_dim={request.head_dim}; nearest legal: {nearest}"
        )
    if request.window is not None or request.sinks:
        yield "values that are columns of the keys go without a window and without sinks; leave them out"


def value_width(request: PrefillAttentionRequest | DecodeAttentionRequest) -> int:
    """Of values and results, in tiles."""
    return (request.head_dim if request.value_dim is None else request.value_dim) // TILE


def _rows(request: PrefillAttentionRequest) -> int:
    return -(-request.tokens // TILE) * TILE


def _keys(request: PrefillAttentionRequest) -> int:
    """What chunks of keys must divide."""
    return _dealt_keys(request) if request.start is None else chunkable(request)


def _dealt_keys(request: PrefillAttentionRequest) -> int:
    """Rows of keys, of which a prompt that goes on counts its own; those before are its start."""
    return _rows(request) if request.start is not None else -(-request.num_keys // TILE) * TILE


def _aligned(size: int, board: Board) -> int:
    return -(-size // board.dram_alignment) * board.dram_alignment
