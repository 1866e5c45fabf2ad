"""The operations of feed-forward blocks, as data for a planner. Shapes of one chip, which has a part of the inner dim."""

from __future__ import annotations

from collections.abc import Mapping

from ttt_core import SpecError
from ttt_ffn.spec import FFNSpec, MoESpec
from ttt_hw import DType
from ttt_hw.requests import (
    BinaryRequest,
    BlockRequest,
    BroadcastRequest,
    CollectiveRequest,
    ConcatRequest,
    ExpertMatmulRequest,
    MatmulRequest,
    MoveRequest,
    OpRequest,
    ReduceRequest,
    RouterRequest,
    Stored,
    TensorType,
    Workload,
)
from ttt_shard_dsl import TILE

__all__ = ["PROFILES", "ffn_request"]

PROFILES: dict[str, dict[str, DType]] = {
    "performance": {"gate_weights": "bfloat4_b", "up_weights": "bfloat4_b", "down_weights": "bfloat8_b"},
    "balanced": {"gate_weights": "bfloat8_b", "up_weights": "bfloat8_b", "down_weights": "bfloat8_b"},
    "accuracy": {"gate_weights": "bfloat8_b", "up_weights": "bfloat8_b", "down_weights": "bfloat8_b"},
}
"""Dtypes by role, for each hardware mode. A router's weights are bfloat16 in each: a rounding may choose another expert."""

MAX_EXPERT_ROWS = 1024  # rows that go through the experts at a time: each expert's results are that many rows


def ffn_request(spec: FFNSpec | MoESpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """x [1, 1, rows, D] → [1, 1, rows, D]; `precision` as in PROFILES. The gated block is SwiGLU's, in its order.

    Biases are fused into the matmuls; that of the down weight is stored divided by the chips, so that their sum has it once
    (exact for powers of two).
    Errors: SpecError for experts with biases or without a gate, or weights that are not renormalised.
    """
    rows = work.rows
    if isinstance(spec, MoESpec):
        ops, stored = _experts(spec, work, precision)
    elif spec.gated:
        ops, stored = _gated(spec, work, precision)
    else:
        ops, stored = _plain(spec, work, precision)
    if work.chips > 1:
        ops.append(
            CollectiveRequest(
                name="all_reduce",
                inputs=(ops[-1].name,),
                kind="all_reduce",
                shape=(1, 1, rows, spec.hidden_dim),
                chips=work.chips,
            )
        )
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=(1, 1, rows, spec.hidden_dim))),),
        stored=tuple(stored),
        ops=tuple(ops),
        outputs=(ops[-1].name,),
    )


