"""Each kind of RuntimeError that ttnn raises, provoked on the mock, and what it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ttnn

from ttt_core import DeviceError, PlacementError, ShapeError, TttError, UnsupportedOnDevice
from ttt_hw.errors import OutOfMemory, translate

CHIP_L1 = 1_393_312


def empty(mesh: Any, *shape: int, dtype: Any = ttnn.bfloat16, memory: Any = ttnn.DRAM_MEMORY_CONFIG) -> Any:
    return ttnn.empty(list(shape), dtype, ttnn.TILE_LAYOUT, mesh, memory)


def matmul(mesh: Any, *, grid: tuple[int, int] = (8, 8), in0_block_w: int = 4) -> Any:
    config = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=grid,
        in0_block_w=in0_block_w,
        out_subblock_h=1,
        out_subblock_w=2,
        per_core_M=4,
        per_core_N=2,
        fuse_batch=True,
        fused_activation=None,
        mcast_in0=True,
    )
    return ttnn.matmul(empty(mesh, 1, 1, 128, 4096), empty(mesh, 1, 1, 4096, 4096), program_config=config)


def clash(mesh: Any) -> Any:
    held = empty(mesh, 1, 1, 8192, 4096, memory=ttnn.L1_MEMORY_CONFIG)
    try:
        return matmul(mesh, in0_block_w=32)
    finally:
        ttnn.deallocate(held)


def off_device(mesh: Any) -> Any:
    cores = ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(8, 0))])
    memory = ttnn.create_sharded_memory_config(
        (32, 32), cores, ttnn.ShardStrategy.WIDTH, use_height_and_width_as_shard_shape=True
    )
    return empty(mesh, 1, 1, 32, 9 * 32, memory=memory)


def raised(provoke: Callable[[], Any]) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        provoke()
    return caught.value


@pytest.mark.parametrize(
    ("provoke", "memory", "wanted", "available", "message"),
    [
        (
            lambda mesh: empty(mesh, 1, 1, 8192, 8192, memory=ttnn.L1_MEMORY_CONFIG),
            "L1",
            2_097_152,
            CHIP_L1,
            "wo: Out of Memory: Not enough space to allocate 134217728 B L1 buffer across 64 banks, where each "
            "bank needs to store 2097152 B, but bank size is 1393312 B (allocated: 0 B, free: 1393312 B, largest free "
            "block: 1393312 B). Free tensors, choose a smaller dtype, or spread the tensor over more cores or chips.",
        ),
        (lambda mesh: empty(mesh, 1, 8, 65536, 65536), "DRAM", 5_726_623_744, 1_072_693_184, None),
        (
            lambda mesh: matmul(mesh, in0_block_w=128),
            "L1",
            1_695_072,
            1_499_136,
            "wo: Statically allocated dataflow buffers on core range [0-0 - 7-7] grow to 1695072 B which is beyond "
            "max L1 size of 1499136 B. Choose smaller blocks (in0_block_w, per_core_M, per_core_N) or more cores.",
        ),
        (clash, "L1", None, None, None),
    ],
    ids=["tensor in L1", "tensor in DRAM", "circular buffers", "clash"],
)
def test_what_does_not_fit(
    provoke: Callable[[Any], Any],
    memory: str,
    wanted: int | None,
    available: int | None,
    message: str | None,
    mesh: Any,
) -> None:
    original = raised(lambda: provoke(mesh))
    error = translate(original, where="wo")
    assert isinstance(error, OutOfMemory), original
    assert error.__cause__ is original
    assert error.memory == memory
    assert error.wanted > error.available > 0
    assert wanted is None or (error.wanted, error.available) == (wanted, available)
    assert message is None or str(error) == message


@pytest.mark.parametrize(
    ("provoke", "kind", "message"),
    [
        (
            lambda mesh: ttnn.matmul(empty(mesh, 1, 1, 32, 64), empty(mesh, 1, 1, 96, 96)),
            ShapeError,
            "norm: The width of the first tensor must be equal to the height of the second tensor. Mismatch: width=64 "
            "height=96. Check the shapes that go in.",
        ),
        (
            lambda mesh: matmul(mesh, in0_block_w=3),
            PlacementError,
            "norm: MatmulMultiCoreReuseMultiCast1DProgramConfig: Kt (128) must be divisible by in0_block_w (3). "
            "Change the config, the layout or the arguments that it names.",
        ),
        (
            lambda mesh: matmul(mesh, grid=(9, 9)),
            PlacementError,
            "norm: MatmulMultiCoreReuseMultiCast1DProgramConfig: compute_with_storage_grid_size (9, 9) must fit within "
            "device grid (8, 8). Change the config, the layout or the arguments that it names.",
        ),
        (off_device, PlacementError, None),
        (
            lambda mesh: ttnn.softcap(empty(mesh, 1, 1, 32, 32), 5.0),
            UnsupportedOnDevice,
            "norm: Unary: SOFTCAP is implemented for Blackhole only, got arch wormhole_b0. "
            "Use another op, or convert the tensor's dtype or layout first.",
        ),
        (lambda mesh: ttnn.rms_norm(empty(mesh, 1, 1, 32, 64, dtype=ttnn.uint32)), UnsupportedOnDevice, None),
    ],
    ids=["shapes", "program config", "grid", "shard grid", "architecture", "dtype"],
)
def test_what_is_not_legal(provoke: Callable[[Any], Any], kind: type[TttError], message: str | None, mesh: Any) -> None:
    original = raised(lambda: provoke(mesh))
    error = translate(original, where="norm")
    assert type(error) is kind, original
    assert error.__cause__ is original
    assert message is None or str(error) == message


def test_backtraces_are_cut() -> None:
    original = RuntimeError("TT_FATAL @ /a.cpp:1: x\ninfo:\nIt is wrong.\nbacktrace:\n --- f()\n --- g()")
    assert str(translate(original, where="op")).startswith("op: It is wrong. Change the config")


def test_errors_that_are_not_ttnns() -> None:
    mine = DeviceError("mine")
    assert translate(mine, where="op") is mine
    other = translate(RuntimeError("something\nelse"), where="op")
    assert (type(other), str(other)) == (TttError, "op: something else.")
