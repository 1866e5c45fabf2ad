"""The operations of embeddings and heads, as data for a planner. Shapes of one chip."""

from __future__ import annotations

from collections.abc import Mapping

from ttt_embedding.spec import EmbeddingSpec, HeadSpec
from ttt_hw import DType
from ttt_hw.requests import (
    BlockRequest,
    CollectiveRequest,
    EmbeddingRequest,
    LMHeadRequest,
    MoveRequest,
    OpRequest,
    Stored,
    TensorType,
    UnaryRequest,
    Workload,
)
from ttt_shard_dsl import TILE

PROFILES: dict[str, dict[str, DType]] = {
    "performance": {"head_weights": "bfloat8_b"},
    "balanced": {"head_weights": "bfloat8_b"},
    "accuracy": {"head_weights": "bfloat8_b"},
}
"""Dtypes by role, for each hardware mode. The table of an embedding is bfloat16, as its operation wants it."""


def embedding_request(spec: EmbeddingSpec, work: Workload) -> BlockRequest:
    """ids [1, rows] → [1, 1, rows, hidden_dim]; the table is whole on every chip, and stored multiplied by the scale."""
    rows = work.rows
    table = TensorType(shape=(spec.vocab_size, spec.hidden_dim), tiled=False)
    return BlockRequest(
        mode=work.mode,
        inputs=(("ids", TensorType(shape=(1, rows), dtype="uint32", tiled=False)),),
        stored=(Stored(name="table", type=table),),
        ops=(EmbeddingRequest(name="embedding", rows=rows, dim=spec.hidden_dim, count=spec.vocab_size),),
        outputs=("embedding",),
    )


def local_vocabulary(spec: HeadSpec, chips: int) -> int:
    """A chip's part of the vocabulary, in whole tiles on every chip."""
    return -(-spec.vocab_size // (TILE * chips)) * TILE


def head_request(
    spec: HeadSpec, work: Workload, precision: Mapping[str, DType], *, rows: int | None = None
) -> BlockRequest:
    """x [1, 1, rows, hidden_dim] → logits [1, 1, rows, vocab_size]; rows are those of the workload unless given.

    Chips share the vocabulary, cap their logits, join them, and cut off what pads the vocabulary.
    """
    rows = work.rows if rows is None else rows
    width = local_vocabulary(spec, work.chips)
    dtype = precision["head_weights"]
    stored = [Stored(name="weight", type=TensorType(shape=(1, 1, spec.hidden_dim, width), dtype=dtype))]
    if spec.bias:
        stored.append(Stored(name="bias", type=TensorType(shape=(1, 1, 1, width))))
    ops: list[OpRequest] = [
        LMHeadRequest(
            name="lm_head",
            inputs=("x", *(part.name for part in stored)),
            m=rows,
            k=spec.hidden_dim,
            n=width,
            weight_dtype=dtype,
            bias_dtype="bfloat16" if spec.bias else None,
        )
    ]
    if spec.soft_cap is not None:
        shape = (1, 1, rows, width)
        ops += [
            UnaryRequest(name="tanh", inputs=("lm_head",), shape=shape, activation="tanh", scale=1 / spec.soft_cap),
            UnaryRequest(name="capped_logits", inputs=("tanh",), shape=shape, scale=spec.soft_cap),
        ]
    if work.chips > 1:
        ops.append(
            CollectiveRequest(
                name="all_gather",
                inputs=(ops[-1].name,),
                kind="all_gather",
                shape=(1, 1, rows, width),
                chips=work.chips,
            )
        )
    if width * work.chips != spec.vocab_size:
        source = TensorType(shape=(1, 1, rows, width * work.chips))
        ops.append(MoveRequest(name="crop", inputs=(ops[-1].name,), op="slice", source=source, columns=spec.vocab_size))
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=(1, 1, rows, spec.hidden_dim))),),
        stored=tuple(stored),
        ops=tuple(ops),
        outputs=(ops[-1].name,),
    )
