"""What a prediction costs: the estimate of a planned layer in one mode, and the plan itself.

`python packages/ttt-factory/benchmarks/predictions.py` prints both in ms for a layer and mode, for a few models and boards.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from ttt_factory._measure_fit import works_of
from ttt_factory.huggingface import read_json, spec_of_config
from ttt_factory.plan import PlanDemand, plan_model
from ttt_factory.requests import precision_of
from ttt_hw import board_as
from ttt_hw.estimate import estimate

CONFIGS = Path(__file__).parents[1] / "tests" / "configs"
CASES = (("llama-3.1-8b", "n150"), ("llama-3.1-70b", "t3k"), ("gemma-2-9b", "p150"), ("mixtral-8x7b", "t3k"))
MODES = ("decode", "prefill")
RUNS = 20


def main() -> None:
    for model, device in CASES:
        spec = spec_of_config(read_json(CONFIGS / f"{model}.json"))
        precision = precision_of(spec, "performance")
        demand = PlanDemand(spec=spec, users=1, context=1024, prompt=128, precision=precision)
        start = perf_counter()
        plan = plan_model(demand, board_as(device, None))
        parts = len(plan.sections) * len(MODES)
        planned = (perf_counter() - start) / parts
        start = perf_counter()
        for _ in range(RUNS):
            for mode in MODES:
                sum(count * estimate(work, plan.board).time_us for work, count in works_of(plan, mode).items())
        estimated = (perf_counter() - start) / RUNS / parts
        print(f"{model} on {device}: {1e3 * estimated:.2f} ms to estimate, {1e3 * planned:.0f} ms to plan")


if __name__ == "__main__":
    main()
