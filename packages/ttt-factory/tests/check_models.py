"""A program: `ttt check` of every public config on one board; prints a JSON object of reports. One process has one cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ttt_core import PlacementError
from ttt_factory.check import check, validate
from ttt_factory.huggingface import read_json, spec_of_config
from ttt_factory.memory import Demand
from ttt_hw import board, open_mesh
from ttt_hw._kept import drop

CONFIGS = Path(__file__).with_name("configs")
PREFILL = (128, 1024, 2048)
MODELS = ("llama-3.1-70b", "llama-3.1-8b", "llama-3.2-1b", "mistral-7b-v0.1", "qwen2.5-7b", "qwen3-8b")


def main(device: str) -> None:
    reports: dict[str, Any] = {}
    with open_mesh(device, backend="mock") as mesh:
        for path in (CONFIGS / f"{name}.json" for name in MODELS):
            for batch, dtype in ((1, "bfloat8_b"), (32, "bfloat8_b"), (1, "bfloat16")):
                demand = Demand(
                    spec=spec_of_config(read_json(path)),
                    users=batch,
                    context=2048,
                    weight_dtype=dtype,  # type: ignore[arg-type]
                    cache_dtype="bfloat8_b",
                )
                try:
                    validate(demand, PREFILL, board(device))
                    report = check(demand, PREFILL, mesh).to_json()
                except PlacementError as error:
                    report = {"refused": str(error)}
                drop(mesh)  # what a model's operations keep in L1 is no other model's
                reports[f"{path.stem} {batch} {dtype}"] = report
    print(json.dumps(reports))


if __name__ == "__main__":
    main(sys.argv[1])
