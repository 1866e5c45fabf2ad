"""The operations of feed-forward blocks, as data for a planner. Shapes of one chip, which has a part of the inner dim."""

from __future__ import annotations

from collections.abc import Mapping

from ttt_ffn.spec import ActivationType, FFNSpec, MoESpec
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
    UnaryRequest,
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

ALONE = (ActivationType.RELU2, ActivationType.QUICK_GELU)  # activations that no matmul ends with
MAX_EXPERT_ROWS = 1024  # rows that go through the experts at a time: each expert's results are that many rows


def ffn_request(spec: FFNSpec | MoESpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """x [1, 1, rows, D] → [1, 1, rows, D]; `precision` as in PROFILES. The gated block is SwiGLU's, in its order.

    Biases are fused into the matmuls; that of the down weight is stored divided by the chips, so that their sum has it once
    (exact for powers of two). Multipliers are in the weights. Where chips split D too, each has its part of it in x and in the
    result, and inner values are summed over them before the activation.
    Errors: PlacementError for experts with chips that split D.
    """
    rows, part = work.rows, work.hidden(spec.hidden_dim)
    if isinstance(spec, MoESpec):
        work.with_whole_rows("experts")
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
                shape=(1, 1, rows, part),
                chips=work.chips,
            )
        )
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=(1, 1, rows, part))),),
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


def _gate(spec: FFNSpec, name: str, inputs: tuple[str, str], shape: tuple[int, int, int, int]) -> BinaryRequest:
    """activation(gate) ⊙ up."""
    return BinaryRequest(
        name=name,
        inputs=inputs,
        op="mul",
        shape=shape,
        activation=spec.activation.value,
        limit=spec.limit,
        steepness=spec.steepness,
        b_offset=spec.up_offset,
    )


def _gated(
    spec: FFNSpec, work: Workload, precision: Mapping[str, DType], prefix: str = ""
) -> tuple[list[OpRequest], list[Stored]]:
    hidden, width, bias = work.hidden(spec.hidden_dim), local_width(spec, work.chips), spec.bias
    gate, gate_stored = _matmul(f"{prefix}gate", "x", work, hidden, width, precision["gate_weights"], bias=bias)
    up, up_stored = _matmul(f"{prefix}up", "x", work, hidden, width, precision["up_weights"], bias=bias)
    sums = _summed_over_rows(work, width, gate.name, up.name)
    gate_from, up_from = (op.name for op in sums or (gate, up))
    gated = _gate(spec, f"{prefix}gate", (gate_from, up_from), (1, 1, work.rows, width))
    down, down_stored = _matmul(f"{prefix}down", gated.name, work, width, hidden, precision["down_weights"], bias=bias)
    return [gate, up, *sums, gated, down], [*gate_stored, *up_stored, *down_stored]


def _plain(
    spec: FFNSpec, work: Workload, precision: Mapping[str, DType], prefix: str = ""
) -> tuple[list[OpRequest], list[Stored]]:
    """An activation that no matmul ends with, or that waits for a sum over chips, is `activated`, an operation of its own."""
    hidden, width, bias = work.hidden(spec.hidden_dim), local_width(spec, work.chips), spec.bias
    alone = spec.activation in ALONE or work.hidden_chips > 1
    fused = None if alone else spec.activation.value
    up, up_stored = _matmul(
        f"{prefix}up", "x", work, hidden, width, precision["up_weights"], bias=bias, activation=fused
    )
    ops: list[OpRequest] = [up, *_summed_over_rows(work, width, up.name)]
    if alone:
        ops.append(_activated(spec, f"{prefix}activated", ops[-1].name, (1, 1, work.rows, width)))
    down, down_stored = _matmul(
        f"{prefix}down", ops[-1].name, work, width, hidden, precision["down_weights"], bias=bias
    )
    return [*ops, down], [*up_stored, *down_stored]


def _summed_over_rows(work: Workload, width: int, *matmuls: str) -> list[OpRequest]:
    """`up_sum` of `up_matmul`: the sum over chips that split the hidden dim; nothing where none do."""
    if work.hidden_chips == 1:
        return []
    return [
        CollectiveRequest(
            name=name.replace("_matmul", "_sum"),
            inputs=(name,),
            kind="all_reduce",
            shape=(1, 1, work.rows, width),
            chips=work.hidden_chips,
            axis=0,
        )
        for name in matmuls
    ]


def _activated(spec: FFNSpec, name: str, x: str, shape: tuple[int, int, int, int]) -> UnaryRequest:
    return UnaryRequest(name=name, inputs=(x,), shape=shape, activation=spec.activation.value)


def _experts(spec: MoESpec, work: Workload, precision: Mapping[str, DType]) -> tuple[list[OpRequest], list[Stored]]:
    """Every chip routes all rows and has a part of each expert, and of what all rows share."""
    hidden, rows = spec.hidden_dim, work.rows
    ops, stored = _routed(spec, work, precision)
    if spec.shared is None:
        return ops, stored
    routed = ops[-1].name
    block = _gated if spec.shared.gated else _plain
    shared, shared_stored = block(spec.shared, work, precision, "shared_")
    if spec.gate_shared:
        logit, logit_stored = _matmul("shared_router", "x", work, hidden, 1, "bfloat16")
        column = (1, 1, rows, 1)
        shared += [
            logit,
            UnaryRequest(name="shared_share", inputs=(logit.name,), shape=column, activation="sigmoid"),
            BroadcastRequest(
                name="shared_weighted",
                inputs=("shared_down_matmul", "shared_share"),
                op="mul",
                shape=(1, 1, rows, hidden),
                b_shape=column,
            ),
        ]
        shared_stored += logit_stored
    both = BinaryRequest(name="with_shared", inputs=(routed, shared[-1].name), op="add", shape=(1, 1, rows, hidden))
    return [*ops, *shared, both], [*stored, *shared_stored]


