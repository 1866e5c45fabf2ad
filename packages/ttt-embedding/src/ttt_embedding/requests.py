"""The operations of embeddings and heads, as data for a planner. Shapes of one chip."""

from __future__ import annotations

from collections.abc import Mapping

from ttt_core import ShapeError
from ttt_embedding.spec import EmbeddingSpec, HeadSpec, HeadTransformSpec
from ttt_hw import DType
from ttt_hw.requests import (
    BlockRequest,
    CollectiveRequest,
    ConcatRequest,
    EmbeddingRequest,
    LMHeadRequest,
    MatmulRequest,
    MoveRequest,
    OpRequest,
    Stored,
    TensorType,
    UnaryRequest,
    Workload,
)
from ttt_shard_dsl import TILE

__all__ = ["DENSE_PROFILES", "PROFILES", "embedding_request", "head_request", "transform_request"]

PROFILES: dict[str, dict[str, DType]] = {
    "performance": {"head_weights": "bfloat8_b"},
    "balanced": {"head_weights": "bfloat8_b"},
    "accuracy": {"head_weights": "bfloat8_b"},
}
"""Dtypes by role, for each hardware mode. The table of an embedding is bfloat16, as its operation wants it."""

DENSE_PROFILES: dict[str, dict[str, DType]] = {
    mode: {"projection_weights": "bfloat8_b", "transform_weights": "bfloat8_b"} for mode in PROFILES
}
"""The same of an embedding's projection and a head's transform, which few models have."""

MAX_COLUMNS = (
    32 * 1024
)  # of a chip's logits that are computed at a time: so many outputs fit L1 beside a streamed weight


def embedding_request(
    spec: EmbeddingSpec, work: Workload, precision: Mapping[str, DType] | None = None, *, split: bool = False
) -> BlockRequest:
    """ids [1, rows] → [1, 1, rows, a chip's part of hidden_dim]; the table is stored multiplied by the scale, with all ids on
    every chip, or with `split` in equal parts of its columns, which are joined.

    Errors: ShapeError for columns that are no whole tiles on each chip, PlacementError for a projection, or with `split`, where
    chips split the hidden dim.
    """
    rows, parts = work.rows, work.chips if split else 1
    if split or spec.embedding_dim is not None:
        work.with_whole_rows("embeddings that are projected, or whose columns are joined,")
    if parts > 1 and spec.table_dim % (parts * TILE):
        raise ShapeError(
            f"{spec.table_dim} columns of a table in {parts} parts are no whole tiles of {TILE}. Keep it whole: split=False."
        )
    width = work.hidden(spec.table_dim) // parts
    stored = [Stored(name="table", type=TensorType(shape=(spec.vocab_size, width), tiled=False))]
    ops: list[OpRequest] = [EmbeddingRequest(name="embedding", rows=rows, dim=width, count=spec.vocab_size)]
    if parts > 1:
        shape = (1, 1, rows, width)
        ops.append(
            CollectiveRequest(name="all_gather", inputs=("embedding",), kind="all_gather", shape=shape, chips=parts)
        )
    if spec.embedding_dim is not None:
        dtype = (precision or DENSE_PROFILES["balanced"])["projection_weights"]
        shape_of = (1, 1, spec.embedding_dim, spec.hidden_dim)
        stored.append(Stored(name="projection_weight", type=TensorType(shape=shape_of, dtype=dtype)))
        ops.append(
            MatmulRequest(
                name="projection",
                inputs=(ops[-1].name, "projection_weight"),
                m=rows,
                k=spec.embedding_dim,
                n=spec.hidden_dim,
                weight_dtype=dtype,
            )
        )
    return BlockRequest(
        mode=work.mode,
        inputs=(("ids", TensorType(shape=(1, rows), dtype="uint32", tiled=False)),),
        stored=tuple(stored),
        ops=tuple(ops),
        outputs=(ops[-1].name,),
    )


