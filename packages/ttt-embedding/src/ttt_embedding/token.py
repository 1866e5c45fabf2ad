"""Token ids to hidden states."""

from __future__ import annotations

from typing import Any, ClassVar

from ttt_core import Norm, SpecKeywords, Tensor, WeightError
from ttt_embedding._parts import Unchanged, times
from ttt_embedding.requests import DENSE_PROFILES, embedding_request
from ttt_embedding.spec import EmbeddingSpec
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    board_of,
    chosen_precision,
    given_or_own,
    ops_by_rows,
    straight_line,
    typical,
    weight_on_mesh,
)
from ttt_weights import LazyWeight, Loadable, NoWeight, Source, as_source, or_left_out

__all__ = ["TokenEmbedding"]


class TokenEmbedding(PlannedBlock, Loadable):
    """Token ids to hidden states: rows of a table.

    y[i] = norm(scale · table[ids[i]] · projectionᵀ), without projection or norm where there is none.

    Shapes: ids [1, rows] uint32, row-major → [1, 1, rows, hidden_dim]; table [vocab_size, hidden_dim], or with the spec's
    embedding_dim [vocab_size, embedding_dim], and projection [hidden_dim, embedding_dim]. With `split` each chip of a row of the
    mesh has a part of the table's columns, and their results are joined.
    Made from a spec or its fields as keywords; without a table, for `load` to give it as `weight`. `norm` keeps ttt_core.Norm.
    `plans` of the model; without, its own, with results interleaved in DRAM in prefill and in L1 in decode.
    Errors: WeightError if a shape is another, or for a projection that the spec asks for and that is not given (or the reverse);
    ShapeError for a table that does not split into whole tiles, PlacementError for overrides that are not legal.
    """

    profiles: ClassVar = DENSE_PROFILES
    keywords: ClassVar = SpecKeywords(EmbeddingSpec)

    def __init__(
        self,
        spec: EmbeddingSpec | None = None,
        weight: Source | Array | None = None,
        *,
        projection: Source | Array | None = None,
        norm: Norm | None = None,
        split: bool = False,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        projects = spec.embedding_dim is not None
        given = or_left_out(
            type(self).__name__, {"weight": weight, "projection": projection}, optional={"projection": projects}
        )
        if (given["projection"] is not None) != projects:
            found = "none was" if given["projection"] is None else "one was"
            raise WeightError(
                f"the spec says embedding_dim={spec.embedding_dim}, and a projection: {found} given. Give it where the rows "
                "of the table are not as long as hidden_dim, and only there."
            )
        self.norm: Norm = norm or Unchanged()
        board = board_of(device)
        precision = chosen_precision(DENSE_PROFILES, hw_mode, {"projection_weights": dtype})
        self._plans = given_or_own(
            plans,
            lambda work: embedding_request(spec, work, precision, split=split),
            board,
            typical=typical(),
            overrides=hw_config_overrides,
        )
        self._prompts, self._steps = ops_by_rows(self._plans)
        shape, placement = (spec.vocab_size, spec.table_dim), self._plans.stored["table"]
        self.weight = LazyWeight(
            [as_source(given["weight"], shape=shape, name="the embedding table")],
            lambda table: times(table, spec.scale),
            shape=shape,
            dtype=self._plans.dtypes["table"],
            device=device,
            layout="row_major",
            placement=weight_on_mesh(placement, board, hidden=1, inner=1 if split else None),
        )
        self.projection: LazyWeight | NoWeight = NoWeight()
        if spec.embedding_dim is not None:
            wide = (1, 1, spec.embedding_dim, spec.hidden_dim)
            self.projection = LazyWeight(
                [as_source(given["projection"], shape=wide[:1:-1], name="the embedding's projection")],
                lambda w: w.T.reshape(wide),
                shape=wide,
                dtype=self._plans.dtypes["projection_weight"],
                device=device,
                placement=self._plans.stored["projection_weight"],
            )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        """Its own; those of a norm are the norm's."""
        return (self.weight, *((self.projection,) if isinstance(self.projection, LazyWeight) else ()))

    def prefill_forward(self, ids: Tensor, /) -> Tensor:
        return self.norm.prefill_forward(self._forward(self._prompts[ids.shape[-1]], ids))

    def decode_forward(self, ids: Tensor, /) -> Tensor:
        return self.norm.decode_forward(self._forward(self._steps[ids.shape[-1]], ids))

    @straight_line
    def _forward(self, ops: Operations, ids: Tensor) -> Tensor:
        rows = ops["embedding"](ids, self.weight.tensor)
        rows = ops.optional("all_gather")(rows)
        hidden: Tensor = ops.optional("projection")(rows, self.projection.tensor)  # [1, 1, rows, D]
        return hidden
