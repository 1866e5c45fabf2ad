"""Token ids to hidden states."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ttt_core import SpecKeywords, Tensor
from ttt_embedding.requests import embedding_request
from ttt_embedding.spec import EmbeddingSpec
from ttt_hw import Array, Overrides, Plans, TimedByPlans, Workload, board_of, given_or_own, typical
from ttt_weights import LazyWeight, Loadable, Source, as_source, or_left_out

__all__ = ["TokenEmbedding"]


class TokenEmbedding(TimedByPlans, Loadable):
    """y[i] = scale · table[ids[i]].

    Shapes: ids [1, rows] uint32, row-major → [1, 1, rows, hidden_dim]; table [vocab_size, hidden_dim].
    Made from a spec or its fields as keywords; without a table, for `load` to give it as `weight`.
    `plans` of the model; without, its own, with results interleaved in DRAM in prefill and in L1 in decode.
    Errors: WeightError if the table's shape is another, PlacementError for overrides that are not legal.
    """

    keywords: ClassVar = SpecKeywords(EmbeddingSpec)

    def __init__(
        self,
        spec: EmbeddingSpec | None = None,
        weight: Source | Array | None = None,
        *,
        device: Any,
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        given = or_left_out(type(self).__name__, {"weight": weight})
        board = board_of(device)
        self._plans = given_or_own(
            plans,
            lambda work: embedding_request(spec, work),
            board,
            typical=typical(),
            overrides=hw_config_overrides,
        )
        shape = (spec.vocab_size, spec.hidden_dim)
        self.weight = LazyWeight(
            [as_source(given["weight"], shape=shape, name="the embedding table")],
            lambda table: table if spec.scale == 1.0 else table * np.float32(spec.scale),
            shape=shape,
            dtype=self._plans.dtypes["table"],
            device=device,
            layout="row_major",
            placement=self._plans.stored["table"],
        )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, ids: Tensor, /) -> Tensor:
        rows = ids.shape[-1]
        return self._forward(ids, Workload(mode="prefill", tokens=rows, context=rows))

    def decode_forward(self, ids: Tensor, /) -> Tensor:
        return self._forward(ids, Workload(mode="decode", users=ids.shape[-1], context=0))

    def _forward(self, ids: Tensor, work: Workload) -> Tensor:
        ops = self._plans(work)
        hidden: Tensor = ops["embedding"](ids, self.weight.tensor)
        return hidden
