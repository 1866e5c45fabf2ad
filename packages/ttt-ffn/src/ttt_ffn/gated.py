"""Feed-forward with a gate."""

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

__all__ = ["GatedMLP", "GeGLU", "SwiGLU"]


class GatedMLP(PlannedBlock, Loadable):
    """The feed-forward block whose activation gates a second projection: SwiGLU, GeGLU and their kin.

    y = (activation(x · gateᵀ + gate_bias) ⊙ (x · upᵀ + up_bias)) · downᵀ + down_bias.

    Shapes: x [1, 1, rows, hidden_dim] → the same; gate, up [intermediate_dim, hidden_dim], down [hidden_dim,
    intermediate_dim], all stored transposed; biases are as long as their weights have rows, None where the spec has none. The
    columns of a mesh split the intermediate dim and sum their outputs.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of those of `hw_mode`.
    `plans` of a layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for no gate or experts, WeightError for a wrong shape or a bias that the spec asks for and that is not
    given (or the reverse), PlacementError if no config fits, or for overrides that are not legal.
    Source: arXiv 2002.05202 eq 5; LlamaMLP, Gemma2MLP of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = SpecKeywords[FFNSpec | MoESpec](FFNSpec)

    def __init__(
        self,
        spec: FFNSpec | MoESpec | None = None,
        *,
        gate: Source | Array | None = None,
        up: Source | Array | None = None,
        down: Source | Array | None = None,
        gate_bias: Source | Array | None = None,
        up_bias: Source | Array | None = None,
        down_bias: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self._checked(self.keywords(spec, fields, block=type(self).__name__))
        self._plans = ffn_plans(spec, device, dtype=dtype, hw_mode=hw_mode, plans=plans, overrides=hw_config_overrides)
        self._prompts, self._steps = ops_by_rows(self._plans)
        given = given_weights(
            self, spec, gate=gate, up=up, down=down, gate_bias=gate_bias, up_bias=up_bias, down_bias=down_bias
        )
        stored = FFNWeights(spec, device, self._plans)
        self.gate, self.up = stored.wide("gate", given["gate"]), stored.wide("up", given["up"])
        self.down = stored.down(given["down"])
        self.gate_bias = stored.wide_bias("gate", given["gate_bias"])
        self.up_bias = stored.wide_bias("up", given["up_bias"])
        self.down_bias = stored.down_bias(given["down_bias"])

    def _checked(self, spec: FFNSpec | MoESpec) -> FFNSpec:
        """The spec, if this class computes it. Errors: SpecError."""
        if isinstance(spec, MoESpec) or not spec.gated:
            raise SpecError(
                f"{type(self).__name__} is one gated feed-forward block, the spec says {spec}. Use a block that computes it."
            )
        return spec

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        biases = (self.gate_bias, self.up_bias, self.down_bias)
        return (self.gate, self.up, self.down, *(bias for bias in biases if isinstance(bias, LazyWeight)))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(self._prompts[x.shape[-2]], x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(self._steps[x.shape[-2]], x)

    @straight_line
    def _forward(self, ops: Operations, x: Tensor) -> Tensor:
        gate = ops["gate_matmul"](x, self.gate.tensor, self.gate_bias.tensor)  # [1, 1, rows, inner / chips]
        up = ops["up_matmul"](x, self.up.tensor, self.up_bias.tensor)
        gate = ops.optional("gate_sum")(gate)
        up = ops.optional("up_sum")(up)
        gated = ops["gate"](gate, up)  # activation(gate) ⊙ up
        y = ops["down_matmul"](gated, self.down.tensor, self.down_bias.tensor)  # [1, 1, rows, D]
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed


class SwiGLU(GatedMLP):
    """GatedMLP with silu(z) = z / (1 + e⁻ᶻ) and without biases.

    Errors: SpecError for another activation or biases, and those of GatedMLP.
    Source: arXiv 2002.05202 eq 6 (SwiGLU with beta 1); LlamaMLP of transformers.
    """

    def _checked(self, spec: FFNSpec | MoESpec) -> FFNSpec:
        if isinstance(spec, MoESpec) or not spec.gated or spec.bias:
            raise SpecError(
                f"SwiGLU is one gated feed-forward block without biases, the spec says {spec}. Use a block that computes it."
            )
        if spec.activation is not ActivationType.SILU:
            raise SpecError(
                f"SwiGLU gates with silu, the spec says {spec.activation.value}. Use the block of that activation."
            )
        return spec


class GeGLU(GatedMLP):
    """GatedMLP with gelu, exact or approximated by tanh, as the spec says.

    Errors: SpecError for another activation, and those of GatedMLP.
    Source: arXiv 2002.05202 eq 5; Gemma2MLP of transformers.
    """

    keywords: ClassVar = SpecKeywords[FFNSpec | MoESpec](FFNSpec, {"activation": ActivationType.GELU})

    def _checked(self, spec: FFNSpec | MoESpec) -> FFNSpec:
        if isinstance(spec, FFNSpec) and spec.activation is ActivationType.SILU:
            raise SpecError("GeGLU gates with gelu or gelu_tanh, the spec says silu. Use the block of that activation.")
        return super()._checked(spec)
