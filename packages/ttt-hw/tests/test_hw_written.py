"""Forwards that are written down: the same calls, whatever the block is given, and only where the calls say all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ttt_hw import (
    DRAM,
    L1,
    BinaryRequest,
    BlockPlans,
    BlockRequest,
    Operations,
    TensorType,
    UnaryRequest,
    Workload,
    board,
    op_by_rows,
    ops_by_rows,
    straight_line,
    typical,
)
from ttt_hw.verify import empty

N150 = board("n150")
SHAPE = (1, 1, 32, 256)
TYPE = TensorType(shape=SHAPE)
STEP = Workload(mode="decode", users=32, context=128)
WRITTEN = 3  # runs


def listed(work: Workload) -> BlockRequest:
    """y = tanh(x · scale) + other: `scale` and `other` are whatever the block reads. Nothing reads `spare`."""
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TYPE), ("scale", TYPE), ("other", TYPE)),
        stored=(),
        ops=(
            BinaryRequest(name="scaled", inputs=("x", "scale"), op="mul", shape=SHAPE),
            UnaryRequest(name="spare", inputs=("scaled",), shape=SHAPE, activation="gelu"),
            UnaryRequest(name="tanh", inputs=("scaled",), shape=SHAPE, activation="tanh"),
            BinaryRequest(name="sum", inputs=("tanh", "other"), op="add", shape=SHAPE),
        ),
        outputs=("sum",),
    )


class Block:
    def __init__(self, mesh: Any, **options: Any) -> None:
        self.mesh = mesh
        self.runs = 0
        self.plans = BlockPlans(listed, N150, typical=typical(128), **options)
        _, self.steps = ops_by_rows(self.plans)
        self.held = [SimpleNamespace(scale=SimpleNamespace(tensor=self.new())) for _ in range(2)]
        self.place = 0

    def new(self) -> Any:
        return empty(L1, TYPE, N150, self.mesh)

    def __call__(self, x: Any, other: Any) -> Any:
        return self.forward(self.steps[32], x, other)

    @straight_line
    def forward(self, ops: Operations, x: Any, other: Any) -> Any:
        self.runs += 1
        scaled = ops["scaled"](x, self.held[self.place].scale.tensor)
        scaled = ops.optional("clipped")(scaled)
        ops["spare"](scaled)
        y = ops["sum"](ops["tanh"](scaled), x if other is None else other)
        return self.after(y)

    def after(self, y: Any) -> Any:
        return y


@contextmanager
def calls() -> Iterator[list[tuple[str, list[int]]]]:
    """Each ttnn call with the addresses of its tensors, of the result last."""
    import ttnn

    kind: Any = ttnn.decorators.FastOperation
    run, made = kind.__call__, []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, ttnn.Tensor)]
        given = [each.buffer_address() for each in tensors]
        result = run(operation, *args, **kwargs)
        made.append((operation.python_fully_qualified_name, [*given, result.buffer_address()]))
        return result

    kind.__call__ = call
    try:
        yield made
    finally:
        kind.__call__ = run


def seen(block: Block, x: Any, other: Any) -> list[tuple[str, list[int]]]:
    with calls() as made:
        y = block(x, other)
    assert y.is_allocated()
    return made


def test_it_is_written_down_and_issues_the_same(mesh: Any) -> None:
    block = Block(mesh)
    x, other = block.new(), block.new()
    found = [seen(block, x, other) for _ in range(WRITTEN + 3)]
    assert block.runs == WRITTEN
    assert [name for name, _ in found[0]] == ["ttnn.multiply", *["ttnn.unary_chain"] * 2, "ttnn.add"]
    assert found == [found[0]] * len(found)


def test_it_reads_what_it_is_given_now(mesh: Any) -> None:
    """Other tensors, another weight of the block, None where a tensor was, and another block."""
    block = Block(mesh)
    x, other = block.new(), block.new()
    for _ in range(WRITTEN):
        block(x, other)
    new, newer = block.new(), block.new()
    block.held[0].scale.tensor = block.new()
    scaled, *_, added = seen(block, new, newer)
    assert scaled[1][:2] == [new.buffer_address(), block.held[0].scale.tensor.buffer_address()]
    assert added[1][1] == newer.buffer_address()
    assert block.runs == WRITTEN
    *_, added = seen(block, x, None)
    assert added[1][1] == x.buffer_address()
    assert block.runs == WRITTEN + 1
    another = Block(mesh)
    another.steps = block.steps
    another(x, other)
    assert another.runs == 1


@pytest.mark.parametrize("place", [0, 1])
def test_blocks_with_the_same_operations(place: int, mesh: Any) -> None:
    """What one has written down serves another that does the same, and no other."""
    block, another = Block(mesh), Block(mesh)
    another.steps, another.place = block.steps, place
    x, other = block.new(), block.new()
    for each in (block, another):
        for _ in range(WRITTEN):
            each(x, other)
        scaled, *_ = seen(each, x, other)
        assert scaled[1][1] == each.held[each.place].scale.tensor.buffer_address()
        assert each.runs == WRITTEN
    assert len(block.steps[32].forwards) == 1 + place


def test_what_nothing_reads_any_more_is_freed(mesh: Any) -> None:
    import ttnn

    block = Block(mesh, hidden={"decode": (L1, DRAM)})
    x, other = block.new(), block.new()

    def taken() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).total_bytes_allocated_per_bank)

    before = taken()
    for _ in range(WRITTEN + 2):
        y = block(x, other)
        assert taken() == before
    assert block.runs == WRITTEN
    assert y.memory_config().buffer_type.name == "DRAM"


def own_call(block: Block) -> Any:
    import ttnn

    return lambda y: (ttnn.add(y, 1.0), y)[1]


def own_tensor(block: Block) -> Any:
    held = block.new()
    return lambda y: held


@pytest.mark.parametrize("after", [own_call, own_tensor], ids=["a call of its own", "a tensor from elsewhere"])
def test_what_the_operations_do_not_say_is_not_written_down(after: Any, mesh: Any) -> None:
    block = Block(mesh)
    block.after = after(block)  # type: ignore[method-assign]
    x, other = block.new(), block.new()
    for _ in range(WRITTEN + 2):
        block(x, other)
    assert block.runs == WRITTEN + 2


def test_the_same_tensor_twice_is_not_taken_for_one(mesh: Any) -> None:
    block = Block(mesh)
    x, other = block.new(), block.new()
    for _ in range(WRITTEN + 1):
        block(x, x)
    scaled, *_, added = seen(block, x, other)
    assert [scaled[1][0], added[1][1]] == [x.buffer_address(), other.buffer_address()]


def shards_to_read(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "hidden": {"decode": (DRAM, "b h s d@core in l1 on 0-0..7-0")},
        "overrides": {f"decode.{name}": {"grid": (8, 1)} for name in names},
    }


def test_a_forward_that_failed_leaves_nothing(mesh: Any) -> None:
    """x is moved for an operation that then fails; the next forward moves its own."""
    block = Block(mesh, **shards_to_read(("scaled", "sum")))
    x, new, other = (empty(DRAM, TYPE, N150, mesh) for _ in range(3))
    for _ in range(WRITTEN):
        block(x, other)
    whole = seen(block, x, other)
    assert whole[0][0] == "ttnn.to_memory_config"
    scale = block.held[0].scale
    kept, scale.tensor = scale.tensor, None
    with pytest.raises(TypeError):
        block(x, other)
    scale.tensor = kept
    found = seen(block, new, other)
    assert [name for name, _ in found] == [name for name, _ in whole]
    assert found[0][1][0] == new.buffer_address()


@pytest.mark.parametrize("runs", [0, 2])
def test_an_operation_that_failed_leaves_nothing(runs: int, mesh: Any) -> None:
    """Before and after it is written down."""
    block = Block(mesh, **shards_to_read(("scaled", "sum")))
    x, new = (empty(DRAM, TYPE, N150, mesh) for _ in range(2))
    scale = block.new()
    _, scaled = op_by_rows(block.plans, "scaled")
    for _ in range(runs):
        scaled[32](x, scale)
        block.plans(STEP)  # the next forward
    with pytest.raises(TypeError):
        scaled[32](x, "no tensor")
    with calls() as found:
        scaled[32](new, scale)
    assert found[0][1][0] == new.buffer_address()


def test_rows_alone(mesh: Any) -> None:
    """What is kept by rows is what the plans say, also after another context has come."""
    plans = BlockPlans(listed, N150, typical=typical(128))
    (_, steps), (_, tanh) = ops_by_rows(plans), op_by_rows(plans, "tanh")
    assert steps[32] is plans(STEP)
    other = Workload(mode="decode", users=32, context=96)
    assert plans(other) is not plans(STEP)
    plans(other)
    assert steps[32] is plans(other)
    assert len(tanh) == 0
    x = empty(L1, TYPE, N150, mesh)
    tanh[32](x)
    assert tanh[32] is tanh[32] is plans(other)["tanh"]
    assert len(tanh) == 1
    plans(STEP)
    assert len(tanh) == len(steps) == 0
