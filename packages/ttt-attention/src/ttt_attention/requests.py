"""The operations of attention, as data for a planner.

Shapes of one chip: H query and KV key-value heads of padded dim hd, B users, S rows of a prompt, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttt_attention._listing import Listing
from ttt_attention._stepwise_requests import custom_decode, custom_prefill, stepwise_decode, stepwise_prefill
from ttt_attention.spec import AttentionSpec, HeadNormSpec
from ttt_core import SpecError
from ttt_hw import DType
from ttt_hw.requests import (
    BinaryRequest,
    BlockRequest,
    BroadcastRequest,
    CacheFillRequest,
    CacheUpdateRequest,
    ConcatRequest,
    DecodeAttentionRequest,
    HeadSplitRequest,
    NormRequest,
    PrefillAttentionRequest,
    RotaryRequest,
    TensorType,
    UnaryRequest,
    Workload,
)
from ttt_shard_dsl import TILE

__all__ = ["PROFILES", "attention_request"]

PROFILES: dict[str, dict[str, DType]] = {
    "performance": {"qkv_weights": "bfloat8_b", "output_weights": "bfloat8_b", "kv_cache": "bfloat8_b"},
    "balanced": {"qkv_weights": "bfloat8_b", "output_weights": "bfloat8_b", "kv_cache": "bfloat8_b"},
    "accuracy": {"qkv_weights": "bfloat16", "output_weights": "bfloat16", "kv_cache": "bfloat8_b"},
}
"""Dtypes by role, for each hardware mode."""


def attention_request(
    spec: AttentionSpec, work: Workload, precision: Mapping[str, DType], *, custom: bool = False
) -> BlockRequest:
    """x [1, 1, rows, D] → [1, 1, rows, D], the operations of BaseAttention in its order; `precision` as in PROFILES. `custom`:
    scores, softmax and values are one operation, a function of the block.

    Where chips split D too, each has its part of it in x and in the result, and q, k and v are summed over them.

    An output bias is fused into the matmul and stored divided by the chips, so that their sum has it once (exact for powers of
    two); a rotation of part of a head, or of neighbours, is the same operation with the weights' head dims permuted, and cosine
    1, sine 0 where nothing turns; a layer norm of heads is an RMS norm of heads whose weights make their mean 0; a gate of each
    head has its weight for each element of that head.
    Errors: PlacementError for heads that do not split over the chips, ShapeError for a prompt longer than the cache, SpecError
    for decode without causality, and for pages or a prompt that goes on where no fused operation reads the cache.
    """
    _check(spec, work, custom)
    listing = Listing(spec, work, precision["kv_cache"])
    listing.check_prompt()
    heads, kv_heads, head_dim, rows = listing.num_heads, listing.num_kv_heads, listing.head_dim, work.rows
    hidden, columns = work.hidden(spec.hidden_dim), (heads + 2 * kv_heads) * head_dim
    qkv = listing.project("qkv", "x", hidden, columns, precision["qkv_weights"], bias=bool(spec.biased))
    qkv = listing.summed_over_rows("qkv_sum", qkv, columns)
    qkv = _normalised_whole(listing, _clipped(listing, qkv, columns))
    split = HeadSplitRequest(
        name="split_heads",
        inputs=(qkv,),
        mode=work.mode,
        rows=rows,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
    )
    q, k, v = listing.add(split)
    tables = listing.tables("", head_dim) if spec.rope is not None else None
    own = listing.tables("q_", head_dim) if spec.query_temperature is not None else None
    q = _turned(listing, "q", q, heads, own or tables)
    k = _turned(listing, "k", k, kv_heads, tables)
    listing.store("keys", listing.cache, kind="cache")
    listing.store("values", listing.cache, kind="cache")
    attend = _prefill if work.mode == "prefill" else _decode
    joined = _gated(listing, attend(listing, q, k, v, custom), precision["qkv_weights"])
    width = heads * head_dim
    y = listing.project("output", joined, width, hidden, precision["output_weights"], bias=spec.output_bias)
    y = listing.summed_over_chips(y, hidden)
    return listing.block((("x", TensorType(shape=(1, 1, rows, hidden))),), y)


def _check(spec: AttentionSpec, work: Workload, custom: bool) -> None:
    if not spec.causal and (work.mode == "decode" or work.start):
        raise SpecError(
            "attention with causal=False reads a sequence at once: it neither decodes nor goes on with a prompt."
        )
    if (work.block or work.start) and (spec.stepwise or custom):
        raise SpecError(
            "only ttnn's fused attention reads paged caches, and goes on with a prompt; soft_cap, alibi, chunk and an own "
            "compute_attention are done step by step. Use a contiguous cache, and read the prompt at once."
        )


def _clipped(listing: Listing, qkv: str, columns: int) -> str:
    limit = listing.spec.qkv_clip
    if limit is None:
        return qkv
    shape = (1, 1, listing.work.rows, columns)
    (y,) = listing.add(UnaryRequest(name="qkv_clip", inputs=(qkv,), shape=shape, limit=limit))
    return y


def _normalised_whole(listing: Listing, qkv: str) -> str:
    """q and k normalised each over all its heads, on all chips: cut out of qkv, and joined again."""
    norm = listing.spec.head_norm
    if norm is None or norm.span == "head":
        return qkv
    rows, head_dim = listing.work.rows, listing.head_dim
    widths = [count * head_dim for count in (listing.num_heads, listing.num_kv_heads, listing.num_kv_heads)]
    source = TensorType(shape=(1, 1, rows, sum(widths)))
    parts, first = [], 0
    for name, width in zip("qkv", widths, strict=True):
        part = listing.move("slice", f"{name}_columns", qkv, source, first_column=first, columns=first + width)
        first += width
        if name != "v":
            shape = (1, 1, rows, width)
            part = _norm(listing, f"{name}_whole_norm", part, shape, norm, width, chips=listing.work.chips)
        parts.append(part)
    shapes = tuple((1, 1, rows, width) for width in widths)
    (joined,) = listing.add(ConcatRequest(name="qkv_joined", inputs=tuple(parts), shapes=shapes, dim=3))
    return joined


def _turned(listing: Listing, name: str, x: str, heads: int, tables: tuple[str, str] | None) -> str:
    """q or k, normalised and turned as the spec says."""
    norm = listing.spec.head_norm
    by_head = norm is not None and norm.span == "head"
    if norm is not None and by_head and not norm.after_rope:
        x = _normalised(listing, name, x, heads, norm)
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
    if norm is not None and by_head and norm.after_rope:
        x = _normalised(listing, name, x, heads, norm)
    return x


def _normalised(listing: Listing, name: str, x: str, heads: int, norm: HeadNormSpec) -> str:
    shape = listing.heads_shape(heads)
    after = "turned_" if norm.after_rope else ""
    y = _norm(listing, f"{name}_{after}norm", x, shape, norm, listing.head_dim)
    if norm.weight != "own":
        return y
    decode = listing.work.mode == "decode"
    by_head = (1, 1, heads, listing.head_dim) if decode else (1, heads, 1, listing.head_dim)
    weight = listing.store(f"{name}_norm_{'rows' if decode else 'heads'}", TensorType(shape=by_head))
    request = BroadcastRequest(
        name=f"{name}_{after}norm_weighted", inputs=(y, weight), op="mul", shape=shape, b_shape=by_head
    )
    (y,) = listing.add(request)
    return y


def _norm(
    listing: Listing,
    name: str,
    x: str,
    shape: tuple[int, int, int, int],
    norm: HeadNormSpec,
    width: int,
    *,
    chips: int = 1,
) -> str:
    """The mean is over the padding too: eps is scaled for it, and so are the weights."""
    role = name.partition("_")[0]
    padded = listing.head_dim != listing.spec.head_dim
    weighted = {"shared": True, "own": norm.span == "all", "none": padded}[norm.weight]
    vector = TensorType(shape=(1, 1, 1, width))
    names = [f"{role}_norm_weight"] * weighted + [f"{role}_norm_bias"] * norm.bias
    filled = listing.spec.head_dim / listing.head_dim
    (y,) = listing.add(
        NormRequest(
            name=name,
            inputs=(x, *(listing.store(each, vector) for each in names)),
            shape=shape,
            epsilon=norm.eps * filled,
            weight=weighted,
            bias=norm.bias,
            chips=chips,
        )
    )
    return y


def _prefill(listing: Listing, q: str, k: str, v: str, custom: bool) -> str:
    spec, work, rows, head_dim = listing.spec, listing.work, listing.work.rows, listing.head_dim
    kv_shape = listing.heads_shape(listing.num_kv_heads)
    filled = listing.pages_ahead()
    for cache, name, x in (("keys", "key", k), ("values", "value", v)):
        if listing.cache.dtype != "bfloat16":
            x = listing.move("typecast", f"{name}_cast", x, TensorType(shape=kv_shape), dtype=listing.cache.dtype)
        listing.add(
            CacheFillRequest(
                name=f"{name}_fill",
                inputs=(cache, x) if filled is None else (cache, x, filled),
                users=work.users,
                num_kv_heads=listing.num_kv_heads,
                tokens=rows,
                context=listing.context,
                head_dim=head_dim,
                dtype=listing.cache.dtype,
                start=work.start,
                block=work.block or None,
            )
        )
    if custom:
        return listing.joined_heads(custom_prefill(listing, q, k, v), head_dim)
    if spec.stepwise:
        return listing.joined_heads(stepwise_prefill(listing, q, k, v), head_dim)
    sinks: tuple[str, ...] = ()
    if spec.sinks:
        sinks = (listing.store("sinks", TensorType(shape=(1, listing.num_heads, 1, 1))),)
    read: tuple[str, ...] = (k, v)
    if work.start:
        read = ("keys", "values", listing.pages_read())
    block = work.block or listing.context
    request = PrefillAttentionRequest(
        name="attention",
        inputs=(q, *read, *sinks),
        tokens=rows,
        num_heads=listing.num_heads,
        num_kv_heads=listing.num_kv_heads,
        head_dim=head_dim,
        window=spec.window,
        scale=spec.scale,
        causal=spec.causal,
        sinks=spec.sinks,
        start=work.start or None,
        block=block if work.start else 32,
        blocks=listing.context // block if work.start else 0,
        kv_dtype=listing.cache.dtype if work.start else "bfloat16",
    )
    (heads,) = listing.add(request)
    return listing.joined_heads(heads, head_dim)


def _decode(listing: Listing, q: str, k: str, v: str, custom: bool) -> str:
    spec, users = listing.spec, listing.work.users
    positions, pages = listing.positions(), listing.pages()
    indices = (positions,) if pages is None else (positions, pages)
    block = listing.work.block or None
    for cache, name, x in (("keys", "key", k), ("values", "value", v)):
        listing.add(
            CacheUpdateRequest(
                name=f"{name}_update",
                inputs=(cache, x, *indices),
                users=users,
                num_kv_heads=listing.num_kv_heads,
                context=listing.context,
                head_dim=listing.head_dim,
                dtype=listing.cache.dtype,
                block=block,
            )
        )
    if custom:
        heads = custom_decode(listing, q)
    elif spec.stepwise:
        heads = stepwise_decode(listing, q)
    else:
        sinks: tuple[str, ...] = ()
        if spec.sinks:
            sinks = (listing.store("sink_rows", TensorType(shape=(listing.num_heads, TILE))),)
        request = DecodeAttentionRequest(
            name="attention",
            inputs=(q, "keys", "values", *indices, *sinks),
            users=users,
            num_heads=listing.num_heads,
            num_kv_heads=listing.num_kv_heads,
            head_dim=listing.head_dim,
            context=listing.context,
            window=spec.window,
            scale=spec.scale,
            kv_dtype=listing.cache.dtype,
            block=block,
            sinks=spec.sinks,
        )
        (heads,) = listing.add(request)
    shape = listing.heads_shape(listing.num_heads)
    heads = listing.move("transpose", "transpose_heads", heads, TensorType(shape=shape))
    return listing.joined_heads(heads, listing.head_dim)


def _gated(listing: Listing, joined: str, dtype: DType) -> str:
    """Heads, joined, by activation(x · the gate's weight)."""
    gate = listing.spec.output_gate
    if gate is None:
        return joined
    width = listing.num_heads * listing.head_dim
    scores = listing.project("gate", "x", listing.work.hidden(listing.spec.hidden_dim), width, dtype, bias=False)
    scores = listing.summed_over_rows("gate_sum", scores, width)
    request = BinaryRequest(
        name="gated_heads",
        inputs=(scores, joined),
        op="mul",
        shape=(1, 1, listing.work.rows, width),
        activation=gate.activation,
    )
    (y,) = listing.add(request)
    return y
