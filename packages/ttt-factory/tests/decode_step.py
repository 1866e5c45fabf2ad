"""A program: what decode steps of public models, and of attention to a memory, allocate, free and copy, beside what their plans
declare; prints JSON.

One process has one cluster, so the tests run this once a board.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import ttnn

from ttt_attention import MultiHeadCrossAttention
from ttt_factory import ModelFactory, precision_of, spec_of_config
from ttt_factory._model_plans import plan_blocks
from ttt_factory.huggingface import read_json
from ttt_hw import BlockPlan, BoundPlan, Operations, Workload, board_of, open_mesh, upload
from ttt_hw.verify import empty
from ttt_weights import RandomWeights

CONFIGS = Path(__file__).with_name("configs")
MODELS = ("llama-3.2-1b", "qwen3-8b", "gpt-j-6b", "gemma-2-9b", "mixtral-8x7b")
CONTEXT, USERS = 256, 32
WRITTEN = 3  # runs, then a forward is written down
# What ttnn's graph calls a copy between host and device.
COPIES = (
    "Tensor::to_device",
    "Tensor::cpu",
    "copy_to_device",
    "copy_to_host",
    "convert_python_tensor",
    "convert_tt_tensor",
)

Buffer = tuple[str, int]  # where, bytes
Step = tuple[str, Buffer, int]


def watched(call: Callable[[], Any]) -> tuple[list[Step], list[str], Any]:
    """The buffers that a call allocates (+) and frees (-), in order, and its copies between host and device."""
    graph = ttnn._ttnn.graph
    graph.begin_graph_capture(graph.RunMode.NORMAL)
    try:
        result = call()
    finally:
        nodes: Any = graph.end_graph_capture()
    steps, copies = [], []
    for node in nodes:
        kind, params = node["node_type"], node["params"]
        if kind in ("buffer_allocate", "buffer_deallocate"):
            sign = "+" if kind == "buffer_allocate" else "-"
            steps.append((sign, (params["type"], int(params["size"])), int(params["address"])))
        elif kind == "function_start" and any(copy in params["name"] for copy in COPIES):
            copies.append(params["name"])
    return steps, copies, result


def of_operations(made_step: Callable[[], Callable[[], Any]]) -> tuple[Counter[Buffer], Counter[Buffer]]:
    """What the planned operations of a step allocate, and what of it each still holds when it is done.

    Of a model of its own: one that has run calls no operation by name, its forwards are written down.
    """
    made: Counter[Buffer] = Counter()
    kept: Counter[Buffer] = Counter()
    start = BoundPlan.start

    def watch(op: Callable[..., Any], *given: Any) -> Any:
        steps, _, result = watched(lambda: op(*given))
        made.update(allocated(steps))
        kept.update(held(steps))
        return result

    def started(plan: BoundPlan) -> Operations:
        return Operations({name: partial(watch, op) for name, op in start(plan).items()})

    with patch.object(BoundPlan, "start", started):
        step = made_step()
        step()
        made.clear()
        kept.clear()
        step()
    return made, kept


def allocated(steps: list[Step]) -> list[Buffer]:
    return [buffer for sign, buffer, _ in steps if sign == "+"]


def declared(plan: BlockPlan, mesh: Any) -> Counter[Buffer]:
    """The buffers that a plan says: what moves and operations make, and the moves at the end."""
    board, types = plan.board, plan.block.types
    sizes: dict[tuple[str, str], Buffer] = {}

    def buffer(name: str, text: str) -> Buffer:
        if (name, text) not in sizes:
            steps, _, tensor = watched(lambda: empty(text, types[name], board, mesh))
            del tensor
            ((_, sizes[name, text], _),) = steps
        return sizes[name, text]

    found: Counter[Buffer] = Counter()
    for op in plan.ops:
        found.update(buffer(move.tensor, move.reshard.target) for move in op.moves)
        found.update(buffer(name, text) for name, text in zip(op.request.results, op.results, strict=True))
    found.update(buffer(move.tensor, move.reshard.target) for move in plan.exits)
    return found


def held(steps: list[Step]) -> list[Buffer]:
    """What is allocated and not freed again."""
    alive: dict[object, Buffer] = {}
    for sign, buffer, address in steps:
        if sign == "+":
            alive[buffer[0], address] = buffer
        else:
            alive.pop((buffer[0], address), None)
    return list(alive.values())


def compare(name: str, mesh: Any) -> dict[str, Any]:
    spec = spec_of_config(read_json(CONFIGS / f"{name}.json"))
    spec = replace(spec, layers=spec.layers[:1])
    plans = plan_blocks(spec, board_of(mesh), {**dict.fromkeys(precision_of(spec, "performance"), "bfloat8_b")})  # type: ignore[dict-item]
    work = Workload(mode="decode", users=USERS, context=CONTEXT)
    ids = upload(np.zeros((1, USERS), np.uint32), mesh, dtype="uint32", layout="row_major")
    positions = upload(np.zeros(USERS, np.int32), mesh, dtype="int32", layout="row_major")

    def made_step() -> Callable[[], Any]:
        model = ModelFactory.from_spec(spec, device=mesh)
        cache = model.allocate_cache(users=USERS, context=CONTEXT)
        return lambda: model.decode_forward(ids, cache=cache, positions=positions)

    each = (plans.embedding, plans.layers[spec.layers[0]], plans.head)
    return taken(made_step, [part.plan(work) for part in each], mesh)


def to_a_memory(mesh: Any) -> dict[str, Any]:
    """Of users who each attend to a memory of 1500 frames, as those of Whisper's medium model do."""
    x = upload(np.zeros((1, 1, USERS, 1024), np.float32), mesh, dtype="bfloat16")
    given = ttnn.to_memory_config(x, ttnn.L1_MEMORY_CONFIG)

    def made() -> MultiHeadCrossAttention:
        block = MultiHeadCrossAttention(hidden_dim=1024, num_heads=16, max_memory=1500, qkv_bias="qv", device=mesh)
        return block.load(RandomWeights())

    def made_step() -> Callable[[], Any]:
        block = made()
        cache = block.allocate_cache(users=USERS, context=1500)
        return lambda: block.decode_forward(given, cache=cache)

    plans: Any = made()._plans
    return taken(made_step, [plans.plan(MEMORY)], mesh)


MEMORY = Workload(mode="decode", users=USERS, context=1504)  # in whole tiles


def taken(made_step: Callable[[], Callable[[], Any]], plans: list[BlockPlan], mesh: Any) -> dict[str, Any]:
    """What a step does that its plans do not say; the buffers as lists of where, bytes and how many."""
    made, kept = of_operations(made_step)
    step = made_step()
    for _ in range(WRITTEN):
        step()
    steps, copies, result = watched(step)
    said: Counter[Buffer] = Counter()
    for plan in plans:
        said += declared(plan, mesh)
    memory = "L1" if result.memory_config().buffer_type == ttnn.BufferType.L1 else "DRAM"
    return {
        "copies": copies,
        "outside": [[*buffer, count] for buffer, count in (Counter(allocated(steps)) - made).items()],
        "undeclared": [[*buffer, count] for buffer, count in (kept - said).items()],
        "kept": sum(kept.values()),
        "left": [list(buffer) for buffer in held(steps)],
        "result": [memory, result.buffer_num_pages() * result.buffer_aligned_page_size()],
    }


def main(device: str, names: list[str]) -> None:
    with open_mesh(device, backend="mock") as mesh:
        found = {name: compare(name, mesh) for name in names}
        print(json.dumps(found | {"to a memory": to_a_memory(mesh)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or list(MODELS))
