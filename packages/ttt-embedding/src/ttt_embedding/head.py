"""Hidden states to logits."""

from __future__ import annotations

from typing import Any

from ttt_core import Tensor, WeightError
from ttt_embedding.requests import PROFILES, head_request
from ttt_embedding.spec import HeadSpec
from ttt_hw import (
    DRAM,
    L1,
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
from ttt_weights import LazyWeight, NoWeight, Source, as_source


class LMHead(TimedByPlans):
    """logits = x · weightᵀ + bias, with a soft-cap c then c · tanh(logits / c).

    The vocabulary is split over the columns of a mesh and joined again.

    Shapes: x [1, 1, rows, hidden_dim] → [1, 1, rows, vocab_size]; weight [vocab_size, hidden_dim], stored transposed,
    bias [vocab_size], None where the spec has none.
    `plans` of the model; without, its own, with x interleaved in DRAM in prefill and in L1 in decode, and logits in DRAM.
    Errors: WeightError for a wrong shape or a bias that the spec asks for and that is not given (or the reverse); PlacementError
    if no config fits the device, or for overrides that are not legal.
    """

    def __init__(
        self,
        spec: HeadSpec,
        weight: Source | Array,
        *,
        bias: Source | Array | None = None,
        device: Any,
        dtype: DType = "bfloat8_b",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
    ) -> None:
        if (bias is not None) != spec.bias:
            raise WeightError(
                f"the spec says bias={spec.bias}, and {'none was' if bias is None else 'one was'} given. Give it, or change the "
                "spec."
            )
        self.spec = spec
        board = board_of(device)
        chips = board.mesh[1]
        precision: dict[str, DType] = {"head_weights": dtype}
        (decode, often), _ = typical()
        last = Workload(mode="prefill", tokens=1, context=1)  # of a prompt one token's logits are wanted
        self._plans = given_or_own(
            plans,
            lambda work: head_request(spec, work, precision, rows=work.users if work.mode == "decode" else work.tokens),
            board,
            typical=((decode, often), (last, float(decode.users))),
            overrides=hw_config_overrides,
            hidden={"decode": (L1, DRAM), "prefill": (DRAM, DRAM)},
        )
        shape = (1, 1, spec.hidden_dim, spec.vocab_size)
        self.weight = LazyWeight(
            [as_source(weight, shape=(spec.vocab_size, spec.hidden_dim), name="the head's weight")],
            lambda w: w.T.reshape(shape),
            shape=shape,
            dtype=self._plans.dtypes["weight"],
            device=device,
            placement=on_mesh(self._plans.stored["weight"], dim=3, multiple=TILE * chips),
        )
        self.bias: LazyWeight | NoWeight = NoWeight()
        if bias is not None:
            self.bias = LazyWeight(
                [as_source(bias, shape=(spec.vocab_size,), name="the head's bias")],
                lambda b: b.reshape(1, 1, 1, -1),
                shape=(1, 1, 1, spec.vocab_size),
                dtype=self._plans.dtypes["bias"],
                device=device,
                placement=on_mesh(self._plans.stored["bias"], dim=3, multiple=TILE * chips),
            )

    @classmethod
    def get_default_hw_config(cls, device_type: str, mode: HardwareMode = "performance") -> ModuleHardwareConfig:
        """Its dtypes on a board. Errors: DeviceError for an unknown board, PlacementError for an unknown mode."""
        return default_config(PROFILES, device_type, mode)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return tuple(weight for weight in (self.weight, self.bias) if isinstance(weight, LazyWeight))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        rows = x.shape[-2]
        return self._forward(x, Workload(mode="prefill", tokens=rows, context=rows))

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return self._forward(x, Workload(mode="decode", users=x.shape[-2], context=0))

    def _forward(self, x: Tensor, work: Workload) -> Tensor:
        ops = self._plans(work)
        logits = ops["lm_head"](x, self.weight.tensor, self.bias.tensor)  # [1, 1, rows, V padded / chips]
        logits = ops.optional("tanh")(logits)
        logits = ops.optional("capped_logits")(logits)
        logits = ops.optional("all_gather")(logits)
        cropped: Tensor = ops.optional("crop")(logits)  # without what pads the vocabulary to whole tiles on every chip
        return cropped
