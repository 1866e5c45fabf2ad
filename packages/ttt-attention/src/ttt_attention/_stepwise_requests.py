"""The operations of attention step by step, where ttnn's fused one does not know a soft-cap, ALiBi or chunks.

In prefill query heads that share a key-value head are joined into G groups of rows, so that keys and values are never
repeated: [.., H, rows, hd] is [.., KV, G·rows, hd]. probabilities = softmax(f(q·kᵀ · scale) + mask), where f is
c · tanh(· / c) of a soft-cap c, or adds slope(h) · (key's − query's position), or does nothing.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ttt_attention._listing import Listing
from ttt_attention.spec import AttentionSpec
from ttt_hw.requests import (
    BatchedMatmulRequest,
    BroadcastRequest,
    ConcatRequest,
    CustomRequest,
    EmbeddingRequest,
    ReduceRequest,
    SoftmaxRequest,
    TensorType,
    UnaryRequest,
)
from ttt_shard_dsl import TILE

Shape: TypeAlias = "tuple[int, int, int, int]"

MAX_SCORES_BYTES = 256 * 2**20  # of the scores of all heads at a time, in bf16


def stepwise_prefill(listing: Listing, q: str, k: str, v: str) -> str:
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
    mask = prompt_mask(listing, rows, tokens, suffix)
    q = _viewed(listing, f"grouped_q{suffix}", q, (*by_head, head_dim), (*by_group, head_dim))
    scores = _matmul(listing, f"scores{suffix}", q, k, 1, grouped_rows, head_dim, tokens, transpose=True)
    scores = _capped(listing, f"capped_scores{suffix}", scores, (*by_group, tokens))
    scores = _viewed(listing, f"scores_by_head{suffix}", scores, (*by_group, tokens), (*by_head, tokens))
    if listing.spec.alibi:
        scores = _sloped(listing, suffix, scores, mask, (*by_head, tokens), (1, 1, rows, tokens), (1, heads, 1, 1))
    request = SoftmaxRequest(
        name=f"probabilities{suffix}",
        inputs=(scores,) if listing.spec.alibi else (scores, mask),
        shape=(*by_head, tokens),
        scale=softmax_scale(listing.spec),
        masked=not listing.spec.alibi,
    )
    (probabilities,) = listing.add(request)
    grouped = _viewed(listing, f"grouped_probabilities{suffix}", probabilities, (*by_head, tokens), (*by_group, tokens))
    attended = _matmul(listing, f"attended{suffix}", grouped, v, 1, grouped_rows, tokens, head_dim)
    return _viewed(listing, f"attended_heads{suffix}", attended, (*by_group, head_dim), (*by_head, head_dim))


def stepwise_decode(listing: Listing, q: str) -> str:
    """q [1, B, H, hd] against the cache [B, KV, context, hd] → the heads' results [1, B, H, hd].

    All heads of a user are rows of one tile, so each key-value head is multiplied with all of them, which costs no more than
    with its own group; of the results of each key-value head the rows of its group are kept, and the sum has them all.
    Each user's mask is the row of its position in a table: 0 for the tokens it sees, else a large negative number, both
    divided by the cap since the softmax multiplies by it.
    """
    heads, kv_heads, head_dim = listing.num_heads, listing.num_kv_heads, listing.head_dim
    users, context = listing.work.users, listing.context
    mask = users_mask(listing)
    q = _viewed(listing, "q_by_user", q, (1, users, heads, head_dim), (users, 1, heads, head_dim))
    if kv_heads > 1:
        shapes = ((users, 1, heads, head_dim),) * kv_heads
        (q,) = listing.add(ConcatRequest(name="q_for_groups", inputs=(q,) * kv_heads, shapes=shapes, dim=1))
    scores = _matmul(listing, "scores", q, "keys", users, heads, head_dim, context, transpose=True)
    shape = (users, kv_heads, heads, context)
    scores = _capped(listing, "capped_scores", scores, shape)
    mask_shape = (users, 1, 1, context)
    if listing.spec.alibi:
        scores = _sloped(listing, "", scores, mask, shape, mask_shape, (1, 1, heads, 1))
    else:
        scores = _broadcast(listing, "masked_scores", "add", scores, mask, shape, mask_shape)
    request = SoftmaxRequest(
        name="probabilities", inputs=(scores,), shape=shape, scale=softmax_scale(listing.spec), masked=False
    )
    (probabilities,) = listing.add(request)
    attended = _matmul(listing, "attended", probabilities, "values", users, heads, context, head_dim)
    if kv_heads > 1:
        shape = (users, kv_heads, heads, head_dim)
        groups = listing.store("head_groups", TensorType(shape=(1, kv_heads, heads, 1)), kind="table")
        own = _broadcast(listing, "own_groups", "mul", attended, groups, shape, (1, kv_heads, heads, 1))
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


def custom_prefill(listing: Listing, q: str, k: str, v: str) -> str:
    """As stepwise_prefill, by a function of the block."""
    heads, rows = listing.num_heads, listing.work.rows
    kv = TensorType(shape=(1, listing.num_kv_heads, rows, listing.head_dim))
    mask = TensorType(shape=(1, 1, rows, rows))
    own = TensorType(shape=(1, heads, rows, listing.head_dim))
    inputs = (q, k, v, prompt_mask(listing, rows, rows))
    (made,) = listing.add(CustomRequest(name="attention", inputs=inputs, reads=(own, kv, kv, mask), makes=own))
    return made


def custom_decode(listing: Listing, q: str) -> str:
    """As stepwise_decode, by a function of the block, which sees each head as a matrix of one row."""
    heads, users, head_dim, cache = listing.num_heads, listing.work.users, listing.head_dim, listing.cache
    mask = users_mask(listing)
    by_user, by_head = (users, 1, heads, head_dim), TensorType(shape=(users, heads, 1, head_dim))
    q = _viewed(listing, "q_by_user", q, (1, users, heads, head_dim), by_user)
    q = listing.move("transpose", "q_by_head", q, TensorType(shape=by_user))
    reads = (by_head, cache, cache, TensorType(shape=(users, 1, 1, listing.context)))
    inputs = (q, "keys", "values", mask)
    (made,) = listing.add(CustomRequest(name="attention", inputs=inputs, reads=reads, makes=by_head))
    made = listing.move("transpose", "attended_rows", made, by_head)
    return _viewed(listing, "attended_heads", made, by_user, (1, users, heads, head_dim))


def prompt_mask(listing: Listing, rows: int, tokens: int, suffix: str = "") -> str:
    """What the queries of some rows of a prompt see, [1, 1, rows, tokens]."""
    return listing.store(
        f"{_of_sight(listing, 'causal_mask')}{suffix}", TensorType(shape=(1, 1, rows, tokens)), kind="table"
    )


def users_mask(listing: Listing) -> str:
    """What each user's query sees of the cache, [B, 1, 1, context]: the row of its position in a table."""
    users, context = listing.work.users, listing.context
    name = _of_sight(listing, "mask_table")
    table = listing.store(name, TensorType(shape=(context, context), tiled=False), kind="table")
    request = EmbeddingRequest(
        name="mask_rows", inputs=(listing.indices(), table), rows=users, dim=context, count=context
    )
    (rows,) = listing.add(request)
    mask = listing.move("transpose", "mask_transposed", rows, TensorType(shape=(1, 1, users, context)))
    return _viewed(listing, "mask_by_user", mask, (1, users, 1, context), (users, 1, 1, context))


