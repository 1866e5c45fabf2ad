"""Feed-forward with a gate."""

from __future__ import annotations

from typing import Any

from ttt_core import SpecError, Tensor
from ttt_ffn.requests import PROFILES, ffn_request
from ttt_ffn.spec import ActivationType, FFNSpec, MoESpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    ModuleHardwareConfig,
    Overrides,
    Plans,
    TimedByPlans,
    Workload,
    board_of,
    default_config,
    given_or_own,
    on_mesh,
    typical,
)
from ttt_shard_dsl import TILE
from ttt_weights import LazyWeight, Source, as_source


class SwiGLU(TimedByPlans):
    """y = (silu(x · gateᵀ) ⊙ (x · upᵀ)) · downᵀ, silu(z) = z / (1 + e⁻ᶻ).

    Shapes: x [1, 1, rows, hidden_dim] → the same; gate, up [intermediate_dim, hidden_dim], down [hidden_dim,
    intermediate_dim], all stored transposed; the columns of a mesh split the intermediate dim and sum their outputs.
    `plans` of a layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for another activation, biases, no gate or experts, WeightError for a wrong shape, PlacementError if no
    config fits, or for overrides that are not legal.
    Source: arXiv 2002.05202 eq 6 (SwiGLU with beta 1); LlamaMLP of transformers.
    """

    def __init__(
        self,
        spec: FFNSpec | MoESpec,
        *,
        gate: Source | Array,
        up: Source | Array,
        down: Source | Array,
        device: Any,
        dtype: DType = "bfloat8_b",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
    ) -> None:
        if isinstance(spec, MoESpec) or not spec.gated or spec.bias:
            raise SpecError(
                f"SwiGLU is one gated feed-forward block without biases, the spec says {spec}. Use a block that computes it."
            )
        if spec.activation is not ActivationType.SILU:
            raise SpecError(
                f"SwiGLU gates with silu, the spec says {spec.activation.value}. Use the block of that activation."
            )
        self.spec = spec
        board = board_of(device)
        chips = board.mesh[1]
        precision: dict[str, DType] = dict.fromkeys(("gate_weights", "up_weights", "down_weights"), dtype)
        self._plans = given_or_own(
            plans,
            lambda work: ffn_request(spec, work, precision),
            board,
            typical=typical(),
            overrides=hw_config_overrides,
        )
        hidden, inner = spec.hidden_dim, spec.intermediate_dim

        def transposed(weight: Source | Array, role: str, rows: int, columns: int, *, split: int) -> LazyWeight:
            name = f"{role}_weight"
            return LazyWeight(
                [as_source(weight, shape=(rows, columns), name=f"the {role} weight")],
                lambda w: w.T.reshape(1, 1, columns, rows),
                shape=(1, 1, columns, rows),
                dtype=self._plans.dtypes[name],
                device=device,
                # each chip has whole tiles of the inner dim
                placement=on_mesh(self._plans.stored[name], dim=split, multiple=TILE * chips),
            )

        self.gate = transposed(gate, "gate", inner, hidden, split=3)
        self.up = transposed(up, "up", inner, hidden, split=3)
        self.down = transposed(down, "down", hidden, inner, split=2)

    @classmethod
    def get_default_hw_config(cls, device_type: str, mode: HardwareMode = "performance") -> ModuleHardwareConfig:
        """Its dtypes on a board. Errors: DeviceError for an unknown board, PlacementError for an unknown mode."""
        return default_config(PROFILES, device_type, mode)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.gate, self.up, self.down)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        rows = x.shape[-2]
        return self._forward(x, Workload(mode="prefill", tokens=rows, context=rows))

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x, Workload(mode="decode", users=x.shape[-2], context=0))

    def _forward(self, x: Tensor, work: Workload) -> Tensor:
        ops = self._plans(work)
        gate = ops["gate_matmul"](x, self.gate.tensor)  # [1, 1, rows, inner / chips]
        up = ops["up_matmul"](x, self.up.tensor)
        gated = ops["gate"](gate, up)  # silu(gate) ⊙ up
        y = ops["down_matmul"](gated, self.down.tensor)  # [1, 1, rows, D]
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed
