"""The operations of attention to another sequence, as data for a planner.

Shapes of one chip: H query and KV key-value heads of padded dim hd, B users, S rows of a prompt, M of a memory, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttt_attention._listing import Listing
from ttt_attention.spec import CrossAttentionSpec
from ttt_hw import DType
from ttt_hw.requests import (
    BlockRequest,
    CacheFillRequest,
    DecodeAttentionRequest,
    PrefillAttentionRequest,
    TensorType,
    Workload,
)

__all__ = ["cross_attention_request"]


def cross_attention_request(spec: CrossAttentionSpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """x [1, 1, rows, D], and in prefill memory [1, 1, M, D'], → [1, 1, rows, D]; M is the workload's context.

    Columns are cut into heads by transposes, between which whole tiles of rows are a head.
    Errors: PlacementError for heads that do not split over the chips.
    """
    listing = Listing(spec.heads, work, precision["kv_cache"])
    heads, head_dim, rows = listing.num_heads, listing.head_dim, work.rows
    q = _heads(listing, "q", "x", spec.hidden_dim, heads, rows, precision["qkv_weights"])
    listing.store("keys", listing.cache, kind="cache")
    listing.store("values", listing.cache, kind="cache")
    inputs = [("x", TensorType(shape=(1, 1, rows, spec.hidden_dim)))]
    if work.mode == "prefill":
        inputs.append(("memory", TensorType(shape=(1, 1, listing.context, spec.memory))))
        attended = _prefill(listing, spec, q, precision["qkv_weights"])
    else:
        q = listing.move("transpose", "q_by_user", q, TensorType(shape=(1, heads, rows, head_dim)))
        attended = _decode(listing, q)
    joined = listing.joined_heads(attended, head_dim)
    y = listing.project(
        "output", joined, heads * head_dim, spec.hidden_dim, precision["output_weights"], bias=spec.output_bias
    )
    return listing.block(tuple(inputs), listing.summed_over_chips(y, spec.hidden_dim))


def _heads(listing: Listing, name: str, x: str, k: int, heads: int, rows: int, dtype: DType) -> str:
    """x [1, 1, rows, k] by a weight → [1, heads, rows, hd]."""
    width, head_dim = heads * listing.head_dim, listing.head_dim
    y = listing.project(name, x, k, width, dtype, bias=name in listing.spec.biased, rows=rows)
    return listing.cut_heads(name, y, heads, head_dim, rows)


def _prefill(listing: Listing, spec: CrossAttentionSpec, q: str, dtype: DType) -> str:
    tokens, kv_heads, head_dim = listing.context, listing.num_kv_heads, listing.head_dim
    kv = []
    for cache, role in (("keys", "k"), ("values", "v")):
        x = _heads(listing, role, "memory", spec.memory, kv_heads, tokens, dtype)
        kv.append(x)
        if listing.cache.dtype != "bfloat16":
            type_ = TensorType(shape=(1, kv_heads, tokens, head_dim))
            x = listing.move("typecast", f"{role}_cast", x, type_, dtype=listing.cache.dtype)
        listing.add(
            CacheFillRequest(
                name=f"{role}_fill",
                inputs=(cache, x),
                users=1,
                num_kv_heads=kv_heads,
                tokens=tokens,
                context=tokens,
                head_dim=head_dim,
                dtype=listing.cache.dtype,
            )
        )
    request = PrefillAttentionRequest(
        name="attention",
        inputs=(q, *kv),
        tokens=listing.work.rows,
        num_heads=listing.num_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        causal=False,
        keys=tokens,
        scale=listing.spec.scale,
    )
    (attended,) = listing.add(request)
    return attended


def _decode(listing: Listing, q: str) -> str:
    """Each user sees the memory up to its last token, which is its position there."""
    users, heads, head_dim = listing.work.users, listing.num_heads, listing.head_dim
    last = listing.store("last", TensorType(shape=(users,), dtype="int32", tiled=False), kind="index")
    request = DecodeAttentionRequest(
        name="attention",
        inputs=(q, "keys", "values", last),
        users=users,
        num_heads=heads,
        num_kv_heads=listing.num_kv_heads,
        head_dim=head_dim,
        context=listing.context,
        scale=listing.spec.scale,
        kv_dtype=listing.cache.dtype,
    )
    (attended,) = listing.add(request)
    return listing.move("transpose", "transpose_heads", attended, TensorType(shape=(1, users, heads, head_dim)))
