"""Feed-forward without a gate."""

from __future__ import annotations

from typing import Any, ClassVar

from ttt_core import SpecError, SpecKeywords, Tensor
from ttt_ffn._plans import ffn_plans
from ttt_ffn._weights import FFNWeights, given_weights
from ttt_ffn.requests import PROFILES
from ttt_ffn.spec import ActivationType, FFNSpec, MoESpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    ops_by_rows,
    straight_line,
)
from ttt_weights import LazyWeight, Loadable, Source

__all__ = ["MLP"]


class MLP(PlannedBlock, Loadable):
    """The feed-forward block without a gate: two matrices with an activation between.

    y = activation(x · upᵀ + up_bias) · downᵀ + down_bias.

    Shapes: x [1, 1, rows, hidden_dim] → the same; up [intermediate_dim, hidden_dim], down [hidden_dim, intermediate_dim], stored
    transposed; up_bias [intermediate_dim], down_bias [hidden_dim], None where the spec has none. The columns of a mesh split the
    intermediate dim and sum their outputs.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of those of `hw_mode`.
    `plans` of a layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for a gate or experts, WeightError for a wrong shape or a bias that the spec asks for and that is not given
    (or the reverse), PlacementError if no config fits, or for overrides that are not legal.
    Source: arXiv 1706.03762 eq 2; GPTJMLP, GPTNeoXMLP of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = SpecKeywords[FFNSpec | MoESpec](FFNSpec, {"gated": False, "activation": ActivationType.GELU})

    def __init__(
        self,
        spec: FFNSpec | MoESpec | None = None,
        *,
        up: Source | Array | None = None,
        down: Source | Array | None = None,
        up_bias: Source | Array | None = None,
        down_bias: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        spec = self.keywords(spec, fields, block=type(self).__name__)
        if isinstance(spec, MoESpec) or spec.gated:
            raise SpecError(
                f"MLP is one feed-forward block without a gate, the spec says {spec}. Use a block that computes it."
            )
        self.spec = spec
        self._plans = ffn_plans(spec, device, dtype=dtype, hw_mode=hw_mode, plans=plans, overrides=hw_config_overrides)
        self._prompts, self._steps = ops_by_rows(self._plans)
        given = given_weights(self, spec, up=up, down=down, up_bias=up_bias, down_bias=down_bias)
        stored = FFNWeights(spec, device, self._plans)
        self.up, self.down = stored.wide("up", given["up"]), stored.down(given["down"])
        self.up_bias, self.down_bias = stored.wide_bias("up", given["up_bias"]), stored.down_bias(given["down_bias"])

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (
            self.up,
            self.down,
            *(bias for bias in (self.up_bias, self.down_bias) if isinstance(bias, LazyWeight)),
        )

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(self._prompts[x.shape[-2]], x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(self._steps[x.shape[-2]], x)

    @straight_line
    def _forward(self, ops: Operations, x: Tensor) -> Tensor:
        up = ops["up_matmul"](
            x, self.up.tensor, self.up_bias.tensor
        )  # [1, 1, rows, inner / chips], activated if it can
        up = ops.optional("up_sum")(up)
        up = ops.optional("activated")(up)
        y = ops["down_matmul"](up, self.down.tensor, self.down_bias.tensor)  # [1, 1, rows, D]
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed
