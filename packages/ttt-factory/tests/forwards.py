"""A program: whether the forwards of a public model issue exactly what was planned on a board, moves included; prints JSON.

One process has one cluster, so the tests run this once a board.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import ttnn

from ttt_factory import ModelFactory, ModelSpec, precision_of, spec_of_config
from ttt_factory._model_plans import plan_blocks
from ttt_factory.huggingface import read_json
from ttt_hw import BlockPlan, Overrides, Workload, block_plans, board_of, open_mesh
from ttt_hw.verify import empty

CONFIGS = Path(__file__).with_name("configs")
# Head norms; a parallel layer with biases; soft-caps and four norms; experts.
MODELS = ("llama-3.2-1b", "qwen3-8b", "gpt-j-6b", "gemma-2-9b", "mixtral-8x7b")
CONTEXT, TOKENS = 256, 128
USERS = (1, 32)


@dataclass(frozen=True)
class Call:
    """An operation as it was called: its tensors, where they lie, and its keyword arguments."""

    name: str
    tensors: tuple[str, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({'; '.join(self.tensors)})"


@contextmanager
def calls() -> Iterator[list[Call]]:
    """The operations that are called inside, not those that they call themselves."""
    kind: Any = ttnn.decorators.FastOperation
    run, made, depth = kind.__call__, [], 0

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        if not depth:
            tensors = tuple(_described(each) for each in (*args, *kwargs.values()) if isinstance(each, ttnn.Tensor))
            made.append(Call(operation.python_fully_qualified_name, tensors, kwargs))
        depth += 1
        try:
            return run(operation, *args, **kwargs)
        finally:
            depth -= 1

    kind.__call__ = call
    try:
        yield made
    finally:
        kind.__call__ = run


def _described(tensor: Any) -> str:
    memory = tensor.memory_config()
    shard = memory.shard_spec and f" {list(memory.shard_spec.shape)} on {memory.shard_spec.grid}"
    return (
        f"{list(tensor.shape)} {tensor.dtype.name} {memory.memory_layout.name} {memory.buffer_type.name}{shard or ''}"
    )


def planned(plan: BlockPlan, mesh: Any) -> list[str]:
    """What a plan calls, issued on empty tensors."""
    board, types = plan.board, plan.block.types
    alive = {
        (name, text): empty(text, types[name], board, mesh)
        for name, text in (*plan.inputs.items(), *plan.stored.items())
    }
    kept = {*plan.inputs, *plan.stored, *plan.block.outputs}
    last = {name: op.request.name for op in plan.ops for name in op.request.inputs}
    with calls() as made:
        for op in plan.ops:
            for move in op.moves:
                name, reshard = move.tensor, move.reshard
                alive[name, reshard.target] = reshard.issue(types[name], board, alive[name, reshard.source])
            tensors = [alive[key] for key in zip(op.request.inputs, op.reads, strict=True)]
            result = op.pattern.issue(op.request, board, tensors)
            results = list(result) if len(op.results) > 1 else [result]
            alive |= zip(zip(op.request.results, op.results, strict=True), results, strict=False)
            for key in [key for key in alive if key[0] not in kept and last.get(key[0]) == op.request.name]:
                del alive[key]  # as a forward frees it
        for move in plan.exits:
            name, reshard = move.tensor, move.reshard
            reshard.issue(types[name], board, alive[name, reshard.source])
    return [str(call) for call in made]


def one_layer(name: str) -> ModelSpec:
    spec = spec_of_config(read_json(CONFIGS / f"{name}.json"))
    return replace(spec, layers=spec.layers[:1])


def compare(name: str, mesh: Any) -> dict[str, Any]:
    """For decode and prefill what is planned, what the first forward issues, what a second one does, and one that is written
    down."""
    spec, board = one_layer(name), board_of(mesh)
    precision: Any = {**dict.fromkeys(precision_of(spec, "performance"), "bfloat8_b")}
    plans = plan_blocks(spec, board, precision)
    layer = plans.layers[spec.layers[0]]
    model = ModelFactory.from_spec(spec, device=mesh)
    for weight in model.weights:
        weight.tensor  # noqa: B018  (allocates, which is no operation of a forward)
    found: dict[str, Any] = {}
    prompt = Workload(mode="prefill", tokens=TOKENS, context=TOKENS)
    last = Workload(mode="prefill", tokens=1, context=1)
    for users in USERS:
        cache = model.allocate_cache(users=users, context=CONTEXT)
        work = Workload(mode="decode", users=users, context=CONTEXT)

        def decode(users: int = users, cache: Any = cache) -> None:
            model.decode_forward(
                np.zeros(users, dtype=np.int64), cache=cache, positions=np.zeros(users, dtype=np.int64)
            )

        wanted = [line for each in (plans.embedding, layer, plans.head) for line in planned(each.plan(work), mesh)]
        found[f"decode {users}"] = {"planned": wanted, **_twice(decode)}

    cache = model.allocate_cache(users=1, context=TOKENS)

    def prefill() -> None:
        model.prefill_forward(np.zeros((1, TOKENS), dtype=np.int64), cache=cache)

    body = [line for each in (plans.embedding, layer) for line in planned(each.plan(prompt), mesh)]
    end = planned(plans.head.plan(last), mesh)
    found["prefill"] = {"planned": [*body, "slice", *end], **_twice(prefill)}
    return found


def _twice(forward: Any) -> dict[str, list[str]]:
    with calls() as first:
        forward()
    with patch.object(block_plans, "plan_together", None), calls() as second:  # whoever plans again fails
        forward()
    forward()  # by now it is written down
    with calls() as third:
        forward()
    return {
        "first": [str(call) for call in first],
        "second": [str(call) for call in second],
        "written": [str(call) for call in third],
    }


def overridden(overrides: Overrides, mesh: Any) -> dict[str, list[Call]]:
    """What decode and prefill call."""
    model = ModelFactory.from_spec(one_layer("llama-3.2-1b"), device=mesh, hw_config_overrides=overrides)
    cache = model.allocate_cache(users=1, context=CONTEXT)
    with calls() as decode:
        model.decode_forward([0], cache=cache, positions=[0])
    with calls() as prefill:
        model.prefill_forward(np.zeros((1, TOKENS), dtype=np.int64), cache=cache)
    return {"decode": decode, "prefill": prefill}


def main(device: str) -> None:
    with open_mesh(device, backend="mock") as mesh:
        print(json.dumps({name: compare(name, mesh) for name in MODELS}))


if __name__ == "__main__":
    main(sys.argv[1])
