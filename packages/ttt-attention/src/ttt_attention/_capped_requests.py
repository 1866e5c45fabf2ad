"""The operations of attention with soft-capped scores: ttnn's fused attention has no cap, so matmuls and a softmax do it.

In prefill query heads that share a key-value head are joined into G groups of rows, so that keys and values are never
repeated: [.., H, rows, hd] is [.., KV, G·rows, hd]. probabilities = softmax(c · tanh(q·kᵀ · scale / c) + mask).
"""

from __future__ import annotations

from ttt_attention._listing import Listing
from ttt_hw.requests import (
    BatchedMatmulRequest,
    BroadcastRequest,
    ConcatRequest,
    EmbeddingRequest,
    ReduceRequest,
    SoftmaxRequest,
    TensorType,
    UnaryRequest,
)
from ttt_shard_dsl import TILE

MAX_SCORES_BYTES = 256 * 2**20  # of the scores of all heads at a time, in bf16


def capped_prefill(listing: Listing, q: str, k: str, v: str) -> str:
    """q [1, H, S, hd], k and v [1, KV, S, hd] → [1, H, S, hd]; queries in as few equal pieces as keep the scores small."""
    heads, rows, head_dim = listing.num_heads, listing.work.rows, listing.head_dim
    piece = rows_of_a_piece(heads, rows)
    whole = TensorType(shape=(1, heads, rows, head_dim))
    if piece == rows:
        return _piece(listing, q, k, v, rows, "")
    pieces, shapes = [], []
    for index, start in enumerate(range(0, rows, piece)):
        stop = min(start + piece, rows)
        part = listing.move("slice", f"q_piece.{index}", q, whole, rows=(start, stop))
        pieces.append(_piece(listing, part, k, v, stop - start, f".{index}"))
        shapes.append((1, heads, stop - start, head_dim))
    (joined,) = listing.add(ConcatRequest(name="attention", inputs=tuple(pieces), shapes=tuple(shapes), dim=2))
    return joined


def rows_of_a_piece(heads: int, rows: int) -> int:
    """Whole tiles of query rows, such that `heads` × rows of a piece × `rows` scores take at most MAX_SCORES_BYTES."""
    most = max(TILE, MAX_SCORES_BYTES // (2 * heads * rows) // TILE * TILE)
    pieces = -(-rows // most)
    return -(-rows // (pieces * TILE)) * TILE


def _piece(listing: Listing, q: str, k: str, v: str, rows: int, suffix: str) -> str:
    """Attention of some query rows to all keys; [1, H, rows, hd] in and out."""
    heads, kv_heads, head_dim, tokens = listing.num_heads, listing.num_kv_heads, listing.head_dim, listing.work.rows
    grouped_rows = heads // kv_heads * rows
    by_head, by_group = (1, heads, rows), (1, kv_heads, grouped_rows)
    mask = listing.store(
        f"{_of_window(listing, 'causal_mask')}{suffix}", TensorType(shape=(1, 1, rows, tokens)), kind="table"
    )
    q = _viewed(listing, f"grouped_q{suffix}", q, (*by_head, head_dim), (*by_group, head_dim))
    scores = _matmul(listing, f"scores{suffix}", q, k, 1, grouped_rows, head_dim, tokens, transpose=True)
    capped = _capped(listing, f"capped_scores{suffix}", scores, (*by_group, tokens))
    capped = _viewed(listing, f"scores_by_head{suffix}", capped, (*by_group, tokens), (*by_head, tokens))
    (probabilities,) = listing.add(
        SoftmaxRequest(
            name=f"probabilities{suffix}", inputs=(capped, mask), shape=(*by_head, tokens), scale=_cap(listing)
        )
    )
    grouped = _viewed(listing, f"grouped_probabilities{suffix}", probabilities, (*by_head, tokens), (*by_group, tokens))
    attended = _matmul(listing, f"attended{suffix}", grouped, v, 1, grouped_rows, tokens, head_dim)
    return _viewed(listing, f"attended_heads{suffix}", attended, (*by_group, head_dim), (*by_head, head_dim))


def capped_decode(listing: Listing, q: str) -> str:
    """q [1, B, H, hd] against the cache [B, KV, context, hd] → the heads' results [1, B, H, hd].

    All heads of a user are rows of one tile, so each key-value head is multiplied with all of them, which costs no more than
    with its own group; of the results of each key-value head the rows of its group are kept, and the sum has them all.
    Each user's mask is the row of its position in a table: 0 for the tokens it sees, else a large negative number, both
    divided by the cap since the softmax multiplies by it.
    """
    heads, kv_heads, head_dim = listing.num_heads, listing.num_kv_heads, listing.head_dim
    users, context = listing.work.users, listing.context
    table = listing.store(
        _of_window(listing, "mask_table"), TensorType(shape=(context, context), tiled=False), kind="table"
    )
    (rows,) = listing.add(
        EmbeddingRequest(name="mask_rows", inputs=(listing.indices(), table), rows=users, dim=context, count=context)
    )
    mask = listing.move("transpose", "mask_transposed", rows, TensorType(shape=(1, 1, users, context)))
    mask = _viewed(listing, "mask_by_user", mask, (1, users, 1, context), (users, 1, 1, context))
    q = _viewed(listing, "q_by_user", q, (1, users, heads, head_dim), (users, 1, heads, head_dim))
    if kv_heads > 1:
        shapes = ((users, 1, heads, head_dim),) * kv_heads
        (q,) = listing.add(ConcatRequest(name="q_for_groups", inputs=(q,) * kv_heads, shapes=shapes, dim=1))
    scores = _matmul(listing, "scores", q, "keys", users, heads, head_dim, context, transpose=True)
    shape = (users, kv_heads, heads, context)
    capped = _capped(listing, "capped_scores", scores, shape)
    (masked,) = listing.add(
        BroadcastRequest(
            name="masked_scores", inputs=(capped, mask), op="add", shape=shape, b_shape=(users, 1, 1, context)
        )
    )
    (probabilities,) = listing.add(
        SoftmaxRequest(name="probabilities", inputs=(masked,), shape=shape, scale=_cap(listing), masked=False)
    )
    attended = _matmul(listing, "attended", probabilities, "values", users, heads, context, head_dim)
    if kv_heads > 1:
        shape = (users, kv_heads, heads, head_dim)
        groups = listing.store("head_groups", TensorType(shape=(1, kv_heads, heads, 1)), kind="table")
        (own,) = listing.add(
            BroadcastRequest(
                name="own_groups", inputs=(attended, groups), op="mul", shape=shape, b_shape=(1, kv_heads, heads, 1)
            )
        )
        (attended,) = listing.add(ReduceRequest(name="joined_groups", inputs=(own,), shape=shape, dim=1))
    return _viewed(listing, "attended_heads", attended, (users, 1, heads, head_dim), (1, users, heads, head_dim))


def _matmul(
    listing: Listing, name: str, a: str, b: str, batch: int, m: int, k: int, n: int, *, transpose: bool = False
) -> str:
    (y,) = listing.add(
        BatchedMatmulRequest(
            name=name,
            inputs=(a, b),
            batch=batch,
            heads=listing.num_kv_heads,
            m=m,
            k=k,
            n=n,
            transpose_b=transpose,
            b_dtype=listing.cache.dtype if b in listing.stored else "bfloat16",
        )
    )
    return y


def _capped(listing: Listing, name: str, scores: str, shape: tuple[int, ...]) -> str:
    scale = listing.spec.scale / _cap(listing)
    (y,) = listing.add(UnaryRequest(name=name, inputs=(scores,), shape=shape, activation="tanh", scale=scale))
    return y


def _viewed(listing: Listing, name: str, x: str, source: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if source == shape:
        return x
    return listing.move("reshape", name, x, TensorType(shape=source), shape=shape)


def _cap(listing: Listing) -> float:
    cap = listing.spec.soft_cap
    assert cap is not None
    return cap


def _of_window(listing: Listing, name: str) -> str:
    """A mask's name: layers with the same window share it."""
    window = listing.spec.window
    return name if window is None else f"{name}_{window}"
