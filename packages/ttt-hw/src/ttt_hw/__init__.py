"""Tenstorrent devices and the configs of ttnn's operations on them.

ttnn is imported when a device is opened or an array moved, not before.
"""

from ttt_hw.attention import (
    DecodeAttention as DecodeAttention,
    FlashAttention as FlashAttention,
    plan_decode_attention as plan_decode_attention,
    plan_prefill_attention as plan_prefill_attention,
)
from ttt_hw.catalogue import (
    BOARDS as BOARDS,
    Board as Board,
    Chip as Chip,
    board as board,
    board_as as board_as,
    board_of as board_of,
)
from ttt_hw.collectives import (
    AllGather as AllGather,
    AllReduce as AllReduce,
    ReduceScatter as ReduceScatter,
    plan_reshard as plan_reshard,
)
from ttt_hw.compute import ComputeKernel as ComputeKernel, Fidelity as Fidelity
from ttt_hw.errors import OutOfMemory as OutOfMemory, translate as translate
from ttt_hw.isolation import run_in_process as run_in_process
from ttt_hw.matmul import (
    BcastMatmul as BcastMatmul,
    MatmulRequest as MatmulRequest,
    PlannedMatmul as PlannedMatmul,
    plan_matmul as plan_matmul,
)
from ttt_hw.mesh import current_backend as current_backend, open_mesh as open_mesh
from ttt_hw.recorder import (
    OperationRecord as OperationRecord,
    Recorder as Recorder,
    record_operations as record_operations,
)
from ttt_hw.transfer import (
    Array as Array,
    DType as DType,
    HostSource as HostSource,
    TensorLayout as TensorLayout,
    allocate as allocate,
    download as download,
    dtype_of as dtype_of,
    forget_source as forget_source,
    observe as observe,
    parts_of as parts_of,
    remember_source as remember_source,
    short_name as short_name,
    source_of as source_of,
    to_host_tensor as to_host_tensor,
    upload as upload,
)

__all__ = [
    "BOARDS",
    "AllGather",
    "AllReduce",
    "Array",
    "BcastMatmul",
    "Board",
    "Chip",
    "ComputeKernel",
    "DType",
    "DecodeAttention",
    "Fidelity",
    "FlashAttention",
    "HostSource",
    "MatmulRequest",
    "OperationRecord",
    "OutOfMemory",
    "PlannedMatmul",
    "Recorder",
    "ReduceScatter",
    "TensorLayout",
    "allocate",
    "board",
    "board_as",
    "board_of",
    "current_backend",
    "download",
    "dtype_of",
    "forget_source",
    "observe",
    "open_mesh",
    "parts_of",
    "plan_decode_attention",
    "plan_matmul",
    "plan_prefill_attention",
    "plan_reshard",
    "record_operations",
    "remember_source",
    "run_in_process",
    "short_name",
    "source_of",
    "to_host_tensor",
    "translate",
    "upload",
]
