"""Matmul plans: legal by an independent reading of the rules, accepted by ttnn, and byte for byte what ttnn allocates."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import ttnn
from hypothesis import given, settings, strategies as st

from ttt_core import PlacementError
from ttt_hw import BcastMatmul, MatmulRequest, PlannedMatmul, board, plan_matmul
from ttt_hw.compute import ComputeKernel, matmul_kernel
from ttt_hw.matmul import L1_RESERVED, MAX_BLOCK_W

CHIP = board("n150").chip
DTYPES = ["bfloat16", "bfloat8_b", "bfloat4_b"]
TILE_BYTES = {"float32": 4096, "bfloat16": 2048, "bfloat8_b": 1088, "bfloat4_b": 576}

REAL = {   # k, n of Llama's weights
    "1b qkv": (2048, 3072), "1b o": (2048, 2048), "1b gate": (2048, 8192), "1b down": (8192, 2048), "1b head": (2048, 128256),
    "3b qkv": (3072, 5120), "3b o": (3072, 3072), "3b gate": (3072, 8192), "3b down": (8192, 3072), "3b head": (3072, 128256),
    "8b qkv": (4096, 6144), "8b o": (4096, 4096), "8b gate": (4096, 14336), "8b down": (14336, 4096), "8b head": (4096, 128256),
}  # fmt: skip


def tiles(size: int) -> int:
    return (size + 31) // 32


DRAM = ttnn.DRAM_MEMORY_CONFIG


def run(mesh: Any, config: BcastMatmul, request: MatmulRequest, memory: Any = None) -> Any:
    memory = memory or DRAM
    empty = partial(ttnn.empty, layout=ttnn.TILE_LAYOUT, device=mesh)
    x = empty([1, 1, request.m, request.k], getattr(ttnn, request.input_dtype), memory_config=memory)
    w = empty([1, 1, request.k, request.n], getattr(ttnn, request.weight_dtype), memory_config=DRAM)
    bias = request.bias_dtype and empty([1, 1, 1, request.n], getattr(ttnn, request.bias_dtype), memory_config=DRAM)
    return ttnn.linear(
        x,
        w,
        bias=bias,
        program_config=config.to_ttnn(),
        compute_kernel_config=config.kernel.to_ttnn(),
        memory_config=memory,
        dtype=getattr(ttnn, request.output_dtype),
    )


def allocated(mesh: Any, config: BcastMatmul, request: MatmulRequest) -> int:
    """Bytes of L1 per core that ttnn's own program takes for its buffers."""
    graph = ttnn._ttnn.graph  # ttnn.graph is the same with a warning at each capture
    graph.begin_graph_capture(graph.RunMode.NO_DISPATCH)
    try:
        run(mesh, config, request)
    finally:
        captured = graph.end_graph_capture()
    usage = graph.extract_resource_usage_per_core(captured)
    return int(usage.peak_cb + usage.peak_dataflow_buffer + usage.peak_scratchpad)


