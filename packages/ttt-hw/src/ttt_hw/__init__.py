"""Tenstorrent devices and the configs of ttnn's operations on them.

ttnn is imported when a device is opened or an array moved, not before.
"""

from ttt_hw.attention import (
    DecodeAttention as DecodeAttention,
    FlashAttention as FlashAttention,
    plan_decode_attention as plan_decode_attention,
    plan_prefill_attention as plan_prefill_attention,
)
from ttt_hw.block_plans import (
    BlockPlans as BlockPlans,
    Plans as Plans,
    given_or_own as given_or_own,
    typical as typical,
)
from ttt_hw.bound import BoundOp as BoundOp, BoundPlan as BoundPlan, Operations as Operations
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
from ttt_hw.config import (
    HardwareMode as HardwareMode,
    ModuleHardwareConfig as ModuleHardwareConfig,
    default_config as default_config,
)
from ttt_hw.errors import OutOfMemory as OutOfMemory, translate as translate
from ttt_hw.estimate import Estimate as Estimate, Work as Work, estimate as estimate
from ttt_hw.isolation import run_in_process as run_in_process
from ttt_hw.joint import (
    Case as Case,
    interfaces as interfaces,
    lasting as lasting,
    plan_together as plan_together,
)
from ttt_hw.layouts import (
    DRAM as DRAM,
    L1 as L1,
    interleaved as interleaved,
    on_mesh as on_mesh,
    placed as placed,
)
from ttt_hw.matmul import (
    BcastMatmul as BcastMatmul,
    MatmulRequest as MatmulRequest,
    PlannedMatmul as PlannedMatmul,
    plan_matmul as plan_matmul,
)
from ttt_hw.mesh import current_backend as current_backend, open_mesh as open_mesh
from ttt_hw.overrides import Overrides as Overrides
from ttt_hw.patterns import PATTERNS as PATTERNS, Pattern as Pattern
from ttt_hw.plan import BlockPlan as BlockPlan, PlannedMove as PlannedMove, PlannedOp as PlannedOp
from ttt_hw.planner import (
    candidates_of as candidates_of,
    first_problem as first_problem,
    legal_options as legal_options,
    plan_block as plan_block,
)
from ttt_hw.planning import Planner as Planner
from ttt_hw.recorder import (
    OperationRecord as OperationRecord,
    Recorder as Recorder,
    record_operations as record_operations,
)
from ttt_hw.requests import (
    BlockRequest as BlockRequest,
    OpRequest as OpRequest,
    Stored as Stored,
    TensorType as TensorType,
    Workload as Workload,
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
from ttt_hw.verify import Verdict as Verdict, issue_plan as issue_plan, verify as verify

__all__ = [
    "BOARDS",
    "DRAM",
    "L1",
    "PATTERNS",
    "AllGather",
    "AllReduce",
    "Array",
    "BcastMatmul",
    "BlockPlan",
    "BlockPlans",
    "BlockRequest",
    "Board",
    "BoundOp",
    "BoundPlan",
    "Case",
    "Chip",
    "ComputeKernel",
    "DType",
    "DecodeAttention",
    "Estimate",
    "Fidelity",
    "FlashAttention",
    "HardwareMode",
    "HostSource",
    "MatmulRequest",
    "ModuleHardwareConfig",
    "OpRequest",
    "OperationRecord",
    "Operations",
    "OutOfMemory",
    "Overrides",
    "Pattern",
    "PlannedMatmul",
    "PlannedMove",
    "PlannedOp",
    "Planner",
    "Plans",
    "Recorder",
    "ReduceScatter",
    "Stored",
    "TensorLayout",
    "TensorType",
    "Verdict",
    "Work",
    "Workload",
    "allocate",
    "board",
    "board_as",
    "board_of",
    "candidates_of",
    "current_backend",
    "default_config",
    "download",
    "dtype_of",
    "estimate",
    "first_problem",
    "forget_source",
    "given_or_own",
    "interfaces",
    "interleaved",
    "issue_plan",
    "lasting",
    "legal_options",
    "observe",
    "on_mesh",
    "open_mesh",
    "parts_of",
    "placed",
    "plan_block",
    "plan_decode_attention",
    "plan_matmul",
    "plan_prefill_attention",
    "plan_reshard",
    "plan_together",
    "record_operations",
    "remember_source",
    "run_in_process",
    "short_name",
    "source_of",
    "to_host_tensor",
    "translate",
    "typical",
    "upload",
    "verify",
]
