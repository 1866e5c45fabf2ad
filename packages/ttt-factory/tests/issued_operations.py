"""A program: the operations that the forwards of public models issue on a board, as JSON. One process has one cluster.

Names and input types only; without what moves no data between operations' shapes (views) or only from one memory to another.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ttt_factory import ModelFactory, ModelSpec, spec_of_config
from ttt_factory.huggingface import read_json
from ttt_hw import open_mesh, record_operations
from ttt_hw.requests import Workload

CONFIGS = Path(__file__).with_name("configs")
MODELS = ("llama-3.2-1b", "mistral-7b-v0.1", "qwen2.5-72b", "qwen3-8b", "phi-3-mini-4k")
WORKS = {
    "decode 1": Workload(mode="decode", users=1, context=256),
    "decode 8": Workload(mode="decode", users=8, context=256),
    "prefill 70": Workload(mode="prefill", users=2, tokens=70, context=256),
    "prefill 256": Workload(mode="prefill", users=1, tokens=256, context=256),
}
VIEWS = {"unsqueeze_to_4D", "reshape"}
SAME = {"experimental.minimal_matmul": "linear"}  # which of them multiplies is the planner's choice
RESHARDS = {"interleaved_to_sharded", "sharded_to_interleaved", "to_memory_config"}

Issued = list[tuple[str, list[str]]]


def one_layer(name: str) -> ModelSpec:
    spec = spec_of_config(read_json(CONFIGS / f"{name}.json"))
    return replace(spec, layers=spec.layers[:1])


def issued(name: str, mesh: Any) -> dict[str, Issued]:
    model = ModelFactory.from_spec(one_layer(name), device=mesh)
    for weight in model.weights:
        weight.tensor  # noqa: B018  (allocates, which is no operation of a forward)
    found = {}
    for title, work in WORKS.items():
        cache = model.allocate_cache(users=work.users, context=work.context)
        with record_operations(mesh) as recorder:
            if work.mode == "decode":
                positions = np.full(work.users, work.context - 1)
                model.decode_forward(np.zeros(work.users, dtype=np.int64), cache=cache, positions=positions)
            else:
                model.prefill_forward(np.zeros((1, work.tokens), dtype=np.int64), cache=cache)
        found[title] = [
            (SAME.get(record.name, record.name), list(record.inputs))
            for record in recorder.operations
            if record.name not in VIEWS | RESHARDS
        ]
    return found


def main(device: str) -> None:
    with open_mesh(device, backend="mock") as mesh:
        print(json.dumps({name: issued(name, mesh) for name in MODELS}))


if __name__ == "__main__":
    main(sys.argv[1])
