"""What hidden states go through before they become logits."""

from __future__ import annotations

from typing import Any, ClassVar

from ttt_core import Norm, SpecKeywords, Tensor, WeightError
from ttt_embedding._parts import Unchanged
from ttt_embedding.requests import DENSE_PROFILES, transform_request
from ttt_embedding.spec import HeadTransformSpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Overrides,
    PlannedBlock,
    Plans,
    board_of,
    chosen_precision,
    given_or_own,
    op_by_rows,
    typical,
)
from ttt_weights import LazyWeight, Loadable, NoWeight, Source, as_source, flags_apart, or_left_out

__all__ = ["HeadTransform"]


class HeadTransform(PlannedBlock, Loadable):
    """A dense layer with activation and norm, between the last layer and the head.

    y = norm(activation(x · weightᵀ + bias)); without `norm` as it is.

    Shapes: x [1, 1, rows, hidden_dim] → the same; weight [hidden_dim, hidden_dim], stored transposed, the same on every chip;
    bias [hidden_dim], None where the spec has none.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of that of `hw_mode`.
    `plans` of a model; without, its own, interleaved in DRAM in prefill and in L1 in decode.
    Errors: WeightError for a wrong shape or a bias that the spec asks for and that is not given (or the reverse); PlacementError
    if no config fits, or for overrides that are not legal.
    Source: BertPredictionHeadTransform, PhiForCausalLM's and ModernBertPredictionHead of transformers.
    """

    profiles: ClassVar = DENSE_PROFILES
    keywords: ClassVar = SpecKeywords(HeadTransformSpec)

    def __init__(
        self,
        spec: HeadTransformSpec | None = None,
        weight: Source | Array | None = None,
        *,
        bias: Source | Array | bool | None = None,
        norm: Norm | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        apart = flags_apart({"weight": weight, "bias": bias}, fields)
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        given = or_left_out(type(self).__name__, apart, optional={"bias": spec.bias})
        if (given["bias"] is not None) != spec.bias:
            found = "none was" if given["bias"] is None else "one was"
            raise WeightError(f"the spec says bias={spec.bias}, and {found} given. Give it, or change the spec.")
        self.norm: Norm = norm or Unchanged()
        precision = chosen_precision(DENSE_PROFILES, hw_mode, {"transform_weights": dtype})
        self._plans = given_or_own(
            plans,
            lambda work: transform_request(
                spec, work, precision, rows=work.users if work.mode == "decode" else work.tokens
            ),
            board_of(device),
            typical=typical(),
            overrides=hw_config_overrides,
        )
        self._prompts, self._steps = op_by_rows(self._plans, "dense")
        hidden = spec.hidden_dim
        self.weight = LazyWeight(
            [as_source(given["weight"], shape=(hidden, hidden), name="the head transform's weight")],
            lambda w: w.T.reshape(1, 1, hidden, hidden),
            shape=(1, 1, hidden, hidden),
            dtype=self._plans.dtypes["weight"],
            device=device,
            placement=self._plans.stored["weight"],
        )
        self.bias: LazyWeight | NoWeight = NoWeight()
        if given["bias"] is not None:
            self.bias = LazyWeight(
                [as_source(given["bias"], shape=(hidden,), name="the head transform's bias")],
                lambda b: b.reshape(1, 1, 1, hidden),
                shape=(1, 1, 1, hidden),
                dtype=self._plans.dtypes["bias"],
                device=device,
                placement=self._plans.stored["bias"],
            )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        """Its own; those of a norm are the norm's."""
        return (self.weight, *((self.bias,) if isinstance(self.bias, LazyWeight) else ()))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        y = self._prompts[x.shape[-2]](x, self.weight.tensor, self.bias.tensor)
        return self.norm.prefill_forward(y)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        y = self._steps[x.shape[-2]](x, self.weight.tensor, self.bias.tensor)
        return self.norm.decode_forward(y)