def softmax_scale(spec: AttentionSpec) -> float:
    """What the softmax multiplies by: with ALiBi nothing is left, with a soft-cap its c, else the scores' scale."""
    if spec.alibi:
        return 1.0
    return spec.scale if spec.soft_cap is None else spec.soft_cap


def _capped(listing: Listing, name: str, scores: str, shape: tuple[int, ...]) -> str:
    """tanh(scores · scale / c), where there is a soft-cap c."""
    cap = listing.spec.soft_cap
    if cap is None:
        return scores
    scale = listing.spec.scale / cap
    (y,) = listing.add(UnaryRequest(name=name, inputs=(scores,), shape=shape, activation="tanh", scale=scale))
    return y


def _sloped(
    listing: Listing, suffix: str, scores: str, mask: str, shape: Shape, mask_shape: Shape, slope_shape: Shape
) -> str:
    """scores · scale + slope · (mask + distance), as (scores · scale / slope + mask + distance) · slope: the mask has the
    distance in it, and no outer product is made."""
    kind = listing.work.mode
    down, up = (
        listing.store(f"{name}_{kind}", TensorType(shape=slope_shape), kind="table")
        for name in ("slopes_down", "slopes_up")
    )
    scores = _broadcast(listing, f"scaled_scores{suffix}", "mul", scores, down, shape, slope_shape)
    scores = _broadcast(listing, f"masked_scores{suffix}", "add", scores, mask, shape, mask_shape)
    return _broadcast(listing, f"sloped_scores{suffix}", "mul", scores, up, shape, slope_shape)


def _broadcast(listing: Listing, name: str, op: Any, a: str, b: str, shape: Shape, b_shape: Shape) -> str:
    (y,) = listing.add(BroadcastRequest(name=name, inputs=(a, b), op=op, shape=shape, b_shape=b_shape))
    return y


def _viewed(listing: Listing, name: str, x: str, source: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if source == shape:
        return x
    return listing.move("reshape", name, x, TensorType(shape=source), shape=shape)


def _of_sight(listing: Listing, name: str) -> str:
    """Tables are shared by layers of equal sight, which each window, chunk and distance is."""
    spec = listing.spec
    limit = "" if spec.window is None else f"_{spec.window}"
    chunk = f"_chunk_{spec.chunk}" if spec.chunked else ""
    return f"{name}{limit}{chunk}{'_distance' if spec.alibi else ''}"
