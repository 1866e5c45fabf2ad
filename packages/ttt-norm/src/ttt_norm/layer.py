"""Layer normalisation."""

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

__all__ = ["LayerNorm"]


class LayerNorm(PlannedBlock, Loadable):
    """Normalisation of rows to mean 0 and variance 1, with or without weight and bias.

    y = (x − mean(x)) / sqrt(var(x) + eps) · (offset + weight) + bias, over the last dim.

    Shapes: x [1, 1, rows, dim] → the same; weight and bias [dim], each None where the spec has none.
    Made from a spec or its fields as keywords, then with a bias unless told; without weight and bias, for `load` to give them.
    `plans` of a larger block; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: SpecError for another kind, WeightError for a wrong shape or a weight that the spec asks for and that is not given
    (or the reverse), PlacementError for overrides that are not legal.
    Source: arXiv 1607.06450 eq 4; torch.nn.LayerNorm.
    """

    keywords: ClassVar = SpecKeywords(NormSpec, {"kind": NormType.LAYER, "bias": True})

    def __init__(
        self,
        spec: NormSpec | None = None,
        weight: Source | Array | bool | None = None,
        bias: Source | Array | bool | None = None,
        *,
        device: Any,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        given = flags_apart(
            {"weight": weight, "bias": bias}, fields, implied=["weight", "bias"] if spec is None else []
        )
        spec = self.keywords(spec, fields, block=type(self).__name__)
        if spec.kind is not NormType.LAYER:
            raise SpecError(f"LayerNorm subtracts the mean, the spec says {spec}. Use the block of that kind.")
        self.spec = spec
        self._device = device
        chosen_precision(self.profiles, hw_mode, {})  # of no role: only an unknown mode is refused
        self._plans = given_or_own(
            plans,
            lambda work: norm_request(spec, work),
            board_of(device),
            typical=typical(),
            overrides=hw_config_overrides,
        )
        self._prompts, self._steps = op_by_rows(self._plans, "norm")
        wanted = {"weight": spec.weight, "bias": spec.bias}
        given = or_left_out(type(self).__name__, given, optional=wanted)
        parts = (
            self._vector("weight", given["weight"], wanted=spec.weight, offset=spec.offset),
            self._vector("bias", given["bias"], wanted=spec.bias, offset=0),
        )
        vectors: list[LazyWeight | NoWeight] = [part for part in parts if part is not None]
        self._first, self._second = [*vectors, NoWeight(), NoWeight()][:2]  # of weight and bias what there is

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return tuple(part for part in (self._first, self._second) if isinstance(part, LazyWeight))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = self._prompts[x.shape[-2]](x, self._first.tensor, self._second.tensor)
        return y

    def decode_forward(self, x: Tensor, /) -> Tensor:
        y: Tensor = self._steps[x.shape[-2]](x, self._first.tensor, self._second.tensor)
        return y

    def _vector(self, role: str, values: Source | Array | None, *, wanted: bool, offset: int) -> LazyWeight | None:
        if (values is not None) != wanted:
            raise WeightError(
                f"the spec says {role}={wanted}, and {'none was' if values is None else 'one was'} given. "
                "Give it, or change the spec."
            )
        if values is None:
            return None
        shape = (1, 1, 1, self.spec.dim)
        return LazyWeight(
            [as_source(values, shape=(self.spec.dim,), name=f"the norm's {role}")],
            lambda vector: (vector + offset).reshape(shape),
            shape=shape,
            dtype=self._plans.dtypes[role],
            device=self._device,
            placement=weight_on_mesh(self._plans.stored[role], board_of(self._device), hidden=3, inner=None),
        )