def streamed(config: BcastMatmul, request: MatmulRequest) -> int:
    """Operand bytes that enter a core, counted block by block."""
    total = 0
    for _ in range(config.per_core_m // config.out_block_h):
        for _ in range(config.per_core_n // config.out_block_w):
            for _ in range(tiles(request.k) // config.in0_block_w):
                total += config.in0_block_w * config.out_block_h * TILE_BYTES[request.input_dtype]
                total += config.in0_block_w * config.out_block_w * TILE_BYTES[request.weight_dtype]
    return total


sizes = st.integers(1, 100).map(lambda count: 32 * count) | st.integers(1, 3000)
requests = st.builds(
    MatmulRequest,
    name=st.just("some_matmul"),
    m=st.sampled_from([1, 3, 31, 32]) | st.integers(1, 4096),
    k=sizes,
    n=sizes | st.sampled_from([14336, 128256]),
    weight_dtype=st.sampled_from([*DTYPES, "float32"]),
    input_dtype=st.sampled_from(["bfloat16", "bfloat16", "bfloat8_b", "float32"]),
    output_dtype=st.sampled_from(["bfloat16", "bfloat16", "bfloat8_b", "float32"]),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(requests, st.sampled_from([(8, 8), (8, 9), (11, 10), (13, 10), (1, 1)]))
def test_plans_are_legal(request_: MatmulRequest, grid: tuple[int, int]) -> None:
    chip = replace(CHIP, grid=grid)
    config = plan_matmul(request_, chip)
    config.check(request_, chip)
    mt, kt, nt = tiles(request_.m), tiles(request_.k), tiles(request_.n)
    x, y = config.grid
    assert 1 <= x <= grid[0]
    assert 1 <= y <= grid[1]
    assert config.kind == ("1d" if mt == 1 else "2d")
    rows, columns = (1, x * y) if config.kind == "1d" else (y, x)
    assert rows * config.per_core_m >= mt
    assert columns * config.per_core_n >= nt
    most_rows, most_columns = (1, grid[0] * grid[1]) if config.kind == "1d" else (grid[1], grid[0])
    assert (config.per_core_m - 1) * most_rows < mt  # spread over as many cores as there are
    assert (config.per_core_n - 1) * most_columns < nt
    if config.kind == "2d":  # no row or column of cores without work
        assert (rows - 1) * config.per_core_m < mt
        assert (columns - 1) * config.per_core_n < nt
    for whole, part in (
        (kt, config.in0_block_w),
        (config.per_core_m, config.out_block_h),
        (config.per_core_n, config.out_block_w),
        (config.out_block_h, config.out_subblock_h),
        (config.out_block_w, config.out_subblock_w),
    ):
        assert whole % part == 0
    assert config.in0_block_w <= MAX_BLOCK_W
    assert config.out_subblock_h * config.out_subblock_w <= 4  # float32 sums
    assert config.l1_bytes(request_) <= 1_393_312 - L1_RESERVED


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests.filter(lambda request: request.n <= 3000), st.randoms())
def test_no_legal_config_of_the_same_split_streams_less(request_: MatmulRequest, rng: random.Random) -> None:
    best = plan_matmul(request_, CHIP)
    for _ in range(30):
        height = rng.choice([h for h in range(1, best.per_core_m + 1) if best.per_core_m % h == 0])
        width = rng.choice([w for w in range(1, best.per_core_n + 1) if best.per_core_n % w == 0])
        inner = rng.choice([i for i in range(1, 9) if tiles(request_.k) % i == 0])
        other = replace(
            best, in0_block_w=inner, out_block_h=height, out_block_w=width, out_subblock_h=1, out_subblock_w=1
        )
        try:
            other.check(request_, CHIP)
        except PlacementError:
            continue
        assert streamed(best, request_) <= streamed(other, request_)


@pytest.mark.parametrize("name", REAL)
def test_ttnn_accepts_plans_for_llamas_weights(name: str, mesh: Any) -> None:
    """Eagerly, so that everything ttnn checks is checked; decode with its activations in L1."""
    k, n = REAL[name]
    for dtype, rows in [("bfloat8_b", rows) for rows in (1, 32, 128, 2048)] + [("bfloat16", 32), ("bfloat4_b", 32)]:
        request = MatmulRequest(name=name, m=rows, k=k, n=n, weight_dtype=dtype)  # type: ignore[arg-type]
        memory = ttnn.L1_MEMORY_CONFIG if rows <= 32 and n < 100_000 else ttnn.DRAM_MEMORY_CONFIG
        y = run(mesh, plan_matmul(request, CHIP), request, memory)
        assert tuple(y.shape) == (1, 1, rows, n)


def some_request(rng: random.Random) -> MatmulRequest:
    def size(most: int) -> int:
        return rng.choice([32 * rng.randint(1, most // 32), rng.randint(1, most)])

    return MatmulRequest(
        name="some_matmul",
        m=rng.choice([1, 3, 32, 33, 64, 128, 200, 256, 512, 1024]),
        k=size(2048),
        n=size(3000),
        weight_dtype=rng.choice([*DTYPES, "float32"]),  # type: ignore[arg-type]
        input_dtype=rng.choice(["bfloat16", "bfloat16", "bfloat8_b", "float32"]),  # type: ignore[arg-type]
        output_dtype=rng.choice(["bfloat16", "bfloat16", "bfloat8_b", "float32"]),  # type: ignore[arg-type]
        bias_dtype=rng.choice([None, None, "bfloat16"]),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", range(4))
def test_ttnn_accepts_plans_for_any_shape_and_takes_the_same_l1(seed: int, mesh: Any) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        request = some_request(rng)
        config = plan_matmul(request, CHIP)
        assert tuple(run(mesh, config, request).shape) == (1, 1, request.m, request.n)
        assert config.l1_bytes(request) == allocated(mesh, config, request), (request, config)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("fp32", [True, False])
@pytest.mark.parametrize("packer", [True, False])
def test_l1_bytes_are_those_of_ttnn_for_any_legal_config(steps: int, fp32: bool, packer: bool, mesh: Any) -> None:
    """Not only for what the planner prefers."""
    rng = random.Random(steps)
    for _ in range(8):
        inner = rng.randint(1, 6)
        request = replace(some_request(rng), k=32 * inner * steps)
        plan = plan_matmul(request, CHIP)
        config = replace(
            plan,
            in0_block_w=inner,
            out_block_h=rng.choice([h for h in range(1, plan.per_core_m + 1) if plan.per_core_m % h == 0]),
            out_block_w=rng.choice([w for w in range(1, plan.per_core_n + 1) if plan.per_core_n % w == 0]),
            out_subblock_h=1,
            out_subblock_w=1,
            kernel=replace(plan.kernel, fp32_accumulate=fp32, packer_l1_accumulate=packer),
        )
        assert config.l1_bytes(request) == allocated(mesh, config, request), (request, config)


# Refusals

REQUEST = MatmulRequest(name="gate_up_matmul", m=256, k=2048, n=8192, weight_dtype="bfloat8_b")
LEGAL = BcastMatmul(
    kind="2d", grid=(8, 8), in0_block_w=4, per_core_m=1, per_core_n=32, out_block_h=1, out_block_w=32,
    out_subblock_h=1, out_subblock_w=4, kernel=matmul_kernel("bfloat8_b"),
)  # fmt: skip


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"grid": (9, 8)}, "grid 9x8 is beyond the chip's 8x8"),
    ({"grid": (8, 9)}, "grid 8x9 is beyond the chip's 8x8"),
    ({"grid": (8, 4)}, "4 x per_core_m=1 covers less than the 8 row tiles"),
    ({"grid": (7, 8)}, "7 x per_core_n=32 covers less than the 256 column tiles"),
    ({"kind": "1d"}, "1 x per_core_m=1 covers less than the 8 row tiles"),
    ({"kind": "1d", "grid": (7, 1), "per_core_m": 8}, "7 x per_core_n=32 covers less than the 256 column tiles"),
    ({"in0_block_w": 3}, "in0_block_w=3 does not divide the 64 inner tiles"),
    ({"per_core_m": 3, "out_block_h": 2}, "out_block_h=2 does not divide per_core_m=3"),
    ({"out_block_w": 20}, "out_block_w=20 does not divide per_core_n=32"),
    ({"out_subblock_h": 2}, "out_subblock_h=2 does not divide out_block_h=1"),
    ({"out_subblock_w": 3}, "out_subblock_w=3 does not divide out_block_w=32"),
    ({"out_subblock_w": 8}, "a subblock of 8 tiles is beyond the 4 that the destination registers hold"),
    ({"in0_block_w": 16}, "1,376,256 bytes of L1 per core are beyond the 1,262,240 left beside activations"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_config_that_breaks_a_rule_is_refused_with_its_reason(change: dict[str, Any], reason: str) -> None:
    LEGAL.check(REQUEST, CHIP)
    broken = replace(LEGAL, **change)
    with pytest.raises(PlacementError) as caught:
        broken.check(REQUEST, CHIP)
    assert str(caught.value) == (
        f"gate_up_matmul [256, 2048] @ [2048, 8192] bfloat8_b cannot run as {broken}: {reason}. "
        "Change that field, or let plan_matmul choose."
    )


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    "field",
    ["in0_block_w", "per_core_m", "per_core_n", "out_block_h", "out_block_w", "out_subblock_h", "out_subblock_w"],
)
def test_a_count_below_one_is_refused(field: str, value: int) -> None:
    with pytest.raises(PlacementError, match=rf": {field} must be at least 1, not {value}\.$"):
        replace(LEGAL, **{field: value}).check(REQUEST, CHIP)  # type: ignore[arg-type]


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(PlacementError, match=r": grid must be at least 1, not 0\.$"):
        replace(LEGAL, grid=(0, 8)).check(REQUEST, CHIP)


@pytest.mark.parametrize("change", [change for change, reason in BROKEN if "of L1" not in reason])
def test_ttnn_refuses_it_too(change: dict[str, Any], mesh: Any) -> None:
    """No rule is stricter than ttnn's own, but for the room that is left to activations."""
    assert run(mesh, LEGAL, REQUEST) is not None
    with pytest.raises(RuntimeError, match="MatmulMultiCoreReuseMultiCast"):
        run(mesh, replace(LEGAL, **change), REQUEST)


def test_a_subblock_may_be_larger_without_float32_sums() -> None:
    plain = replace(LEGAL, out_subblock_w=8, kernel=ComputeKernel(fp32_accumulate=False))
    plain.check(REQUEST, CHIP)
    with pytest.raises(PlacementError, match="a subblock of 16 tiles is beyond the 8"):
        replace(plain, out_subblock_w=16).check(REQUEST, CHIP)


def test_a_chip_without_room_is_an_error() -> None:
    tiny = replace(CHIP, l1_bytes_per_core=L1_RESERVED + 10_000)
    with pytest.raises(PlacementError) as caught:
        plan_matmul(REQUEST, tiny)
    assert str(caught.value) == (
        "gate_up_matmul [256, 2048] @ [2048, 8192] bfloat8_b: no block size fits the 10,000 bytes of L1 per core of "
        "wormhole_b0. Split the matmul into fewer rows or columns."
    )


# What the blocks hold


def test_a_planned_matmul_keeps_its_programs() -> None:
    matmul = PlannedMatmul(name="o", k=2048, n=2048, weight_dtype="bfloat8_b", chip=CHIP)
    assert matmul.for_rows(32) is matmul.for_rows(32)
    assert matmul.config_for(32).kind == "1d"
    assert matmul.config_for(33).kind == "2d"
    assert isinstance(matmul.for_rows(32), ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig)
    assert isinstance(matmul.for_rows(64), ttnn.MatmulMultiCoreReuseMultiCastProgramConfig)


def test_the_ttnn_config_has_every_field() -> None:
    config = plan_matmul(REQUEST, CHIP)
    lowered = config.to_ttnn()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == config.grid
    for ours, theirs in (
        ("in0_block_w", "in0_block_w"), ("per_core_m", "per_core_M"), ("per_core_n", "per_core_N"),
        ("out_block_h", "out_block_h"), ("out_block_w", "out_block_w"),
        ("out_subblock_h", "out_subblock_h"), ("out_subblock_w", "out_subblock_w"),
    ):  # fmt: skip
        assert getattr(lowered, theirs) == getattr(config, ours)


@pytest.mark.parametrize(
    ("dtype", "fidelity"), [("bfloat4_b", "LoFi"), ("bfloat8_b", "HiFi2"), ("bfloat16", "HiFi4"), ("float32", "HiFi4")]
)
def test_the_kernel_keeps_the_weights_bits(dtype: str, fidelity: str) -> None:
    lowered = matmul_kernel(dtype).to_ttnn()
    assert lowered.math_fidelity == getattr(ttnn.MathFidelity, fidelity)
    assert lowered.fp32_dest_acc_en
    assert lowered.packer_l1_acc
    assert not lowered.math_approx_mode
