"""Token ids to hidden states."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_core import SpecError, Tensor
from ttt_embedding.spec import EmbeddingSpec
from ttt_hw import Array, board_of
from ttt_shard_dsl import memory_config
from ttt_weights import LazyWeight, Source, as_source


class TokenEmbedding:
    """y[i] = table[ids[i]].

    Shapes: ids [1, rows] uint32, row-major → [1, 1, rows, hidden_dim]; table [vocab_size, hidden_dim].
    Errors: SpecError for a scale, WeightError if the table's shape is another.
    """

    def __init__(self, spec: EmbeddingSpec, weight: Source | Array, *, device: Any) -> None:
        if spec.scale != 1.0:
            raise SpecError(
                f"TokenEmbedding looks rows up as they are, the spec says scale={spec.scale}. Use a block that multiplies."
            )
        self.spec = spec
        board = board_of(device)
        shape = (spec.vocab_size, spec.hidden_dim)
        self.weight = LazyWeight(
            [as_source(weight, shape=shape, name="the embedding table")],
            lambda table: table,
            shape=shape,
            dtype="bfloat16",
            device=device,
            layout="row_major",
            placement="v d in dram",
        )
        self._prefill_memory = memory_config("1 s d in dram", shape=(1, 32, spec.hidden_dim), device=board)
        self._decode_memory = memory_config("1 b d in l1", shape=(1, 32, spec.hidden_dim), device=board)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.weight,)

    def prefill_forward(self, ids: Tensor, /) -> Tensor:
        rows = ttnn.embedding(ids, self.weight.tensor, layout=ttnn.TILE_LAYOUT, memory_config=self._prefill_memory)
        hidden: Tensor = ttnn.unsqueeze_to_4D(rows)
        return hidden

    def decode_forward(self, ids: Tensor, /) -> Tensor:
        rows = ttnn.embedding(ids, self.weight.tensor, layout=ttnn.TILE_LAYOUT, memory_config=self._decode_memory)
        hidden: Tensor = ttnn.unsqueeze_to_4D(rows)
        return hidden
