"""A mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ttt_core import SpecError, SpecKeywords, Tensor, WeightError
from ttt_ffn import requests
from ttt_ffn._weights import FFNWeights
from ttt_ffn.requests import PROFILES, ffn_request
from ttt_ffn.spec import FFNSpec, MoESpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    ModuleHardwareConfig,
    Operations,
    Overrides,
    Plans,
    TimedByPlans,
    Workload,
    board_of,
    chosen_precision,
    default_config,
    given_or_own,
    typical,
)
from ttt_weights import LazyWeight, LeftOut, Loadable, Source, as_source, or_left_out

__all__ = ["MoE"]


class MoE(TimedByPlans, Loadable):
    """y = Σ over a row's `active` best experts e of weight_e · down_e(activation(gate_e(x)) ⊙ up_e(x)).

    The weights are the softmax of the best experts' scores x · routerᵀ.
    Shapes: x [1, 1, rows, hidden_dim] → the same; router [experts, hidden_dim]; of each expert
    gate, up [intermediate_dim, hidden_dim], down [hidden_dim, intermediate_dim]. All are stored transposed, those of experts
    stacked; the columns of a mesh split each expert's intermediate dim and sum their outputs.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of those of `hw_mode`.
    `plans` of a layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for a spec without experts, WeightError for a wrong shape or number of experts, PlacementError if no config
    fits, or for overrides that are not legal; those of ffn_request.
    Source: arXiv 2401.04088 section 2.1; MixtralSparseMoeBlock of transformers.
    """

    keywords: ClassVar = SpecKeywords[FFNSpec | MoESpec](MoESpec, inline="ffn")

    def __init__(
        self,
        spec: FFNSpec | MoESpec | None = None,
        *,
        router: Source | Array | None = None,
        gate: Sequence[Source | Array] | None = None,
        up: Sequence[Source | Array] | None = None,
        down: Sequence[Source | Array] | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        spec = self.keywords(spec, fields, block=type(self).__name__)
        if not isinstance(spec, MoESpec):
            raise SpecError(f"MoE chooses among experts, the spec says {spec}. Use a block that computes it.")
        given = or_left_out(type(self).__name__, {"router": router, "gate": gate, "up": up, "down": down})
        gate, up, down = (
            place.each(spec.experts) if isinstance(place := given[role], LeftOut) else place
            for role in ("gate", "up", "down")
        )
        if any(len(weights) != spec.experts for weights in (gate, up, down)):
            raise WeightError(
                f"gate, up and down weights of {len(gate)}, {len(up)} and {len(down)} experts were given, the spec says "
                f"{spec.experts}. Give those of each expert."
            )
        self.spec = spec
        chosen = dict.fromkeys(("gate_weights", "up_weights", "down_weights"), dtype)
        precision = chosen_precision(PROFILES, hw_mode, chosen)
        self._plans = given_or_own(
            plans,
            lambda work: ffn_request(spec, work, precision),
            board_of(device),
            typical=typical(),
            overrides=hw_config_overrides,
        )
        shape = (1, 1, spec.hidden_dim, spec.experts)
        self.router = LazyWeight(
            [as_source(given["router"], shape=(spec.experts, spec.hidden_dim), name="the router weight")],
            lambda w: w.T.reshape(shape),
            shape=shape,
            dtype=self._plans.dtypes["router_weight"],
            device=device,
            placement=self._plans.stored["router_weight"],
        )
        stored = FFNWeights(spec.ffn, device, self._plans)
        self.gate, self.up = stored.wide_experts("gate", gate), stored.wide_experts("up", up)
        self.down = stored.down_experts(down)

    @classmethod
    def get_default_hw_config(cls, device_type: str, mode: HardwareMode = "performance") -> ModuleHardwareConfig:
        """Its dtypes on a board. Errors: DeviceError for an unknown board, PlacementError for an unknown mode."""
        return default_config(PROFILES, device_type, mode)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.router, self.gate, self.up, self.down)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        rows = x.shape[-2]
        return self._forward(x, Workload(mode="prefill", tokens=rows, context=rows))

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x, Workload(mode="decode", users=x.shape[-2], context=0))

    def _forward(self, x: Tensor, work: Workload) -> Tensor:
        ops = self._plans(work)
        pieces = -(-work.rows // requests.MAX_EXPERT_ROWS)
        suffixes = [f".{index}" for index in range(pieces)] if pieces > 1 else [""]
        parts = [self._piece(ops, ops.optional(f"rows{suffix}")(x), suffix) for suffix in suffixes]
        y = ops.optional("join_rows")(*parts)
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed

    def _piece(self, ops: Operations, x: Tensor, suffix: str) -> Tensor:
        """Some rows of x through their experts; E experts, each chip a part of their inner dim."""
        scores = ops[f"router_matmul{suffix}"](x, self.router.tensor)  # [1, 1, rows, E]
        routing = ops[f"routing{suffix}"](scores)  # 0 for the experts that are not a row's best
        gate = ops[f"gate_matmul{suffix}"](x, self.gate.tensor, routing)  # [1, E, rows, inner / chips]
        up = ops[f"up_matmul{suffix}"](x, self.up.tensor, routing)
        gated = ops[f"gate{suffix}"](gate, up)
        down = ops[f"down_matmul{suffix}"](gated, self.down.tensor, routing)  # [1, E, rows, D]
        lines = ops[f"routing_by_expert{suffix}_lines"](routing)
        heads = ops[f"routing_by_expert{suffix}_heads"](lines)
        by_expert = ops[f"routing_by_expert{suffix}"](heads)  # [1, E, rows, 1]
        weighted = ops[f"weighted{suffix}"](down, by_expert)
        summed: Tensor = ops[f"sum_experts{suffix}"](weighted)
        return summed
