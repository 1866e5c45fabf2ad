"""Does a model fit a board, and does ttnn accept every operation? Shapes only: no weight is read, no value computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ttt_attention import AttentionSpec, ContiguousKVCache, LatentAttentionSpec
from ttt_core import KVCache, SpecError, TttError
from ttt_factory.factory import ModelFactory
from ttt_factory.memory import Demand, DramUse, dram_use, placement_of_cache, remedies, tensors_of_cache
from ttt_hw import Board, OperationRecord, OutOfMemory, allocate, board_of, record_operations, translate
from ttt_patterns import DecoderModel
from ttt_shard_dsl import LayoutError

__all__ = ["CheckReport"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeCheck:
    """The operations of one forward over the model's distinct layers; `refusal` is what ended it early."""

    mode: str
    operations: list[OperationRecord]
    refusal: str | None

    @property
    def legal(self) -> bool | None:
        """None: memory ran out before all operations had been tried."""
        if self.refusal is None:
            return True
        ran_out = bool(self.operations) and not self.operations[-1].fits
        return None if ran_out else False


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """`legal`: ttnn accepted every operation; None where memory ran out before all had been tried, and none was refused.
    `fits`: DRAM and L1 suffice. Without any mode not even one layer of each kind fits.
    """

    device: str
    mesh: tuple[int, int]
    replicas: int
    """Of the model, on the rows of the mesh."""
    num_layers: int
    distinct_layers: int
    demand: Demand
    prefill: tuple[int, ...]
    modes: list[ModeCheck]
    dram: DramUse
    changes: list[str] = field(default_factory=list)

    @property
    def legal(self) -> bool | None:
        found = {mode.legal for mode in self.modes}
        if False in found:
            return False
        return True if found == {True} else None

    @property
    def fits(self) -> bool:
        loaded = bool(self.modes)
        return loaded and self.dram.fits and all(operation.fits for mode in self.modes for operation in mode.operations)

    @property
    def activations_complete(self) -> bool:
        """Whether every mode came to its end; else its activations, and the total, are more than is reported."""
        return bool(self.modes) and all(mode.refusal is None for mode in self.modes)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "device": self.device,
            "chips": self.mesh[0] * self.mesh[1],
            "tensor_parallel": self.mesh[0] * self.mesh[1] // self.replicas,
            "data_parallel": self.replicas,
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
            "activations_complete": self.activations_complete,
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
        cache = [_cache(layer.attention, demand, mesh) for layer in distinct]
    except (RuntimeError, LayoutError) as error:
        _raise_unless_memory(error)  # the sum of bytes below says by how much it does not fit
    else:
        for name, forward in _forwards(model, cache, demand, prefill):
            step(name)
            with record_operations(mesh) as recorder:
                refusal = _refusal(forward)
            modes.append(ModeCheck(mode=name, operations=recorder.operations, refusal=refusal))
            peak = max(peak, recorder.peak_dram_bytes_per_bank)
    activations = peak * board.dram_banks
    dram = dram_use(demand, board, activations=activations)
    # Half-counted activations would let a change seem enough that is not.
    helpful = not dram.fits and all(mode.refusal is None for mode in modes)
    return CheckReport(
        device=board.name,
        mesh=board.mesh,
        replicas=board.replicas,
        num_layers=len(spec.layers),
        distinct_layers=len(distinct),
        demand=demand,
        prefill=tuple(prefill),
        modes=modes,
        dram=dram,
        changes=remedies(demand, board, activations=activations, least_context=max(prefill)) if helpful else [],
    )


def _cache(attention: AttentionSpec | LatentAttentionSpec, demand: Demand, mesh: Any) -> ContiguousKVCache:
    """Without the zeros that a cache begins with: the host would have to hold as many."""
    placement = placement_of_cache(attention, demand, board_of(mesh))
    held = [allocate(mesh, dtype=demand.cache_dtype, placement=placement) for _ in range(tensors_of_cache(attention))]
    return ContiguousKVCache(held[0], held[-1])


def _raise_unless_memory(error: RuntimeError | LayoutError) -> None:
    """Let pass that one tensor is larger than the DRAM, or is one too many. Other layouts `validate` has seen."""
    if isinstance(error, LayoutError):
        return
    refusal = translate(error, where="ttt check")
    if not isinstance(refusal, OutOfMemory):
        raise refusal from error


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
