"""Root-mean-square normalisation."""

from __future__ import annotations

from typing import Any, ClassVar

from ttt_core import SpecError, SpecKeywords, Tensor, WeightError
from ttt_hw import (
    Array,
    HardwareMode,
    Overrides,
    PlannedBlock,
    Plans,
    board_of,
    chosen_precision,
    given_or_own,
    op_by_rows,
    typical,
    weight_on_mesh,
)
from ttt_norm.requests import norm_request
from ttt_norm.spec import NormSpec, NormType
from ttt_weights import LazyWeight, Loadable, NoWeight, Source, as_source, flags_apart, or_left_out

__all__ = ["RMSNorm"]


class RMSNorm(PlannedBlock, Loadable):
    """Normalisation of rows by their root mean square.

    y = x / sqrt(mean(x²) + eps) · (offset + weight), over the last dim.

    Shapes: x [1, 1, rows, dim] → the same; weight [dim], None where the spec has none.
    Made from a spec or its fields as keywords; without a weight, for `load` to give it.
    `plans` of a larger block; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for a bias or another kind, WeightError if the weight's shape is not [dim], or for one that the spec asks
    for and that is not given (or the reverse), PlacementError for overrides that are not legal.
    Source: arXiv 1910.07467 eq 4; LlamaRMSNorm and, with offset 1, Gemma2RMSNorm of transformers.
    """

    keywords: ClassVar = SpecKeywords(NormSpec)

    def __init__(
        self,
        spec: NormSpec | None = None,
        weight: Source | Array | bool | None = None,
        *,
        device: Any,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        given = flags_apart({"weight": weight}, fields)
        spec = self.keywords(spec, fields, block=type(self).__name__)
        if spec.kind is not NormType.RMS or spec.bias:
            raise SpecError(
                f"RMSNorm keeps the mean and adds no bias, the spec says {spec}. Use a block that computes it."
            )
        scale = or_left_out(type(self).__name__, given, optional={"weight": spec.weight})["weight"]
        if (scale is not None) != spec.weight:
            raise WeightError(
                f"the spec says weight={spec.weight}, and {'none was' if scale is None else 'one was'} given. "
                "Give it, or change the spec."
            )
        self.spec = spec
        board = board_of(device)
        chosen_precision(self.profiles, hw_mode, {})  # of no role: only an unknown mode is refused
        self._plans = given_or_own(
            plans,
            lambda work: norm_request(spec, work),
            board,
            typical=typical(),
            overrides=hw_config_overrides,
        )
        self._prompts, self._steps = op_by_rows(self._plans, "norm")
        shape = (1, 1, 1, spec.dim)
        self.weight: LazyWeight | NoWeight = NoWeight()
        if scale is not None:
            self.weight = LazyWeight(
                [as_source(scale, shape=(spec.dim,), name="the norm's weight")],
                lambda w: (w + spec.offset).reshape(shape),
                shape=shape,
                dtype=self._plans.dtypes["weight"],
                device=device,
                placement=weight_on_mesh(self._plans.stored["weight"], board, hidden=3, inner=None),
            )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,) if isinstance(self.weight, LazyWeight) else ()

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = self._prompts[x.shape[-2]](x, self.weight.tensor)
        return y

    def decode_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = self._steps[x.shape[-2]](x, self.weight.tensor)
        return y
