"""Times of a model on a card: each operation of its plan, and whole forwards, in the form that `ttt calibrate` reads.

Every operation runs where the plan has it, on tensors in the planned layouts, beside the tensors that are alive then. A time
is the median of several runs after some that are not counted; a run issues an operation `REPEATS` times and waits for the
device, so that the host's way there and back counts once in that many. Nothing is traced: an operation that is shorter than
the host takes to issue it has the host's time. Indices and positions are the last of the context, all other values zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from statistics import median
from time import perf_counter
from typing import Any

from ttt_core import DeviceError
from ttt_factory.plan import ModelPlan
from ttt_hw import BlockPlan, Board, PlannedMove, PlannedOp, current_backend, placed
from ttt_hw.requests import TensorType
from ttt_hw.verify import empty

RUNS, WARM_UP, REPEATS = 10, 3, 20
SCHEMA = 1


def measure(plan: ModelPlan, name: str, config: Mapping[str, Any], mesh: Any, *, runs: int = RUNS) -> dict[str, Any]:
    """A document of measurements of a plan on an open mesh of its board; `name` is what rows call the model.

    Errors: DeviceError on a mock or a simulator, whose times say nothing of a card.
    """
    if (backend := current_backend(mesh)) != "silicon":
        raise DeviceError(
            f"Times on a {backend} say nothing of a card: no kernel runs there as fast as on one. Measure on a machine with "
            "a card; `ttt plan` estimates without one."
        )
    return document(plan, name, config, mesh, runs=runs)


def document(plan: ModelPlan, name: str, config: Mapping[str, Any], mesh: Any, *, runs: int = RUNS) -> dict[str, Any]:
    """As `measure`, whatever the device."""
    demand, ops = plan.demand, []
    forward = {"decode": 0.0, "prefill": 0.0}
    place = {"device": plan.board.name, "mesh": f"{plan.board.mesh[0]}x{plan.board.mesh[1]}"}
    for section, mode, block in plan.blocks():
        with_tensors = Issued(block, mesh, last=demand.context - 1)
        for op, us in with_tensors.each(runs):
            work = op.pattern.work(op.request, plan.board, op.reads)
            ops.append(
                {
                    "id": f"{name} {mode} {section.name} {op.request.name}",
                    "op": "work",
                    **place,
                    "name": op.request.name,
                    "config": str(op.pattern),
                    "work": asdict(work),
                    "us": us,
                    "source": "ttt measure",
                }
            )
        forward[mode] += section.count * with_tensors.whole(runs)
    return {
        "schema": SCHEMA,
        "configs": {name: dict(config)},
        "ops": ops,
        "models": [
            {
                "id": f"{name} {place['device']} {place['mesh']} b{demand.users} s{demand.prompt}",
                "model": name,
                **place,
                "mode": demand.mode,
                "users": demand.users,
                "prompt": demand.prompt,
                "context": demand.context,
                "forward": True,
                "tokens_per_second_per_user": 1e6 / forward["decode"],
                "ttft_ms": forward["prefill"] / 1e3,
                "source": "ttt measure",
            }
        ],
    }


class Issued:
    """A block's operations on a device, with what it stores and what enters it in the planned places."""

    def __init__(self, plan: BlockPlan, mesh: Any, *, last: int) -> None:
        self._plan = plan
        self._mesh = mesh
        self._given: dict[tuple[str, str], Any] = {
            (name, text): filled(text, plan.block.types[name], plan.board, mesh, last)
            for name, text in (*plan.inputs.items(), *plan.stored.items())
        }

    def each(self, runs: int) -> Iterator[tuple[PlannedOp, float]]:
        """Each operation with its time in µs, after its moves and beside what is alive."""
        alive = dict(self._given)
        for op in self._plan.ops:
            self._moves(op.moves, alive)
            tensors = [alive[name, text] for name, text in zip(op.request.inputs, op.reads, strict=True)]

            def issue(op: PlannedOp = op, tensors: list[Any] = tensors) -> Any:
                return op.pattern.issue(op.request, self._plan.board, tensors)

            yield op, median_us(issue, self._mesh, runs, repeats=REPEATS)
            self._keep(op, issue(), alive)

    def whole(self, runs: int) -> float:
        """The time of the whole block in µs."""

        def run() -> None:
            alive = dict(self._given)
            for op in self._plan.ops:
                self._moves(op.moves, alive)
                tensors = [alive[name, text] for name, text in zip(op.request.inputs, op.reads, strict=True)]
                self._keep(op, op.pattern.issue(op.request, self._plan.board, tensors), alive)
            self._moves(self._plan.exits, alive)

        return median_us(run, self._mesh, runs)

    def _moves(self, moves: tuple[PlannedMove, ...], alive: dict[tuple[str, str], Any]) -> None:
        for move in moves:
            type_ = self._plan.block.types[move.tensor]
            source = (move.tensor, move.reshard.source)
            alive[move.tensor, move.reshard.target] = move.reshard.issue(type_, self._plan.board, alive[source])
            if move.replaces:
                del alive[source]

    def _keep(self, op: PlannedOp, made: Any, alive: dict[tuple[str, str], Any]) -> None:
        names = list(op.request.results)
        outputs = list(made) if len(names) > 1 else [made] * len(names)
        for name, text, tensor in zip(names, op.results, outputs, strict=True):
            alive[name, text] = tensor
        for key in op.frees:
            del alive[key]


def median_us(run: Callable[[], Any], mesh: Any, runs: int, *, repeats: int = 1) -> float:
    """The median time of one of `repeats` calls in a row, the device waited for, after runs that are not counted."""
    import ttnn

    times = []
    for number in range(WARM_UP + runs):
        ttnn.synchronize_device(mesh)
        start = perf_counter()
        for _ in range(repeats):
            run()
        ttnn.synchronize_device(mesh)
        if number >= WARM_UP:
            times.append((perf_counter() - start) * 1e6 / repeats)
    return median(times)


def filled(text: str, type_: TensorType, board: Board, mesh: Any, last: int) -> Any:
    """Integers are `last`, which every table and cache of the context has; other values zero where ttnn can fill so."""
    import ttnn

    if "int" not in type_.dtype and "@" in text:
        return empty(text, type_, board, mesh)
    return ttnn.full(
        list(type_.shape),
        last if "int" in type_.dtype else 0,
        getattr(ttnn, type_.dtype),
        ttnn.TILE_LAYOUT if type_.tiled else ttnn.ROW_MAJOR_LAYOUT,
        device=mesh,
        memory_config=placed(text, type_, board).to_memory_config(),
    )
