"""A mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ttt_core import SpecError, SpecKeywords, Tensor, WeightError
from ttt_ffn import requests
from ttt_ffn._plans import ffn_plans
from ttt_ffn._weights import FFNWeights
from ttt_ffn.requests import PROFILES
from ttt_ffn.spec import FFNSpec, MoESpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    Workload,
    decoding,
    prefilling,
    straight_line,
)
from ttt_weights import LazyWeight, LeftOut, Loadable, NoWeight, Source, flags_apart, or_left_out

__all__ = ["MoE"]


class MoE(PlannedBlock, Loadable):
    """A mixture of experts: each row goes through those that a router chooses, and through shared ones.

    y = Σ over a row's `active` best experts e of weight_e · e(x) + shared(x); each of them is as GatedMLP or MLP.

    Logits are x · routerᵀ + router_bias; which experts are best, and their weights, MoESpec says. shared(x) is there where the
    spec has it, times sigmoid(x · shared_routerᵀ) where that is gated.
    Shapes: x [1, 1, rows, hidden_dim] → the same; router [experts, hidden_dim], router_bias and selection_bias [experts]; of each
    expert gate, up [intermediate_dim, hidden_dim], down [hidden_dim, intermediate_dim], biases as long as they have rows; of the
    shared block likewise, shared_router [1, hidden_dim]. Matrices are stored transposed, those of experts stacked; the columns of
    a mesh split each inner dim and sum their outputs.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of those of `hw_mode`.
    `plans` of a layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for a spec without experts or a shared block with biases, WeightError for a wrong shape or number of
    experts, a weight that the spec asks for and that is not given (or the reverse), PlacementError if no config fits, or for
    overrides that are not legal.
    Source: arXiv 2401.04088 section 2.1; MixtralSparseMoeBlock, Qwen2MoeSparseMoeBlock, DeepseekV3MoE, GptOssMLP of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = SpecKeywords[FFNSpec | MoESpec](MoESpec, inline="ffn")

    def __init__(
        self,
        spec: FFNSpec | MoESpec | None = None,
        *,
        router: Source | Array | None = None,
        router_bias: Source | Array | bool | None = None,
        selection_bias: Source | Array | bool | None = None,
        gate: Sequence[Source | Array] | None = None,
        up: Sequence[Source | Array] | None = None,
        down: Sequence[Source | Array] | None = None,
        gate_bias: Sequence[Source | Array] | None = None,
        up_bias: Sequence[Source | Array] | None = None,
        down_bias: Sequence[Source | Array] | None = None,
        shared_gate: Source | Array | None = None,
        shared_up: Source | Array | None = None,
        shared_down: Source | Array | None = None,
        shared_router: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        apart = flags_apart(
            {
                "router": router, "router_bias": router_bias, "selection_bias": selection_bias,
                "gate": gate, "up": up, "down": down, "gate_bias": gate_bias, "up_bias": up_bias, "down_bias": down_bias,
                "shared_gate": shared_gate, "shared_up": shared_up, "shared_down": shared_down,
                "shared_router": shared_router,
            },
            fields,
        )  # fmt: skip
        spec = self.keywords(spec, fields, block=type(self).__name__)
        if not isinstance(spec, MoESpec):
            raise SpecError(f"MoE chooses among experts, the spec says {spec}. Use a block that computes it.")
        if spec.shared is not None and spec.shared.bias:
            raise SpecError(f"MoE has a shared block without biases, the spec says {spec.shared}. Leave them out.")
        self.spec = spec
        given = self._given(spec, apart)
        self._plans = ffn_plans(spec, device, dtype=dtype, hw_mode=hw_mode, plans=plans, overrides=hw_config_overrides)
        stored = FFNWeights(spec.ffn, device, self._plans)
        self.router = stored.whole("router_weight", given["router"], spec.experts, spec.hidden_dim)
        self.router_bias = stored.whole("router_bias", given["router_bias"], spec.experts)
        self.selection_bias = stored.whole("selection_bias", given["selection_bias"], spec.experts)
        self._group_table = stored.whole("group_table", _group_table(spec), spec.experts, spec.groups)
        self._choice = [
            each for each in (self.selection_bias, self._group_table) if isinstance(each, LazyWeight)
        ]  # what the choice reads besides logits
        self.gate: LazyWeight | NoWeight = NoWeight()
        self.gate_bias: LazyWeight | NoWeight = NoWeight()
        if spec.ffn.gated:
            self.gate = stored.wide_experts("gate", given["gate"])
            self.gate_bias = stored.wide_expert_biases("gate", given["gate_bias"])
        self.up, self.down = stored.wide_experts("up", given["up"]), stored.down_experts(given["down"])
        self.up_bias = stored.wide_expert_biases("up", given["up_bias"])
        self.down_bias = stored.down_expert_biases(given["down_bias"])
        self.shared_gate: LazyWeight | NoWeight = NoWeight()
        self.shared_up: LazyWeight | NoWeight = NoWeight()
        self.shared_down: LazyWeight | NoWeight = NoWeight()
        self.shared_router = stored.whole("shared_router_weight", given["shared_router"], 1, spec.hidden_dim)
        self._add_shared = self._without_shared
        if spec.shared is not None:
            shared = FFNWeights(spec.shared, device, self._plans, prefix="shared_")
            self.shared_up, self.shared_down = shared.wide("up", given["shared_up"]), shared.down(given["shared_down"])
            self._add_shared = self._plain_shared
            if spec.shared.gated:
                self.shared_gate = shared.wide("gate", given["shared_gate"])
                self._add_shared = self._gated_shared
        self._inner = self._gated if spec.ffn.gated else self._plain
        self._weighted = self._weighted_inputs if spec.weigh_input else self._weighted_results

    @staticmethod
    def _given(spec: MoESpec, apart: Mapping[str, Any]) -> dict[str, Any]:
        """The weights by name, with a place for each that was left out; those of experts as lists."""
        shared, biases = spec.shared is not None, spec.ffn.bias
        has = {
            "router_bias": spec.router_bias,
            "selection_bias": spec.selection_bias,
            "gate": spec.ffn.gated,
            "gate_bias": biases and spec.ffn.gated,
            "up_bias": biases,
            "down_bias": biases,
            "shared_gate": spec.shared is not None and spec.shared.gated,
            "shared_up": shared,
            "shared_down": shared,
            "shared_router": spec.gate_shared,
        }
        given = or_left_out("MoE", apart, optional=has)
        for role in ("gate", "up", "down", "gate_bias", "up_bias", "down_bias"):
            if isinstance(place := given[role], LeftOut):
                given[role] = place.each(spec.experts)
        if wrong := [role for role, wanted in has.items() if (given[role] is not None) != wanted]:
            said = "not given" if given[wrong[0]] is None else "given"
            raise WeightError(
                f"the spec has {'' if has[wrong[0]] else 'no '}{wrong[0]}, and it was {said}. Give what the spec has, or change "
                "it."
            )
        stacked = {role: given[role] for role in ("gate", "up", "down") if given[role] is not None}
        if any(len(weights) != spec.experts for weights in stacked.values()):
            counts = " and ".join(", ".join(str(len(weights)) for weights in stacked.values()).rsplit(", ", 1))
            names = " and ".join(", ".join(stacked).rsplit(", ", 1))
            raise WeightError(
                f"{names} weights of {counts} experts were given, the spec says {spec.experts}. Give those of each expert."
            )
        return given

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        every = (
            self.router, self.router_bias, *self._choice, self.gate, self.up, self.down, self.gate_bias, self.up_bias,
            self.down_bias, self.shared_gate, self.shared_up, self.shared_down, self.shared_router,
        )  # fmt: skip
        return tuple(weight for weight in every if isinstance(weight, LazyWeight))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        work = prefilling(x.shape[-2])
        return self._forward(self._plans(work), work, x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        work = decoding(x.shape[-2])
        return self._forward(self._plans(work), work, x)

    @straight_line
    def _forward(self, ops: Operations, work: Workload, x: Tensor) -> Tensor:
        pieces = -(-work.rows // requests.MAX_EXPERT_ROWS)
        suffixes = [f".{index}" for index in range(pieces)] if pieces > 1 else [""]
        parts = [self._piece(ops, ops.optional(f"rows{suffix}")(x), suffix) for suffix in suffixes]
        y = self._add_shared(ops, x, ops.optional("join_rows")(*parts))
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed

    def _piece(self, ops: Operations, x: Tensor, suffix: str) -> Tensor:
        """Some rows of x through their experts; E experts, each chip a part of their inner dim."""
        logits = ops[f"router_matmul{suffix}"](x, self.router.tensor, self.router_bias.tensor)  # [1, 1, rows, E]
        choice = (weight.tensor for weight in self._choice)
        routing = ops[f"routing{suffix}"](logits, *choice)  # 0 for the experts that are not a row's best
        down = self._weighted(ops, x, routing, suffix)  # [1, E, rows, D]
        summed: Tensor = ops[f"sum_experts{suffix}"](down)
        return summed

    def _weighted_results(self, ops: Operations, x: Tensor, routing: Tensor, suffix: str) -> Tensor:
        down = self._down(ops, self._inner(ops, x, routing, None, suffix), routing, suffix)
        weighted: Tensor = ops[f"weighted{suffix}"](down, _by_expert(ops, routing, suffix))
        return weighted

    def _weighted_inputs(self, ops: Operations, x: Tensor, routing: Tensor, suffix: str) -> Tensor:
        inner = self._inner(ops, x, routing, _by_expert(ops, routing, suffix), suffix)
        return self._down(ops, inner, routing, suffix)

    def _down(self, ops: Operations, inner: Tensor, routing: Tensor, suffix: str) -> Tensor:
        down = ops[f"down_matmul{suffix}"](inner, self.down.tensor, routing)
        biased: Tensor = ops.optional(f"down_biased{suffix}")(down, self.down_bias.tensor)
        return biased

    def _gated(self, ops: Operations, x: Tensor, routing: Tensor, by_expert: Tensor | None, suffix: str) -> Tensor:
        gate = ops[f"gate_matmul{suffix}"](x, self.gate.tensor, routing)
        gate = ops.optional(f"gate_biased{suffix}")(gate, self.gate_bias.tensor)
        gate = ops.optional(f"gate_weighted{suffix}")(gate, by_expert)
        up = ops[f"up_matmul{suffix}"](x, self.up.tensor, routing)
        up = ops.optional(f"up_biased{suffix}")(up, self.up_bias.tensor)
        up = ops.optional(f"up_weighted{suffix}")(up, by_expert)
        gated: Tensor = ops[f"gate{suffix}"](gate, up)
        return gated

    def _plain(self, ops: Operations, x: Tensor, routing: Tensor, by_expert: Tensor | None, suffix: str) -> Tensor:
        up = ops[f"up_matmul{suffix}"](x, self.up.tensor, routing)
        up = ops.optional(f"up_biased{suffix}")(up, self.up_bias.tensor)
        up = ops.optional(f"up_weighted{suffix}")(up, by_expert)
        activated: Tensor = ops[f"activated{suffix}"](up)
        return activated

    def _gated_shared(self, ops: Operations, x: Tensor, y: Tensor) -> Tensor:
        gate = ops["shared_gate_matmul"](x, self.shared_gate.tensor)
        up = ops["shared_up_matmul"](x, self.shared_up.tensor)
        return self._with_shared(ops, x, y, ops["shared_gate"](gate, up))

    def _plain_shared(self, ops: Operations, x: Tensor, y: Tensor) -> Tensor:
        up = ops["shared_up_matmul"](x, self.shared_up.tensor)
        return self._with_shared(ops, x, y, ops.optional("shared_activated")(up))

    def _with_shared(self, ops: Operations, x: Tensor, y: Tensor, inner: Tensor) -> Tensor:
        shared = ops["shared_down_matmul"](inner, self.shared_down.tensor)
        logit = ops.optional("shared_router_matmul")(x, self.shared_router.tensor)
        share = ops.optional("shared_share")(logit)
        shared = ops.optional("shared_weighted")(shared, share)
        both: Tensor = ops["with_shared"](y, shared)
        return both

    def _without_shared(self, ops: Operations, x: Tensor, y: Tensor) -> Tensor:
        return y


def _by_expert(ops: Operations, routing: Tensor, suffix: str) -> Tensor:
    """[1, 1, rows, E] → [1, E, rows, 1]."""
    lines = ops[f"routing_by_expert{suffix}_lines"](routing)
    heads = ops[f"routing_by_expert{suffix}_heads"](lines)
    by_expert: Tensor = ops[f"routing_by_expert{suffix}"](heads)
    return by_expert


def _group_table(spec: MoESpec) -> Array | None:
    """[experts, groups], 1 where the expert is of the group; None for one group."""
    if spec.groups == 1:
        return None
    return np.repeat(np.eye(spec.groups, dtype=np.float32), spec.experts // spec.groups, axis=0)