def _routed(spec: MoESpec, work: Workload, precision: Mapping[str, DType]) -> tuple[list[OpRequest], list[Stored]]:
    hidden, rows, width = spec.hidden_dim, work.rows, local_width(spec.ffn, work.chips)
    stored = _expert_weights(spec, width, precision)
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


def _expert_weights(spec: MoESpec, width: int, precision: Mapping[str, DType]) -> list[Stored]:
    hidden, experts = spec.hidden_dim, spec.experts
    shapes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
    if not spec.ffn.gated:
        del shapes["gate"]
    vectors = {"router_bias": spec.router_bias, "selection_bias": spec.selection_bias}
    stored = [Stored(name="router_weight", type=TensorType(shape=(1, 1, hidden, experts)))]
    stored += [Stored(name=name, type=TensorType(shape=(1, 1, 1, experts))) for name, has in vectors.items() if has]
    if spec.groups > 1:
        stored.append(Stored(name="group_table", type=TensorType(shape=(1, 1, spec.groups, experts))))
    for role, (k, n) in shapes.items():
        weight = TensorType(shape=(1, experts, k, n), dtype=precision[f"{role}_weights"])
        stored.append(Stored(name=f"{role}_weight", type=weight))
        if spec.ffn.bias:
            stored.append(Stored(name=f"{role}_bias", type=TensorType(shape=(1, experts, 1, n))))
    return stored


def _expert_piece(
    spec: MoESpec, x: str, rows: int, width: int, precision: Mapping[str, DType], suffix: str
) -> list[OpRequest]:
    """x [1, 1, rows, D] → the weighted sum of its experts' results, likewise; w · x by a weight is w · (x by the weight)."""
    experts, hidden, ffn = spec.experts, spec.hidden_dim, spec.ffn
    routing, by_expert = f"routing{suffix}", f"routing_by_expert{suffix}"
    ops = _router(spec, x, rows, suffix)
    if spec.weigh_input:
        ops += _by_expert(routing, by_expert, rows, experts)

    def weighted(name: str, source: str, n: int) -> str:
        shape, column = (1, experts, rows, n), (1, experts, rows, 1)
        ops.append(BroadcastRequest(name=name, inputs=(source, by_expert), op="mul", shape=shape, b_shape=column))
        return name

    def matmul(role: str, source: str, k: int, n: int) -> str:
        """Adds the product, and its bias; the name of what comes out."""
        product = ExpertMatmulRequest(
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
        ops.append(product)
        if ffn.bias:
            ops.append(
                BroadcastRequest(
                    name=f"{role}_biased{suffix}",
                    inputs=(product.name, f"{role}_bias"),
                    op="add",
                    shape=(1, experts, rows, n),
                    b_shape=(1, experts, 1, n),
                )
            )
        if spec.weigh_input and role != "down":
            weighted(f"{role}_weighted{suffix}", ops[-1].name, n)
        return ops[-1].name

    inner = (1, experts, rows, width)
    if ffn.gated:
        gate = matmul("gate", x, hidden, width)
        up = matmul("up", x, hidden, width)
        ops.append(_gate(ffn, f"gate{suffix}", (gate, up), inner))
    else:
        ops.append(_activated(ffn, f"activated{suffix}", matmul("up", x, hidden, width), inner))
    down = matmul("down", ops[-1].name, width, hidden)
    if not spec.weigh_input:
        ops += _by_expert(routing, by_expert, rows, experts)
        down = weighted(f"weighted{suffix}", down, hidden)
    ops.append(ReduceRequest(name=f"sum_experts{suffix}", inputs=(down,), shape=(1, experts, rows, hidden), dim=1))
    return ops


def _router(spec: MoESpec, x: str, rows: int, suffix: str) -> list[OpRequest]:
    """x [1, 1, rows, D] → `routing` [1, 1, rows, experts], 0 for the experts that are not a row's best."""
    router = MatmulRequest(
        name=f"router_matmul{suffix}",
        inputs=(x, "router_weight", *("router_bias",) * spec.router_bias),
        m=rows,
        k=spec.hidden_dim,
        n=spec.experts,
        bias_dtype="bfloat16" if spec.router_bias else None,
    )
    choice = RouterRequest(
        name=f"routing{suffix}",
        inputs=(router.name, *("selection_bias",) * spec.selection_bias, *("group_table",) * (spec.groups > 1)),
        rows=rows,
        experts=spec.experts,
        active=spec.active,
        score=spec.score,
        renormalise=spec.renormalise,
        selection_bias=spec.selection_bias,
        groups=spec.groups,
        active_groups=spec.active_groups,
        group_score=spec.group_score,
        scale=spec.scale,
        logit_cap=spec.logit_cap,
        jitter=spec.jitter,
    )
    return [router, choice]


def _by_expert(routing: str, name: str, rows: int, experts: int) -> list[OpRequest]:
    """Routing weights [1, 1, rows, experts] → [1, experts, rows, 1]."""

    def transposed(step: str, source: str, shape: tuple[int, ...], dims: tuple[int, int]) -> MoveRequest:
        return MoveRequest(name=step, inputs=(source,), op="transpose", source=TensorType(shape=shape), dims=dims)

    return [
        transposed(f"{name}_lines", routing, (1, 1, rows, experts), (2, 3)),
        transposed(f"{name}_heads", f"{name}_lines", (1, 1, experts, rows), (1, 2)),
        transposed(name, f"{name}_heads", (1, experts, 1, rows), (2, 3)),
    ]
