"""The weights of feed-forward blocks as they lie on the chips: each has whole tiles of the inner dim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ttt_core import WeightError
from ttt_ffn.spec import FFNSpec
from ttt_hw import Array, Plans, board_of, weight_on_mesh
from ttt_shard_dsl import TILE
from ttt_weights import LazyWeight, NoWeight, Source, as_source, or_left_out


def given_weights(block: object, spec: FFNSpec, **given: Source | Array | None) -> dict[str, Any]:
    """A block's weights as they were given, or a place for each that the spec has; see or_left_out."""
    biases = {role: spec.bias for role in given if role.endswith("_bias")}
    return or_left_out(type(block).__name__, given, optional=biases)


class FFNWeights:
    """Makes them from what a checkpoint has, for the places that the plans say; `prefix` begins their names there.

    A bias is divided by the chips that sum what it is added to, so that the sum has it once. Multipliers of the spec are in the
    weights and biases.
    """

    def __init__(self, spec: FFNSpec, device: Any, plans: Plans, *, prefix: str = "") -> None:
        self._spec = spec
        self._device = device
        self._plans = plans
        self._prefix = prefix
        self._board = board_of(device)
        self._chips = self._board.mesh[1]
        self._factors = {"gate": spec.gate_multiplier, "up": 1.0, "down": spec.down_multiplier}

    def wide(self, role: str, weight: Source | Array) -> LazyWeight:
        return self._transposed(role, weight, self._spec.intermediate_dim, self._spec.hidden_dim, split=3)

    def down(self, weight: Source | Array) -> LazyWeight:
        return self._transposed("down", weight, self._spec.hidden_dim, self._spec.intermediate_dim, split=2)

    def wide_bias(self, role: str, bias: Source | Array | None) -> LazyWeight | NoWeight:
        return self._bias(role, bias, self._spec.intermediate_dim, parts=self._board.hidden_chips, inner=3)

    def down_bias(self, bias: Source | Array | None) -> LazyWeight | NoWeight:
        return self._bias("down", bias, self._spec.hidden_dim, parts=self._chips, inner=None)

    def wide_experts(self, role: str, experts: Sequence[Source | Array]) -> LazyWeight:
        return self._stacked(role, experts, self._spec.intermediate_dim, self._spec.hidden_dim, split=3)

    def down_experts(self, experts: Sequence[Source | Array]) -> LazyWeight:
        return self._stacked("down", experts, self._spec.hidden_dim, self._spec.intermediate_dim, split=2)

    def wide_expert_biases(self, role: str, experts: Sequence[Source | Array] | None) -> LazyWeight | NoWeight:
        return self._stacked_biases(role, experts, self._spec.intermediate_dim, parts=1, split=True)

    def down_expert_biases(self, experts: Sequence[Source | Array] | None) -> LazyWeight | NoWeight:
        return self._stacked_biases("down", experts, self._spec.hidden_dim, parts=self._chips, split=False)

    def whole(
        self, name: str, weight: Source | Array | None, rows: int, columns: int | None = None
    ) -> LazyWeight | NoWeight:
        """A matrix [rows, columns], transposed, or a vector [rows], the same on every chip."""
        if weight is None:
            return NoWeight()
        shape = (1, 1, columns or 1, rows)
        wanted = (rows,) if columns is None else (rows, columns)
        return LazyWeight(
            [as_source(weight, shape=wanted, name=f"the {name.replace('_', ' ')}")],
            lambda w: w.T.reshape(shape),
            shape=shape,
            dtype=self._plans.dtypes[name],
            device=self._device,
            placement=self._plans.stored[name],
        )

    def _transposed(self, role: str, weight: Source | Array, rows: int, columns: int, *, split: int) -> LazyWeight:
        name, factor = f"{self._prefix}{role}_weight", self._factors[role]
        return LazyWeight(
            [as_source(weight, shape=(rows, columns), name=f"the {self._prefix.replace('_', ' ')}{role} weight")],
            lambda w: _times(w, factor).T.reshape(1, 1, columns, rows),
            shape=(1, 1, columns, rows),
            dtype=self._plans.dtypes[name],
            device=self._device,
            placement=self._placed(name, hidden=5 - split, inner=split),
        )

    def _stacked(
        self, role: str, experts: Sequence[Source | Array], rows: int, columns: int, *, split: int
    ) -> LazyWeight:
        name, factor = f"{role}_weight", self._factors[role]
        return LazyWeight(
            [
                as_source(weight, shape=(rows, columns), name=f"the {role} weight of expert {expert}")
                for expert, weight in enumerate(experts)
            ],
            lambda *weights: _times(np.stack(weights), factor).swapaxes(1, 2)[None],
            shape=(1, len(experts), columns, rows),
            dtype=self._plans.dtypes[name],
            device=self._device,
            placement=self._placed(name, hidden=5 - split, inner=split),
        )

    def _placed(self, name: str, *, hidden: int | None, inner: int | None) -> str:
        multiple = TILE * self._chips
        return weight_on_mesh(self._plans.stored[name], self._board, hidden=hidden, inner=inner, multiple=multiple)

    def _bias(
        self, role: str, bias: Source | Array | None, width: int, *, parts: int, inner: int | None
    ) -> LazyWeight | NoWeight:
        name, factor = f"{self._prefix}{role}_bias", self._factors[role] / parts
        self._check_bias(name, bias)
        if bias is None:
            return NoWeight()
        hidden = 3 if inner is None else None
        return LazyWeight(
            [as_source(bias, shape=(width,), name=f"the {self._prefix.replace('_', ' ')}{role} bias")],
            lambda b: _times(b, factor).reshape(1, 1, 1, width),
            shape=(1, 1, 1, width),
            dtype=self._plans.dtypes[name],
            device=self._device,
            placement=self._placed(name, hidden=hidden, inner=inner),
        )

    def _stacked_biases(
        self, role: str, experts: Sequence[Source | Array] | None, width: int, *, parts: int, split: bool
    ) -> LazyWeight | NoWeight:
        name, factor = f"{role}_bias", self._factors[role] / parts
        self._check_bias(name, experts)
        if experts is None:
            return NoWeight()
        count = len(experts)
        return LazyWeight(
            [
                as_source(bias, shape=(width,), name=f"the {role} bias of expert {expert}")
                for expert, bias in enumerate(experts)
            ],
            lambda *biases: np.stack([_times(b, factor) for b in biases]).reshape(1, count, 1, width),
            shape=(1, count, 1, width),
            dtype=self._plans.dtypes[name],
            device=self._device,
            placement=self._placed(name, hidden=None, inner=3 if split else None),
        )

    def _check_bias(self, name: str, bias: object) -> None:
        if (bias is not None) != self._spec.bias:
            raise WeightError(
                f"the spec says bias={self._spec.bias}, and {name} was {'not ' if bias is None else ''}given. Give all biases, "
                "or change the spec."
            )


def _times(values: Any, factor: float) -> Any:
    return values if factor == 1.0 else values * np.float32(factor)
