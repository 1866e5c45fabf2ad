"""The operations of attention, as data for a planner.

Shapes of one chip: H query and KV key-value heads of padded dim hd, B users, S rows of a prompt, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttt_attention._capped_requests import capped_decode, capped_prefill
from ttt_attention._listing import Listing
from ttt_attention.spec import AttentionSpec, HeadNormSpec
from ttt_hw import DType
from ttt_hw.requests import (
    BlockRequest,
    CacheFillRequest,
    CacheUpdateRequest,
    CollectiveRequest,
    DecodeAttentionRequest,
    EmbeddingRequest,
    HeadConcatRequest,
    HeadSplitRequest,
    NormRequest,
    PrefillAttentionRequest,
    RotaryRequest,
    TensorType,
    Workload,
)

__all__ = ["PROFILES", "attention_request"]

PROFILES: dict[str, dict[str, DType]] = {
    "performance": {"qkv_weights": "bfloat8_b", "output_weights": "bfloat8_b", "kv_cache": "bfloat8_b"},
    "balanced": {"qkv_weights": "bfloat8_b", "output_weights": "bfloat8_b", "kv_cache": "bfloat8_b"},
    "accuracy": {"qkv_weights": "bfloat16", "output_weights": "bfloat16", "kv_cache": "bfloat8_b"},
}
"""Dtypes by role, for each hardware mode."""


def attention_request(spec: AttentionSpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """x [1, 1, rows, D] → [1, 1, rows, D], the operations of GroupedQueryAttention in its order; `precision` as in PROFILES.

    An output bias is fused into the matmul and stored divided by the chips, so that their sum has it once (exact for powers of
    two); a rotation of part of a head, or of neighbours, is the same operation with the weights' head dims permuted, and cosine
    1, sine 0 where nothing turns; a soft-cap is unfused.
    Errors: PlacementError for heads that do not split over the chips, ShapeError for a prompt longer than the cache.
    """
    listing = Listing(spec, work, precision["kv_cache"])
    heads, head_dim, rows = listing.num_heads, listing.head_dim, work.rows
    columns = (heads + 2 * listing.num_kv_heads) * head_dim
    qkv = listing.project("qkv", "x", spec.hidden_dim, columns, precision["qkv_weights"], bias=spec.qkv_bias)
    split = HeadSplitRequest(
        name="split_heads",
        inputs=(qkv,),
        mode=work.mode,
        rows=rows,
        num_heads=heads,
        num_kv_heads=listing.num_kv_heads,
        head_dim=head_dim,
    )
    q, k, v = listing.add(split)
    tables = _tables(listing)
    q = _turned(listing, "q", q, heads, tables)
    k = _turned(listing, "k", k, listing.num_kv_heads, tables)
    listing.store("keys", listing.cache, kind="cache")
    listing.store("values", listing.cache, kind="cache")
    attend = _prefill if work.mode == "prefill" else _decode
    joined = attend(listing, q, k, v)
    width = heads * head_dim
    y = listing.project("output", joined, width, spec.hidden_dim, precision["output_weights"], bias=spec.output_bias)
    if work.chips > 1:
        (y,) = listing.add(
            CollectiveRequest(
                name="all_reduce",
                inputs=(y,),
                kind="all_reduce",
                shape=(1, 1, rows, spec.hidden_dim),
                chips=work.chips,
            )
        )
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=(1, 1, rows, spec.hidden_dim))),),
        stored=tuple(listing.stored.values()),
        ops=tuple(listing.ops),
        outputs=(y,),
    )


def _tables(listing: Listing) -> tuple[str, str] | None:
    """Cosines and sines of the positions; in decode turned to one row a user."""
    if listing.spec.rope is None:
        return None
    rows, head_dim, context = listing.work.rows, listing.head_dim, listing.spec.max_context
    decode = listing.work.mode == "decode"
    indices = listing.indices()
    names = []
    for name in ("cos", "sin"):
        table = listing.store(f"{name}_table", TensorType(shape=(context, head_dim), tiled=False), kind="table")
        (found,) = listing.add(
            EmbeddingRequest(
                name=f"{name}_rows" if decode else name,
                inputs=(indices, table),
                rows=rows,
                dim=head_dim,
                count=context,
            )
        )
        if decode:
            found = listing.move("transpose", name, found, TensorType(shape=(1, 1, rows, head_dim)))
        names.append(found)
    return names[0], names[1]


def _turned(listing: Listing, name: str, x: str, heads: int, tables: tuple[str, str] | None) -> str:
    """q or k, normalised and turned as the spec says."""
    if listing.spec.head_norm is not None:
        x = _normalised(listing, name, x, heads, listing.spec.head_norm)
    if tables is not None:
        (x,) = listing.add(
            RotaryRequest(
                name=f"{name}_rotary",
                inputs=(x, *tables),
                mode=listing.work.mode,
                rows=listing.work.rows,
                heads=heads,
                head_dim=listing.head_dim,
            )
        )
    return x


def _normalised(listing: Listing, name: str, x: str, heads: int, norm: HeadNormSpec) -> str:
    weight = listing.store(f"{name}_norm_weight", TensorType(shape=(1, 1, 1, listing.head_dim)))
    filled = listing.spec.head_dim / listing.head_dim  # the mean is over the padding too
    (y,) = listing.add(
        NormRequest(
            name=f"{name}_norm", inputs=(x, weight), shape=listing.heads_shape(heads), epsilon=norm.eps * filled
        )
    )
    return y


def _prefill(listing: Listing, q: str, k: str, v: str) -> str:
    spec, rows, head_dim = listing.spec, listing.work.rows, listing.head_dim
    kv_shape = listing.heads_shape(listing.num_kv_heads)
    for cache, name, x in (("keys", "key", k), ("values", "value", v)):
        if listing.cache.dtype != "bfloat16":
            x = listing.move("typecast", f"{name}_cast", x, TensorType(shape=kv_shape), dtype=listing.cache.dtype)
        listing.add(
            CacheFillRequest(
                name=f"{name}_fill",
                inputs=(cache, x),
                users=listing.work.users,
                num_kv_heads=listing.num_kv_heads,
                tokens=rows,
                context=listing.context,
                head_dim=head_dim,
                dtype=listing.cache.dtype,
            )
        )
    if spec.soft_cap is not None:
        heads = capped_prefill(listing, q, k, v)
    else:
        request = PrefillAttentionRequest(
            name="attention",
            inputs=(q, k, v),
            tokens=rows,
            num_heads=listing.num_heads,
            num_kv_heads=listing.num_kv_heads,
            head_dim=head_dim,
            window=spec.window,
            scale=spec.scale,
        )
        (heads,) = listing.add(request)
    return _concat_heads(listing, heads)


def _decode(listing: Listing, q: str, k: str, v: str) -> str:
    spec, users = listing.spec, listing.work.users
    positions = listing.positions()
    for cache, name, x in (("keys", "key", k), ("values", "value", v)):
        listing.add(
            CacheUpdateRequest(
                name=f"{name}_update",
                inputs=(cache, x, positions),
                users=users,
                num_kv_heads=listing.num_kv_heads,
                context=listing.context,
                head_dim=listing.head_dim,
                dtype=listing.cache.dtype,
            )
        )
    if spec.soft_cap is not None:
        heads = capped_decode(listing, q)
    else:
        request = DecodeAttentionRequest(
            name="attention",
            inputs=(q, "keys", "values", positions),
            users=users,
            num_heads=listing.num_heads,
            num_kv_heads=listing.num_kv_heads,
            head_dim=listing.head_dim,
            context=listing.context,
            window=spec.window,
            scale=spec.scale,
            kv_dtype=listing.cache.dtype,
        )
        (heads,) = listing.add(request)
    shape = listing.heads_shape(listing.num_heads)
    return _concat_heads(listing, listing.move("transpose", "transpose_heads", heads, TensorType(shape=shape)))


def _concat_heads(listing: Listing, heads: str) -> str:
    request = HeadConcatRequest(
        name="concat_heads",
        inputs=(heads,),
        rows=listing.work.rows,
        num_heads=listing.num_heads,
        head_dim=listing.head_dim,
    )
    (joined,) = listing.add(request)
    return joined
