"""What matmul patterns share: tiles, buffers of a program, subblocks, and the activations that a matmul may end with.

mt, kt, nt are rows, inner dim and columns in tiles of 32. A core computes blocks of h × w output tiles and steps through the
inner dim by `inner` tiles; the engine holds a subblock of it at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from ttt_hw.compute import ComputeKernel, matmul_kernel
from ttt_hw.records import Board
from ttt_hw.requests import Activation, MatmulRequest, TensorType
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE, tile_bytes

MAX_INNER = 8  # tiles of the inner dim that a core reads at once; reads are long enough to hide latency by then
PROGRAM_RESERVE = 128 * 1024  # what the search leaves for tensors in L1; a planner knows how much there are, and checks

Pair = tuple[int, int]

# The name in ttnn.UnaryOpType, and its parameter: exact gelu (erf) is 0, the table look-up 1, tanh 2.
_FUSED: dict[Activation, tuple[str, float | None]] = {
    "silu": ("SILU", None),
    "relu": ("RELU", None),
    "gelu": ("GELU", 0.0),
    "gelu_tanh": ("GELU", 2.0),
}
FUSED_NAMES = tuple(_FUSED)


def ceil_div(value: int, unit: int) -> int:
    return -(-value // unit)


@lru_cache(maxsize=4096)
def divisors(value: int) -> tuple[int, ...]:
    small = [divisor for divisor in range(1, int(value**0.5) + 1) if value % divisor == 0]
    return tuple(sorted({*small, *(value // divisor for divisor in small)}))


def tiles(type_: TensorType) -> int:
    """Of a tensor whose last two dims are tiled."""
    count = ceil_div(type_.shape[-1], TILE) * ceil_div(type_.shape[-2], TILE)
    for size in type_.shape[:-2]:
        count *= size
    return count


def kernel_of(request: MatmulRequest) -> ComputeKernel:
    """The request's own, or the cheapest that keeps all mantissa bits of the weight."""
    return request.kernel or matmul_kernel(request.weight_dtype)


def tile_cycles(kernel: ComputeKernel, board: Board) -> int:
    return int(getattr(board.chip.tile_cycles, kernel.fidelity))


def fused_activation(activation: Activation | None) -> Any:
    """ttnn's object for a matmul's last step; None for none."""
    if activation is None:
        return None
    import ttnn

    name, parameter = _FUSED[activation]
    operation = getattr(ttnn.UnaryOpType, name)
    return ttnn.UnaryWithParam(operation) if parameter is None else ttnn.UnaryWithParam(operation, parameter)


def unfused(activation: Activation | None) -> Iterator[str]:
    """The problem with an activation that no matmul ends with."""
    if activation is not None and activation not in _FUSED:
        yield f"a matmul does not end with {activation}, only with {', '.join(_FUSED)}; apply it in an operation of its own"


def partial_dtype(output: DType, kernel: ComputeKernel, steps: int) -> DType:
    """Of sums between steps: float32 with 32-bit registers, bfloat16 where the packer adds steps up, else the output's."""
    if kernel.fp32_accumulate:
        return "float32"
    return "bfloat16" if kernel.packer_l1_accumulate and steps > 1 else output


def largest_subblock(block: Pair, kernel: ComputeKernel) -> Pair:
    """The (h, w) with the most tiles that divides a block and fits the destination registers, the widest of those."""
    return _largest_subblock(block, kernel.dst_tiles)


@lru_cache(maxsize=4096)
def _largest_subblock(block: Pair, most: int) -> Pair:
    fitting = ((h, w) for h in divisors(block[0]) if h <= most for w in divisors(block[1]) if h * w <= most)
    return max(fitting, key=lambda subblock: (subblock[0] * subblock[1], subblock[1]))


def below_one(numbers: Iterable[tuple[str, int | Pair]]) -> Iterator[str]:
    """The numbers of a config that are zero or negative."""
    for name, value in numbers:
        least = min(value) if isinstance(value, tuple) else value
        if least < 1:
            yield f"{name} must be at least 1, not {least}"


def beyond_grid(grid: Pair, board: Board) -> Iterator[str]:
    x, y = board.grid
    if grid[0] > x or grid[1] > y:
        yield f"grid {grid[0]}x{grid[1]} is beyond the chip's {x}x{y}"


def indivisible(whole: int, part: int, part_name: str, whole_name: str) -> Iterator[str]:
    if whole % part:
        nearest = min(divisors(whole), key=lambda divisor: (abs(divisor - part), divisor))
        yield f"{part_name}={part} does not divide {whole_name}; the nearest that does is {nearest}"


def beyond_registers(subblock: Pair, kernel: ComputeKernel) -> Iterator[str]:
    size = subblock[0] * subblock[1]
    if size > kernel.dst_tiles:
        yield f"a subblock of {size} tiles is beyond the {kernel.dst_tiles} that the destination registers hold"


def misplaced(reads: Iterable[str], accepted: Iterable[tuple[str, ...]], names: Iterable[str]) -> Iterator[str]:
    """Inputs that lie where the config does not read them."""
    for text, allowed, name in zip(reads, accepted, names, strict=False):
        if text not in allowed:
            yield f"{name} lies as '{text}', but must lie as {' or '.join(repr(layout) for layout in allowed)}"


def operand_bytes(request: MatmulRequest, buffers: int, inner: int, block: Pair) -> int:
    """Buffers for a step: `inner` tiles deep of the activation and of the weight, `buffers` times, and a row of bias."""
    activation = buffers * inner * block[0] * tile_bytes(request.input_dtype)
    weight = buffers * inner * block[1] * tile_bytes(request.weight_dtype)
    bias = block[1] * tile_bytes(request.bias_dtype) if request.bias_dtype else 0
    return activation + weight + bias


def inner_widths(tiles_deep: int, most: int = MAX_INNER) -> list[int]:
    """Steps worth trying for an inner dim: the widest up to `most`, half of it, a quarter, one tile."""
    widths = [width for width in divisors(tiles_deep) if width <= most]
    return sorted({widths[-1], *(width for width in widths if 2 * width in widths or width == 1)}, reverse=True)
