"""The plans from which a model's blocks run: one for all equal layers, one for the embedding, one for norm and logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ttt_core import Mode
from ttt_embedding.requests import embedding_request
from ttt_factory.requests import decoder_layer_request, final_request
from ttt_factory.spec import DecoderLayerSpec, ModelSpec
from ttt_hw import DRAM, BlockPlans, BlockRequest, Board, DType, Overrides, Workload, typical
from ttt_hw.joint import keeping_or_not
from ttt_hw.overrides import check_names, concerning

Requests: TypeAlias = Callable[[Workload], BlockRequest]
Typical: TypeAlias = tuple[tuple[Workload, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlans:
    """`layers` by their specs; the parts of `head` are `final_norm` and `head`."""

    embedding: BlockPlans
    layers: Mapping[DecoderLayerSpec, BlockPlans]
    head: BlockPlans


def plan_blocks(
    spec: ModelSpec, board: Board, precision: Mapping[str, DType], overrides: Overrides | None = None
) -> ModelPlans:
    """Plans for `board`, whose mesh columns split the layers. The most frequent layer decides how all hand on the hidden state.

    Errors: PlacementError where something has no legal plan, for an override that is not legal or names no operation of the
    model; those of the lists of operations.
    """
    return keeping_or_not(lambda may_keep: _plan_blocks(spec, board, precision, overrides or {}, may_keep))


def _plan_blocks(
    spec: ModelSpec, board: Board, precision: Mapping[str, DType], overrides: Overrides, may_keep: bool
) -> ModelPlans:
    run = typical(spec.max_context)
    kinds = [layer for layer, _ in Counter(spec.layers).most_common()]
    lists: dict[object, Requests] = {
        layer: lambda work, layer=layer: decoder_layer_request(layer, work, precision)  # type: ignore[misc]
        for layer in kinds
    }
    lists["embedding"] = lambda work: embedding_request(spec.embedding, work)
    lists["head"] = lambda work: final_request(
        spec, work, precision, rows=work.users if work.mode == "decode" else work.tokens
    )
    (decode, often), (prompt, users) = run
    last = Workload(mode="prefill", tokens=1, context=1)  # of a prompt one token's logits are wanted
    runs: dict[object, Typical] = {"head": ((decode, often), (last, users))}
    names = {key: _names(requests, (decode, prompt)) for key, requests in lists.items()}
    check_names(overrides, set().union(*names.values()))

    def planned(key: object, hidden: Mapping[Mode, tuple[str, str]] | None, kept: int = 0) -> BlockPlans:
        return BlockPlans(
            lists[key],
            board,
            typical=runs.get(key, run),
            overrides=concerning(overrides, names[key]),
            hidden=hidden,
            free=hidden is None,
            kept=kept,
            may_keep=may_keep,
        )

    first = planned(kinds[0], None)
    hidden = first.hidden
    layers = {kinds[0]: first, **{layer: planned(layer, hidden) for layer in kinds[1:]}}
    keeps = {name: size for plans in layers.values() for name, size in plans.keeps.items()}
    kept = sum(keeps.values())
    return ModelPlans(
        embedding=planned("embedding", hidden, kept),
        layers=layers,
        head=planned("head", {mode: (leave, DRAM) for mode, (_, leave) in hidden.items()}, kept),
    )


def _names(requests: Requests, works: tuple[Workload, ...]) -> set[str]:
    return {op.name for work in works for op in requests(work).ops}