def local_width(spec: FFNSpec, chips: int) -> int:
    """A chip's part of the inner dim, in whole tiles on every chip."""
    return -(-spec.intermediate_dim // (TILE * chips)) * TILE


def _matmul(
    role: str, x: str, work: Workload, k: int, n: int, dtype: DType, **more: object
) -> tuple[OpRequest, list[Stored]]:
    bias = bool(more.pop("bias", False))
    stored = [Stored(name=f"{role}_weight", type=TensorType(shape=(1, 1, k, n), dtype=dtype))]
    if bias:
        stored.append(Stored(name=f"{role}_bias", type=TensorType(shape=(1, 1, 1, n))))
    request = MatmulRequest(
        name=f"{role}_matmul",
        inputs=(x, *(part.name for part in stored)),
        m=work.rows,
        k=k,
        n=n,
        weight_dtype=dtype,
        bias_dtype="bfloat16" if bias else None,
        **more,  # type: ignore[arg-type]
    )
    return request, stored


def _gated(spec: FFNSpec, work: Workload, precision: Mapping[str, DType]) -> tuple[list[OpRequest], list[Stored]]:
    hidden, width, bias = spec.hidden_dim, local_width(spec, work.chips), spec.bias
    gate, gate_stored = _matmul("gate", "x", work, hidden, width, precision["gate_weights"], bias=bias)
    up, up_stored = _matmul("up", "x", work, hidden, width, precision["up_weights"], bias=bias)
    gated = BinaryRequest(
        name="gate",
        inputs=(gate.name, up.name),
        op="mul",
        shape=(1, 1, work.rows, width),
        activation=spec.activation.value,
    )
    down, down_stored = _matmul("down", "gate", work, width, hidden, precision["down_weights"], bias=bias)
    return [gate, up, gated, down], [*gate_stored, *up_stored, *down_stored]


def _plain(spec: FFNSpec, work: Workload, precision: Mapping[str, DType]) -> tuple[list[OpRequest], list[Stored]]:
    hidden, width, bias = spec.hidden_dim, local_width(spec, work.chips), spec.bias
    activation = spec.activation.value
    up, up_stored = _matmul("up", "x", work, hidden, width, precision["up_weights"], bias=bias, activation=activation)
    down, down_stored = _matmul("down", up.name, work, width, hidden, precision["down_weights"], bias=bias)
    return [up, down], [*up_stored, *down_stored]


def _experts(spec: MoESpec, work: Workload, precision: Mapping[str, DType]) -> tuple[list[OpRequest], list[Stored]]:
    """Every chip routes all rows and has a part of each expert."""
    ffn, hidden, rows = spec.ffn, spec.hidden_dim, work.rows
    if not ffn.gated or ffn.bias or not spec.renormalise:
        raise SpecError(f"experts are listed with a gate, without biases and renormalised; the spec says {spec}.")
    width = local_width(ffn, work.chips)
    shapes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
    stored = [
        Stored(name="router_weight", type=TensorType(shape=(1, 1, hidden, spec.experts))),
        *(
            Stored(
                name=f"{role}_weight",
                type=TensorType(shape=(1, spec.experts, *shape), dtype=precision[f"{role}_weights"]),
            )
            for role, shape in shapes.items()
        ),
    ]
    if rows <= MAX_EXPERT_ROWS:
        return _expert_piece(spec, "x", rows, width, precision, ""), stored
    ops: list[OpRequest] = []
    parts: list[tuple[str, int]] = []
    for index, start in enumerate(range(0, rows, MAX_EXPERT_ROWS)):
        stop = min(start + MAX_EXPERT_ROWS, rows)
        source = TensorType(shape=(1, 1, rows, hidden))
        ops.append(MoveRequest(name=f"rows.{index}", inputs=("x",), op="slice", source=source, rows=(start, stop)))
        ops += _expert_piece(spec, f"rows.{index}", stop - start, width, precision, f".{index}")
        parts.append((ops[-1].name, stop - start))
    ops.append(
        ConcatRequest(
            name="join_rows",
            inputs=tuple(name for name, _ in parts),
            shapes=tuple((1, 1, count, hidden) for _, count in parts),
            dim=2,
        )
    )
    return ops, stored


def _expert_piece(
    spec: MoESpec, x: str, rows: int, width: int, precision: Mapping[str, DType], suffix: str
) -> list[OpRequest]:
    """x [1, 1, rows, D] → the weighted sum of its experts' results, likewise."""
    experts, hidden = spec.experts, spec.hidden_dim
    routing = f"routing{suffix}"

    def matmul(role: str, source: str, k: int, n: int) -> ExpertMatmulRequest:
        return ExpertMatmulRequest(
            name=f"{role}_matmul{suffix}",
            inputs=(source, f"{role}_weight", routing),
            experts=experts,
            active=spec.active,
            shared_input=role != "down",
            m=rows,
            k=k,
            n=n,
            weight_dtype=precision[f"{role}_weights"],
        )

    router = MatmulRequest(name=f"router_matmul{suffix}", inputs=(x, "router_weight"), m=rows, k=hidden, n=experts)
    return [
        router,
        RouterRequest(name=routing, inputs=(router.name,), rows=rows, experts=experts, active=spec.active),
        matmul("gate", x, hidden, width),
        matmul("up", x, hidden, width),
        BinaryRequest(
            name=f"gate{suffix}",
            inputs=(f"gate_matmul{suffix}", f"up_matmul{suffix}"),
            op="mul",
            shape=(1, experts, rows, width),
            activation=spec.ffn.activation.value,
        ),
        matmul("down", f"gate{suffix}", width, hidden),
        *_by_expert(routing, f"routing_by_expert{suffix}", rows, experts),
        BroadcastRequest(
            name=f"weighted{suffix}",
            inputs=(f"down_matmul{suffix}", f"routing_by_expert{suffix}"),
            op="mul",
            shape=(1, experts, rows, hidden),
            b_shape=(1, experts, rows, 1),
        ),
        ReduceRequest(
            name=f"sum_experts{suffix}", inputs=(f"weighted{suffix}",), shape=(1, experts, rows, hidden), dim=1
        ),
    ]


def _by_expert(routing: str, name: str, rows: int, experts: int) -> list[OpRequest]:
    """Routing weights [1, 1, rows, experts] → [1, experts, rows, 1]."""

    def transposed(step: str, source: str, shape: tuple[int, ...], dims: tuple[int, int]) -> MoveRequest:
        return MoveRequest(name=step, inputs=(source,), op="transpose", source=TensorType(shape=shape), dims=dims)

    return [
        transposed(f"{name}_lines", routing, (1, 1, rows, experts), (2, 3)),
        transposed(f"{name}_heads", f"{name}_lines", (1, 1, experts, rows), (1, 2)),
        transposed(name, f"{name}_heads", (1, experts, 1, rows), (2, 3)),
    ]
