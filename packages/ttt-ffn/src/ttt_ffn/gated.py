"""Feed-forward with a gate."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_core import SpecError, Tensor
from ttt_ffn.spec import ActivationType, FFNSpec, MoESpec
from ttt_hw import Array, DType, PlannedMatmul, board_of, plan_reshard
from ttt_shard_dsl import TILE, memory_config
from ttt_weights import LazyWeight, Source, as_source


class SwiGLU:
    """y = (silu(x · gateᵀ) ⊙ (x · upᵀ)) · downᵀ, silu(z) = z / (1 + e⁻ᶻ).

    Shapes: x [1, 1, rows, hidden_dim] → the same; gate, up [intermediate_dim, hidden_dim], down [hidden_dim,
    intermediate_dim], all stored transposed; the columns of a mesh split the intermediate dim and sum their outputs.
    Prefill keeps activations in DRAM, decode in L1.
    Errors: SpecError for another activation, biases, no gate or experts,
    WeightError for a wrong shape, PlacementError if no config fits.
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
        hidden, inner = spec.hidden_dim, spec.intermediate_dim
        split = f"n|{TILE * board.mesh[1]}@cols"  # each chip has whole tiles of the inner dim

        def transposed(weight: Source | Array, name: str, rows: int, columns: int, placement: str) -> LazyWeight:
            return LazyWeight(
                [as_source(weight, shape=(rows, columns), name=name)],
                lambda w: w.T.reshape(1, 1, columns, rows),
                shape=(1, 1, columns, rows),
                dtype=dtype,
                device=device,
                placement=placement,
            )

        self.gate = transposed(gate, "the gate weight", inner, hidden, f"1 1 d {split} in dram")
        self.up = transposed(up, "the up weight", inner, hidden, f"1 1 d {split} in dram")
        self.down = transposed(down, "the down weight", hidden, inner, f"1 1 {split} d in dram")
        width = self.gate.placement.chip_shape[-1]
        self._widen = PlannedMatmul(name="gate_up_matmul", k=hidden, n=width, weight_dtype=dtype, chip=board.chip)
        self._narrow = PlannedMatmul(name="down_matmul", k=width, n=hidden, weight_dtype=dtype, chip=board.chip)
        self._sum = plan_reshard("1 1 s d +cols -> 1 1 s d", board, shape=(1, 1, 32, hidden))
        self._prefill_memory = memory_config("1 1 s d in dram", shape=(1, 1, 32, hidden), device=board)
        self._decode_memory = memory_config("1 1 b d in l1", shape=(1, 1, 32, hidden), device=board)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.gate, self.up, self.down)

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x, self._prefill_memory)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x, self._decode_memory)

    def _forward(self, x: Tensor, memory: Any) -> Tensor:
        rows = x.shape[-2]
        widen, narrow = self._widen.for_rows(rows), self._narrow.for_rows(rows)
        kernel = self._widen.kernel
        gate = ttnn.linear(
            x, self.gate.tensor, program_config=widen, compute_kernel_config=kernel, memory_config=memory
        )
        up = ttnn.linear(x, self.up.tensor, program_config=widen, compute_kernel_config=kernel, memory_config=memory)
        gated = ttnn.mul(gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU], memory_config=memory)
        y = ttnn.linear(
            gated, self.down.tensor, program_config=narrow, compute_kernel_config=kernel, memory_config=memory
        )
        summed: Tensor = self._sum(y)
        return summed
