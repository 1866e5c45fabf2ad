"""Positions to what is added to hidden states."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ttt_core import SpecKeywords, Tensor, WeightError
from ttt_embedding.requests import embedding_request
from ttt_embedding.spec import EmbeddingSpec, PositionSpec
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
from ttt_weights import LazyWeight, Loadable, Source, as_source, or_left_out

__all__ = ["PositionEmbedding", "sinusoidal_table"]


class PositionEmbedding(PlannedBlock, Loadable):
    """Positions to rows that are added to hidden states, learned or sinusoidal.

    y[i] = table[offset + ids[i]], where ids are positions, learned or sinusoidal as the spec says.

    Shapes: ids [1, rows] uint32, row-major → [1, 1, rows, hidden_dim]; table [offset + num_positions, hidden_dim], the spec's own
    where it is sinusoidal. Keeps ttt_core.Embedding.
    Made from a spec or its fields as keywords; without a table, for `load` to give it as `weight`.
    `plans` of the model; without, its own, with results interleaved in DRAM in prefill and in L1 in decode.
    Errors: WeightError if the table's shape is another, or for one of a sinusoidal spec; PlacementError for overrides that are
    not legal.
    """

    keywords: ClassVar = SpecKeywords(PositionSpec)

    def __init__(
        self,
        spec: PositionSpec | None = None,
        weight: Source | Array | None = None,
        *,
        device: Any,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        if spec.kind == "sinusoidal":
            if weight is not None:
                raise WeightError(
                    "sinusoidal embeddings have no weight, and one was given. Leave it out, or say learned."
                )
            weight = sinusoidal_table(spec)
        given = or_left_out(type(self).__name__, {"weight": weight})
        table = EmbeddingSpec(vocab_size=spec.num_positions, hidden_dim=spec.hidden_dim)
        chosen_precision(self.profiles, hw_mode, {})  # of no role: only an unknown mode is refused
        self._plans = given_or_own(
            plans,
            lambda work: embedding_request(table, work),
            board_of(device),
            typical=typical(),
            overrides=hw_config_overrides,
        )
        self._prompts, self._steps = op_by_rows(self._plans, "embedding")
        shape = (spec.offset + spec.num_positions, spec.hidden_dim)
        self.weight = LazyWeight(
            [as_source(given["weight"], shape=shape, name="the table of positions")],
            lambda rows: rows[spec.offset :],
            shape=(spec.num_positions, spec.hidden_dim),
            dtype=self._plans.dtypes["table"],
            device=device,
            layout="row_major",
            placement=weight_on_mesh(self._plans.stored["table"], board_of(device), hidden=1, inner=None),
        )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, ids: Tensor, /) -> Tensor:
        rows: Tensor = self._prompts[ids.shape[-1]](ids, self.weight.tensor)
        return rows

    def decode_forward(self, ids: Tensor, /) -> Tensor:
        rows: Tensor = self._steps[ids.shape[-1]](ids, self.weight.tensor)
        return rows


def sinusoidal_table(spec: PositionSpec) -> Array:
    """[offset + num_positions, hidden_dim] of sines and cosines, as PositionSpec says."""
    half = spec.hidden_dim // 2
    positions = np.arange(spec.offset + spec.num_positions, dtype=np.float64)[:, None]
    steps = np.arange(half) / (half if spec.interleaved else half - 1)
    angles = positions * 10000.0**-steps
    waves = [np.sin(angles), np.cos(angles)]
    joined = np.stack(waves, -1).reshape(len(positions), -1) if spec.interleaved else np.concatenate(waves, -1)
    table: Array = joined.astype(np.float32)
    return table
