"""Plans as forwards use them: moves, frees, parts, workloads of which only rows are known."""

from __future__ import annotations

from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw import (
    DRAM,
    L1,
    BinaryRequest,
    BlockPlans,
    BlockRequest,
    MatmulRequest,
    Stored,
    TensorType,
    UnaryRequest,
    Workload,
    board,
    given_or_own,
    interleaved,
    typical,
)
from ttt_hw.verify import empty

N150 = board("n150")
DIM = 256
DECODE = Workload(mode="decode", users=8, context=128)
USERS = Workload(mode="decode", users=8, context=0)


def gated(work: Workload, prefix: str = "") -> BlockRequest:
    """y = (x @ w) · tanh(x @ w), then x + y: x is read at both ends."""
    shape = (1, 1, work.rows, DIM)
    x = TensorType(shape=shape)
    weight = TensorType(shape=(1, 1, DIM, DIM), dtype="bfloat8_b")
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", x),),
        stored=(Stored(name=f"{prefix}weight", type=weight),),
        ops=(
            MatmulRequest(
                name=f"{prefix}matmul",
                inputs=("x", f"{prefix}weight"),
                m=work.rows,
                k=DIM,
                n=DIM,
                weight_dtype="bfloat8_b",
            ),
            UnaryRequest(name=f"{prefix}tanh", inputs=(f"{prefix}matmul",), shape=shape, activation="tanh"),
            BinaryRequest(name=f"{prefix}gate", inputs=(f"{prefix}matmul", f"{prefix}tanh"), op="mul", shape=shape),
            BinaryRequest(name="sum", inputs=("x", f"{prefix}gate"), op="add", shape=shape),
        ),
        outputs=("sum",),
    )


def plans(**options: Any) -> BlockPlans:
    return BlockPlans(gated, N150, typical=typical(128), **options)


def run(ops: Any, x: Any, weight: Any) -> tuple[Any, ...]:
    product = ops["matmul"](x, weight)
    tanh = ops["tanh"](product)
    gate = ops["gate"](product, tanh)
    return product, tanh, gate, ops["sum"](x, gate)


@pytest.mark.parametrize("layout", [L1, DRAM, "b h s d@core in l1 on 0-0..7-0"])
def test_what_nothing_reads_any_more_is_freed(layout: str, mesh: Any) -> None:
    """Also where the caller holds it; what the caller gave stays."""
    planned = plans(hidden={"decode": (layout, layout)})
    types = gated(DECODE).types
    x = empty(layout, types["x"], N150, mesh)
    weight = empty(planned.stored["weight"], types["weight"], N150, mesh)
    for _ in range(2):
        *between, y = run(planned(DECODE), x, weight)
        assert not any(tensor.is_allocated() for tensor in between)
        assert all(tensor.is_allocated() for tensor in (x, weight, y))
        assert y.memory_config().is_sharded() == ("@" in layout)
        assert y.memory_config().buffer_type.name == ("DRAM" if "dram" in layout else "L1")


def test_a_tensor_is_moved_once(mesh: Any) -> None:
    """The product is made in shards and read interleaved, by two operations."""
    shards = "b h s d@core in l1 on 0-0..7-0"
    chosen = {
        "decode.matmul": {"pattern": "BcastMatmul", "output": shards},
        "decode.gate": {"grid": None},
    }
    planned = plans(overrides=chosen)
    moves = [(move.tensor, op.request.name) for op in planned.plan(DECODE) for move in op.moves]
    assert moves == [("matmul", "tanh")]
    types = gated(DECODE).types
    x, weight = (
        empty(text, types[name], N150, mesh) for name, text in (("x", L1), ("weight", planned.stored["weight"]))
    )
    ops = planned(DECODE)
    product = ops["matmul"](x, weight)
    assert product.memory_config().is_sharded()
    tanh = ops["tanh"](product)
    assert not product.is_allocated()  # it lies elsewhere now
    gate = ops["gate"](product, tanh)
    assert gate.is_allocated()
    assert not tanh.is_allocated()


def test_only_what_the_list_has_is_called(mesh: Any) -> None:
    planned = plans()
    x = object()
    assert planned(DECODE).optional("all_reduce")(x, None) is x
    with pytest.raises(KeyError):
        planned(DECODE)["all_reduce"]
    with pytest.raises(
        PlacementError, match=r"^the plan has no operation 'all_reduce'; it has matmul, tanh, gate, sum\.$"
    ):
        planned.bound(DECODE)["all_reduce"]


def test_a_workload_is_planned_once() -> None:
    planned = plans()
    assert planned.bound(DECODE) is planned.bound(DECODE)
    assert planned.bound(Workload(mode="decode", users=8, context=128, chips=4)) is planned.bound(DECODE)


def test_rows_alone_mean_the_context_of_the_forward() -> None:
    planned = plans()
    other = Workload(mode="decode", users=8, context=96)
    for work in (DECODE, other, DECODE):
        planned(work)
        assert planned.bound(USERS) is planned.bound(work)
    assert planned.plan(Workload(mode="decode", users=3, context=0)) is planned.plan(
        Workload(mode="decode", users=3, context=128)
    )


def test_parts() -> None:
    whole = BlockPlans(lambda work: gated(work, "a."), N150, typical=typical(128))
    part = whole.part("a")
    assert part.stored == {"weight": whole.stored["a.weight"]}
    assert part.dtypes == {"weight": "bfloat8_b"}
    assert list(whole.bound(DECODE, "a").ops) == ["matmul", "tanh", "gate"]
    part(DECODE)["matmul"]


def test_plans_that_are_given_are_taken() -> None:
    planned = plans()
    more: Any = {"typical": typical(128), "overrides": None}
    assert given_or_own(planned, gated, N150, **more) is planned
    own = given_or_own(None, gated, N150, **more)
    assert own.stored == {"weight": interleaved(gated(DECODE).types["weight"])} or "@bank" in own.stored["weight"]
    with pytest.raises(
        PlacementError, match=r"^hw_config_overrides were given beside plans, which are made already\. "
    ):
        given_or_own(planned, gated, N150, **{**more, "overrides": {"matmul": {"inner": 2}}})
