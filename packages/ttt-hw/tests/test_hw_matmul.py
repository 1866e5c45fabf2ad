"""What blocks take without a planner: legal by an independent reading of the rules, and the least that goes into a core."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import ttnn
from hypothesis import given, settings, strategies as st

from ttt_core import PlacementError
from ttt_hw import BcastMatmul, MatmulRequest, PlannedMatmul, board, plan_matmul
from ttt_hw.compute import matmul_kernel
from ttt_hw.layouts import DRAM
from ttt_hw.matmul import L1_RESERVED, MAX_BLOCK_W, board_with
from ttt_hw.verify import verify

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


def streamed(config: BcastMatmul, request: MatmulRequest) -> int:
    """Operand bytes that enter a core, counted block by block."""
    total = 0
    for _ in range(config.per_core[0] // config.block[0]):
        for _ in range(config.per_core[1] // config.block[1]):
            for _ in range(tiles(request.k) // config.inner):
                total += config.inner * config.block[0] * TILE_BYTES[request.input_dtype]
                total += config.inner * config.block[1] * TILE_BYTES[request.weight_dtype]
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


@settings(max_examples=150, deadline=None, derandomize=True)
@given(requests, st.sampled_from([(8, 8), (8, 9), (11, 10), (13, 10), (1, 1)]))
def test_plans_are_legal(request_: MatmulRequest, grid: tuple[int, int]) -> None:
    chip = replace(CHIP, grid=grid)
    config = plan_matmul(request_, chip)
    mt, kt, nt = tiles(request_.m), tiles(request_.k), tiles(request_.n)
    x, y = config.grid
    assert 1 <= x <= grid[0]
    assert 1 <= y <= grid[1]
    assert config.kind == ("1d" if mt == 1 else "2d")
    rows, columns = (1, x * y) if config.kind == "1d" else (y, x)
    assert rows * config.per_core[0] >= mt
    assert columns * config.per_core[1] >= nt
    most_rows, most_columns = (1, grid[0] * grid[1]) if config.kind == "1d" else (grid[1], grid[0])
    assert (config.per_core[0] - 1) * most_rows < mt  # spread over as many cores as there are
    assert (config.per_core[1] - 1) * most_columns < nt
    if config.kind == "2d":  # no row or column of cores without work
        assert (rows - 1) * config.per_core[0] < mt
        assert (columns - 1) * config.per_core[1] < nt
    for whole, part in (
        (kt, config.inner),
        (config.per_core[0], config.block[0]),
        (config.per_core[1], config.block[1]),
        (config.block[0], config.subblock[0]),
        (config.block[1], config.subblock[1]),
    ):
        assert whole % part == 0
    assert config.inner <= MAX_BLOCK_W
    assert config.subblock[0] * config.subblock[1] <= 4  # float32 sums
    assert config.circular_buffers(request_, board_with(chip), (DRAM, DRAM)) <= 1_393_312 - L1_RESERVED


@settings(max_examples=40, deadline=None, derandomize=True)
@given(requests.filter(lambda request: request.n <= 3000), st.randoms())
def test_no_legal_config_of_the_same_split_and_steps_streams_less(request_: MatmulRequest, rng: random.Random) -> None:
    best, record = plan_matmul(request_, CHIP), board_with(CHIP)
    for _ in range(30):
        height = rng.choice([h for h in range(1, best.per_core[0] + 1) if best.per_core[0] % h == 0])
        width = rng.choice([w for w in range(1, best.per_core[1] + 1) if best.per_core[1] % w == 0])
        other = replace(best, block=(height, width), subblock=(1, 1))
        if other.circular_buffers(request_, record, (DRAM, DRAM)) <= CHIP.l1_bytes_per_core - L1_RESERVED:
            assert streamed(best, request_) <= streamed(other, request_)


@pytest.mark.parametrize("name", REAL)
def test_ttnn_accepts_plans_for_llamas_weights(name: str, mesh: Any) -> None:
    """Eagerly, so that everything ttnn checks is checked."""
    k, n = REAL[name]
    for dtype, rows in [("bfloat8_b", rows) for rows in (1, 32, 128, 2048)] + [("bfloat16", 32), ("bfloat4_b", 32)]:
        request = MatmulRequest(name=name, m=rows, k=k, n=n, weight_dtype=dtype)  # type: ignore[arg-type]
        verdict = verify(request, plan_matmul(request, CHIP), mesh, reads=(DRAM, DRAM))
        assert verdict.error is None
        assert verdict.exact, verdict


def test_a_chip_without_room_is_an_error() -> None:
    request = MatmulRequest(name="gate_up_matmul", m=256, k=2048, n=8192, weight_dtype="bfloat8_b")
    with pytest.raises(PlacementError) as caught:
        plan_matmul(request, replace(CHIP, l1_bytes_per_core=L1_RESERVED + 10_000))
    assert str(caught.value) == (
        "gate_up_matmul [256, 2048] @ [2048, 8192] bfloat8_b: no block size fits the 10,000 bytes of L1 per core of "
        "wormhole_b0. Split the matmul into fewer rows or columns."
    )


def test_a_planned_matmul_keeps_its_programs() -> None:
    matmul = PlannedMatmul(name="o", k=2048, n=2048, weight_dtype="bfloat8_b", chip=CHIP)
    assert matmul.for_rows(32) is matmul.for_rows(32)
    assert matmul.config_for(32).kind == "1d"
    assert matmul.config_for(33).kind == "2d"
    assert isinstance(matmul.for_rows(32), ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig)
    assert isinstance(matmul.for_rows(64), ttnn.MatmulMultiCoreReuseMultiCastProgramConfig)


def test_the_ttnn_config_has_every_field() -> None:
    request = MatmulRequest(name="gate_up_matmul", m=256, k=2048, n=8192, weight_dtype="bfloat8_b", activation="silu")
    config = plan_matmul(request, CHIP)
    lowered = config.to_ttnn(request, board_with(CHIP))["program_config"]
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == config.grid
    assert lowered.in0_block_w == config.inner
    assert (lowered.per_core_M, lowered.per_core_N) == config.per_core
    assert (lowered.out_block_h, lowered.out_block_w) == config.block
    assert (lowered.out_subblock_h, lowered.out_subblock_w) == config.subblock
    assert lowered.fused_activation.op_type == ttnn.UnaryOpType.SILU


@pytest.mark.parametrize(
    ("dtype", "fidelity"), [("bfloat4_b", "LoFi"), ("bfloat8_b", "HiFi2"), ("bfloat16", "HiFi4"), ("float32", "HiFi4")]
)
def test_the_kernel_keeps_the_weights_bits(dtype: str, fidelity: str) -> None:
    lowered = matmul_kernel(dtype).to_ttnn()
    assert lowered.math_fidelity == getattr(ttnn.MathFidelity, fidelity)
    assert lowered.fp32_dest_acc_en
    assert lowered.packer_l1_acc
    assert not lowered.math_approx_mode
