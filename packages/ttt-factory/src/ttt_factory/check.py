"""Does a model fit a board, and does ttnn accept every operation? Shapes only: no weight is read, no value computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ttt_core import KVCache, SpecError, TttError
from ttt_factory.factory import ModelFactory
from ttt_factory.memory import Demand, DramUse, dram_use, remedies
from ttt_hw import Board, OperationRecord, OutOfMemory, board_of, record_operations
from ttt_patterns import DecoderModel


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeCheck:
    """The operations of one forward over the model's distinct layers; `refusal` is what ttnn did not accept."""

    mode: str
    operations: list[OperationRecord]
    refusal: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """`legal`: ttnn accepted every operation. `fits`: DRAM and L1 suffice. Either may hold without the other."""

    device: str
    chips: int
    num_layers: int
    distinct_layers: int
    demand: Demand
    prefill: tuple[int, ...]
    modes: list[ModeCheck]
    dram: DramUse
    changes: list[str] = field(default_factory=list)

    @property
    def legal(self) -> bool:
        return all(
            operation.error is None or not operation.fits for mode in self.modes for operation in mode.operations
        )

    @property
    def fits(self) -> bool:
        return self.dram.fits and all(operation.fits for mode in self.modes for operation in mode.operations)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "device": self.device,
            "chips": self.chips,
            "backend": "mock",
            "values": "none",
            "layers": self.num_layers,
            "distinct_layers": self.distinct_layers,
            "batch": self.demand.users,
            "context": self.demand.context,
            "prefill": list(self.prefill),
            "weights": self.demand.weight_dtype,
            "kv": self.demand.cache_dtype,
            "legal": self.legal,
            "fits": self.fits,
            "dram_bytes_per_chip": {
                **{name: getattr(self.dram, name) for name in ("weights", "cache", "activations", "total", "capacity")},
                "missing": self.dram.missing,
            },
            "changes": self.changes,
            "modes": [asdict(mode) for mode in self.modes],
        }


def validate(demand: Demand, prefill: Sequence[int], board: Board) -> None:
    """Raise for what cannot be asked: lengths beyond the context, a context beyond the model's, heads that do not split."""
    spec = demand.spec
    if demand.context > spec.max_context:
        raise SpecError(
            f"--context {demand.context} is beyond the model's {spec.max_context} positions. Give at most {spec.max_context}."
        )
    for length in prefill:
        if not 1 <= length <= demand.context:
            raise SpecError(
                f"--prefill {length} with a context of {demand.context}; a prompt has 1 to {demand.context} tokens. "
                "Shorten it, or give a longer --context."
            )
    dram_use(replace(demand, users=1), board)  # raises where heads or dims do not split over the chips


def check(
    demand: Demand, prefill: Sequence[int], mesh: Any, *, step: Callable[[str], None] = lambda mode: None
) -> CheckReport:
    """Run each distinct layer once in every mode on an open mesh, and add up the memory of all of them."""
    board = board_of(mesh)
    spec = demand.spec
    distinct = tuple(dict.fromkeys(spec.layers))
    modes: list[ModeCheck] = []
    peak = 0
    try:
        model = ModelFactory.from_spec(
            replace(spec, layers=distinct),
            device=mesh,
            weight_dtype=demand.weight_dtype,
            cache_dtype=demand.cache_dtype,
        )
        for weight in model.weights:
            weight.tensor  # noqa: B018  (allocates)
        cache = model.allocate_cache(users=demand.users, context=demand.context)
    except OutOfMemory:
        pass  # not even one layer of each kind fits; the sum of bytes below says by how much
    else:
        for name, forward in _forwards(model, cache, demand, prefill):
            step(name)
            with record_operations(mesh) as recorder:
                refusal = _refusal(forward)
            modes.append(ModeCheck(mode=name, operations=recorder.operations, refusal=refusal))
            peak = max(peak, recorder.peak_dram_bytes_per_bank)
    activations = peak * board.dram_banks
    dram = dram_use(demand, board, activations=activations)
    return CheckReport(
        device=board.name,
        chips=board.num_chips,
        num_layers=len(spec.layers),
        distinct_layers=len(distinct),
        demand=demand,
        prefill=tuple(prefill),
        modes=modes,
        dram=dram,
        changes=[] if dram.fits else remedies(demand, board, activations=activations),
    )


def _forwards(
    model: DecoderModel, cache: Sequence[KVCache], demand: Demand, prefill: Sequence[int]
) -> list[tuple[str, Callable[[], Any]]]:
    """Decode for all users at the last position, and prefill of one user for each length."""
    ids = np.zeros(demand.users, dtype=np.int64)
    positions = np.full(demand.users, demand.context - 1)

    def decode() -> Any:
        return model.decode_forward(ids, cache=cache, positions=positions)

    def prompt(length: int) -> Callable[[], Any]:
        return lambda: model.prefill_forward(np.zeros((1, length), dtype=np.int64), cache=cache)

    return [
        (f"decode batch {demand.users}", decode),
        *((f"prefill {length}", prompt(length)) for length in prefill),
    ]


def _refusal(forward: Callable[[], Any]) -> str | None:
    try:
        forward()
    except TttError as error:
        return str(error)
    return None