def transform_request(
    spec: HeadTransformSpec, work: Workload, precision: Mapping[str, DType], *, rows: int
) -> BlockRequest:
    """x [1, 1, rows, hidden_dim] → the same, of as many rows as the head has."""
    work.with_whole_rows("transforms before the head")
    hidden, dtype = spec.hidden_dim, precision["transform_weights"]
    stored = [Stored(name="weight", type=TensorType(shape=(1, 1, hidden, hidden), dtype=dtype))]
    if spec.bias:
        stored.append(Stored(name="bias", type=TensorType(shape=(1, 1, 1, hidden))))
    dense = MatmulRequest(
        name="dense",
        inputs=("x", *(part.name for part in stored)),
        m=rows,
        k=hidden,
        n=hidden,
        weight_dtype=dtype,
        bias_dtype="bfloat16" if spec.bias else None,
        activation=spec.activation,
    )
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=(1, 1, rows, hidden))),),
        stored=tuple(stored),
        ops=(dense,),
        outputs=("dense",),
    )


def local_vocabulary(spec: HeadSpec, chips: int) -> int:
    """A chip's part of the vocabulary, in whole tiles on every chip."""
    return -(-spec.vocab_size // (TILE * chips)) * TILE


def pieces_of(width: int) -> tuple[int, ...]:
    """A chip's columns in as few equal pieces of whole tiles as MAX_COLUMNS allows; the last may be smaller."""
    count = -(-width // MAX_COLUMNS)
    piece = -(-width // (count * TILE)) * TILE
    return tuple(min(piece, width - start) for start in range(0, width, piece))


def head_request(
    spec: HeadSpec, work: Workload, precision: Mapping[str, DType], *, rows: int | None = None
) -> BlockRequest:
    """x [1, 1, rows, hidden_dim] → logits [1, 1, rows, vocab_size]; rows are those of the workload unless given.

    Chips share the vocabulary, cap their logits, join them, and cut off what pads the vocabulary. A chip's part that is too
    wide has a weight for each piece, and a matmul for each. Chips that split the hidden dim sum their logits first; of a bias
    each has its part.
    """
    rows = work.rows if rows is None else rows
    width = local_vocabulary(spec, work.chips)
    dtype = precision["head_weights"]
    hidden = work.hidden(spec.hidden_dim)
    stored, ops = _logits(spec, rows, hidden, pieces_of(width), dtype)
    if work.hidden_chips > 1:
        shape, chips = (1, 1, rows, width), work.hidden_chips
        logits = ops[-1].name
        ops.append(
            CollectiveRequest(name="logits_sum", inputs=(logits,), kind="all_reduce", shape=shape, chips=chips, axis=0)
        )
    if spec.soft_cap is not None:
        shape = (1, 1, rows, width)
        ops += [
            UnaryRequest(name="tanh", inputs=(ops[-1].name,), shape=shape, activation="tanh", scale=1 / spec.soft_cap),
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
        inputs=(("x", TensorType(shape=(1, 1, rows, hidden))),),
        stored=tuple(stored),
        ops=tuple(ops),
        outputs=(ops[-1].name,),
    )


def _logits(
    spec: HeadSpec, rows: int, hidden: int, pieces: tuple[int, ...], dtype: DType
) -> tuple[list[Stored], list[OpRequest]]:
    """`lm_head` from `weight`; in pieces, `lm_head.0` from `weight.0` and so on, then `joined_logits`."""
    stored: list[Stored] = []
    ops: list[OpRequest] = []
    for index, columns in enumerate(pieces):
        suffix = f".{index}" if len(pieces) > 1 else ""
        own = [Stored(name=f"weight{suffix}", type=TensorType(shape=(1, 1, hidden, columns), dtype=dtype))]
        if spec.bias:
            own.append(Stored(name=f"bias{suffix}", type=TensorType(shape=(1, 1, 1, columns))))
        stored += own
        ops.append(
            LMHeadRequest(
                name=f"lm_head{suffix}",
                inputs=("x", *(part.name for part in own)),
                m=rows,
                k=hidden,
                n=columns,
                weight_dtype=dtype,
                bias_dtype="bfloat16" if spec.bias else None,
            )
        )
    if len(pieces) > 1:
        shapes = tuple((1, 1, rows, columns) for columns in pieces)
        ops.append(ConcatRequest(name="joined_logits", inputs=tuple(op.name for op in ops), shapes=shapes, dim=3))
    return stored, ops
