"""What the tests run in processes of their own, one per board. No test module, so that such a process imports no pytest."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from typing import Any

from ttt_core import DeviceError, TttError
from ttt_hw.block_plans import BlockPlans
from ttt_hw.catalogue import board, board_of
from ttt_hw.errors import OutOfMemory, translate
from ttt_hw.mesh import open_mesh
from ttt_hw.recorder import record_operations
from ttt_hw.requests import (
    BinaryRequest,
    BlockRequest,
    CollectiveRequest,
    TensorType,
    Workload,
)

WIDE = 16384

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # ttnn imports it where it is installed, which takes seconds


def empty(mesh: Any, *shape: int) -> Any:
    import ttnn

    return ttnn.empty(list(shape), ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)


def recorded(name: str) -> dict[str, Any]:
    """What a Recorder makes of a matmul, a sum over chips, a tensor that is too large and a config that ttnn refuses."""
    import ttnn

    with open_mesh(name, backend="mock") as mesh:
        record = board_of(mesh)
        x, w = empty(mesh, 1, 1, 256, 1024), empty(mesh, 1, 1, 1024, 2048)
        found: dict[str, Any] = {}
        with record_operations(mesh) as recorder:
            y = ttnn.linear(x, w, core_grid=ttnn.CoreGrid(x=8, y=8))
        found["linear"] = recorder.operations, recorder.peak_dram_bytes_per_bank * record.dram_banks
        del y
        with record_operations(mesh) as recorder:
            ttnn.all_reduce(x, cluster_axis=1, topology=ttnn.Topology.Linear)
        found["all_reduce"] = recorder.operations, recorder.peak_dram_bytes_per_bank * record.dram_banks
        for what, shape in (("too large", (1, 1, 1024, 2**24)), ("refused", (1, 1, 512, 2048))):
            other = empty(mesh, *shape) if what == "refused" else w
            with record_operations(mesh) as recorder, contextlib.suppress(TttError):
                if what == "refused":
                    ttnn.linear(x, other)
                else:
                    ttnn.repeat(other, [1, 1, 1, shape[-1] // 2048])
            found[what] = recorder.operations, recorder.peak_dram_bytes_per_bank * record.dram_banks
        return found


def every_shape(name: str) -> dict[tuple[int, int], dict[str, Any]]:
    """What the device reports and which shapes ops give, for each mesh that the board opens as."""
    return {shape: one_shape(name, shape) for shape in board(name).shapes}


def one_shape(name: str, shape: tuple[int, int]) -> dict[str, Any]:
    import ttnn

    with open_mesh(name, shape=shape, backend="mock") as mesh:
        grid = mesh.compute_with_storage_grid_size()
        l1, dram = (ttnn.get_memory_view(mesh, kind) for kind in (ttnn.BufferType.L1, ttnn.BufferType.DRAM))
        axes = [axis for axis, chips in enumerate(shape) if chips > 1]
        nodes = [
            mesh.get_fabric_node_id(ttnn.MeshCoordinate(row, column)).chip_id
            for row in range(shape[0])
            for column in range(shape[1])
        ]
        x, w = empty(mesh, 1, 1, 32, 32 * max(shape)), empty(mesh, 1, 1, 32 * max(shape), 64)
        return {
            "record": board_of(mesh),
            "asked twice": board_of(mesh) is board_of(mesh),
            "system": ttnn.cluster.get_cluster_type().name,
            "arch": mesh.arch().name.lower(),
            "chips": mesh.get_num_devices(),
            "shape": tuple(mesh.shape),
            "grid": (grid.x, grid.y),
            "l1": (l1.num_banks, l1.total_bytes_per_bank, ttnn.get_l1_alignment()),
            "dram": (dram.num_banks, dram.total_bytes_per_bank, ttnn.get_dram_alignment()),
            "links": [ttnn.get_num_links(mesh, axis) for axis in axes],
            "nodes": nodes,
            "linear": tuple(ttnn.linear(x, w, core_grid=ttnn.CoreGrid(x=grid.x, y=grid.y)).shape),
            "rms_norm": tuple(ttnn.rms_norm(x).shape),
            "all_gather": [tuple(ttnn.all_gather(x, 3, cluster_axis=axis).shape) for axis in axes],
            "reduce_scatter": [tuple(ttnn.reduce_scatter(x, 3, cluster_axis=axis).shape) for axis in axes],
        }


def l1_ceiling(name: str) -> int:
    """The L1 that ttnn allows a program, from its message when a matmul's circular buffers pass it."""
    import ttnn

    with open_mesh(name, backend="mock") as mesh:
        config = ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
            compute_with_storage_grid_size=(1, 1),
            in0_block_w=64,
            out_subblock_h=1,
            out_subblock_w=1,
            per_core_M=32,
            per_core_N=32,
            transpose_mcast=False,
            fused_activation=None,
        )
        try:
            ttnn.linear(empty(mesh, 1, 1, 1024, 2048), empty(mesh, 1, 1, 2048, 1024), program_config=config)
        except RuntimeError as error:
            said = translate(error, where="matmul")
            assert isinstance(said, OutOfMemory)
            return said.available
        raise AssertionError("fitted")


def fabric_after_errors(name: str) -> list[str]:
    """The fabric in the body and after it failed, after the opening failed, and where the caller chose another."""
    import ttnn

    states = []
    try:
        with open_mesh(name, backend="mock"):
            states.append(ttnn.get_fabric_config().name)
            raise KeyError("body")
    except KeyError:
        states.append(ttnn.get_fabric_config().name)
    real = ttnn.open_mesh_device

    def fail(shape: object) -> None:
        raise RuntimeError("no such mesh")

    ttnn.open_mesh_device = fail
    try:
        with open_mesh(name, backend="mock"):
            pass
    except DeviceError:
        states.append(ttnn.get_fabric_config().name)
    ttnn.open_mesh_device = real
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D_RING)
    with open_mesh(name, backend="mock") as mesh:
        ttnn.all_gather(empty(mesh, 1, 1, 32, 64), 3, cluster_axis=1)
        states.append(ttnn.get_fabric_config().name)
    return states


def opened_by_ttnn(name: str, shape: tuple[int, int]) -> Any:
    """The record of a mesh that ttnn opened over part of a board, with a region of L1 and one of DRAM reserved."""
    import ttnn

    from ttt_hw._mock import mock_environment

    with mock_environment(board(name)):
        mesh = ttnn.open_mesh_device(ttnn.MeshShape(*shape), l1_small_size=32768, trace_region_size=1 << 20)
    try:
        return board_of(mesh)
    finally:
        ttnn.close_mesh_device(mesh)


def process_id() -> int:
    return os.getpid()


def out_of_memory() -> None:
    raise OutOfMemory("too large", memory="DRAM", wanted=2, available=1)


class StubbornError(DeviceError):
    """One that does not survive pickling."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def stubborn() -> None:
    raise StubbornError("no such cable", code=5)


def bug() -> None:
    raise ZeroDivisionError("a bug")


def crash() -> None:
    os.abort()


def leave() -> None:
    raise SystemExit(3)


def unpicklable() -> Any:
    return lambda: None


def semaphores(name: str) -> list[int]:
    """The largest piece of L1 that is free with its plan's semaphores: at first, beside an input, when all is freed, and after
    two forwards."""
    import ttnn

    with open_mesh(name, backend="mock") as mesh:
        record = board_of(mesh)
        work = Workload(mode="decode", users=32, context=128)
        split = {"sum_chips": {"pattern": "AllReduce"}}  # fused ones keep more than semaphores
        plans = BlockPlans(_summed, record, typical=[(work, 1.0)], overrides=split)

        def free() -> int:
            return int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).largest_contiguous_bytes_free_per_bank)

        found = [free()]
        for _ in range(2):
            x = ttnn.empty([1, 1, 32, WIDE], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.L1_MEMORY_CONFIG)
            ops = plans(work)
            y = ops["residual"](x, ops["sum_chips"](ops["double"](x, x)))
            found.append(free())
            del x, y, ops
            found.append(free())
        return found


def _summed(work: Workload) -> BlockRequest:
    shape = (1, 1, work.rows, WIDE)

    def add(name: str, *inputs: str) -> BinaryRequest:
        return BinaryRequest(name=name, inputs=inputs, op="add", shape=shape)

    summed = CollectiveRequest(name="sum_chips", inputs=("double",), kind="all_reduce", shape=shape, chips=work.chips)
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=shape)),),
        stored=(),
        ops=(add("double", "x", "x"), summed, add("residual", "x", "sum_chips")),
        outputs=("residual",),
    )
