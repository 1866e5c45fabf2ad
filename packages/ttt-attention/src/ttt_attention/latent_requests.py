"""The operations of multi-head latent attention, as data for a planner.

Keys and values are never made: with W_uk, W_uv the parts of W_kv_b that make a head's key and value of a latent c,
q·(W_uk c) = (W_ukᵀ q)·c, and Σ p W_uv c = W_uv Σ p c [arXiv 2405.04434 section 2.1.2]. So all heads attend to one key, [c | k],
whose first columns are the value.
Shapes of one chip: H heads, n and r elements of a head that do not turn and that do, c of a latent, v of a value, all padded
to whole tiles; B users, S rows of a prompt, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttt_attention._listing import HeadsListing
from ttt_attention.heads import padded_head_dim, split_heads
from ttt_attention.latent_spec import LatentAttentionSpec, whole_tiles
from ttt_hw import DType
from ttt_hw.requests import (
    BatchedMatmulRequest,
    BlockRequest,
    CacheFillRequest,
    CacheUpdateRequest,
    ConcatRequest,
    DecodeAttentionRequest,
    NormRequest,
    PrefillAttentionRequest,
    RotaryRequest,
    TensorType,
    Workload,
)
from ttt_shard_dsl import TILE

__all__ = ["latent_attention_request"]


def latent_attention_request(spec: LatentAttentionSpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """x [1, 1, rows, D] → [1, 1, rows, D], the operations of MultiLatentAttention in its order; `precision` as of
    attention_request.

    Chips split the heads; latents, which all heads read, are made and kept by each chip.
    Errors: PlacementError for heads that do not split over the chips, and where chips split the hidden dim; ShapeError for a
    prompt longer than the cache.
    """
    work.with_whole_rows("the latents of attention")
    heads, _ = split_heads(spec.turning, work.chips)
    listing = HeadsListing(
        work,
        num_heads=heads,
        num_kv_heads=1,
        head_dim=spec.row,
        positions=spec.max_context,
        cache_dtype=precision["kv_cache"],
    )
    listing.check_prompt()
    weights = precision["qkv_weights"]
    tables = listing.tables("", padded_head_dim(spec.rope_dim)) if spec.turns else ()
    q = _queries(listing, spec, weights, tables)
    row = _row(listing, spec, weights, tables)
    listing.store("latents", listing.cache, kind="cache")
    attended = _prefill(listing, spec, q, row) if work.mode == "prefill" else _decode(listing, spec, q, row)
    values = whole_tiles(spec.v_head_dim)
    attended = _by_head(listing, "attended_values", attended, "value_up", whole_tiles(spec.kv_rank), values, weights)
    joined = listing.joined_heads(attended, values)
    y = listing.project(
        "output", joined, heads * values, spec.hidden_dim, precision["output_weights"], bias=spec.output_bias
    )
    y = listing.summed_over_chips(y, spec.hidden_dim)
    return listing.block((("x", TensorType(shape=(1, 1, work.rows, spec.hidden_dim))),), y)


def _queries(listing: HeadsListing, spec: LatentAttentionSpec, dtype: DType, tables: tuple[str, ...]) -> str:
    """[1, H, S, c + r], in decode [1, B, H, c + r]: W_ukᵀ q of what does not turn, and what does."""
    rows, heads = listing.work.rows, listing.num_heads
    nope, rope, latent = whole_tiles(spec.nope_dim), padded_head_dim(spec.rope_dim), whole_tiles(spec.kv_rank)
    x, width = "x", spec.hidden_dim
    if spec.q_rank is not None:
        rank = whole_tiles(spec.q_rank)
        x = listing.project("q_down", x, width, rank, dtype, bias=spec.latent_bias)
        x, width = _norm(listing, "q_latent", x, spec.q_rank, spec.eps), rank
    q = listing.project("q_up", x, width, heads * (nope + rope), dtype, bias=False)
    q = listing.cut_heads("q", q, heads, nope + rope, rows)
    whole = TensorType(shape=(1, heads, rows, nope + rope))
    still = listing.move("slice", "q_nope", q, whole, columns=nope)
    turned = listing.move("slice", "q_rope", q, whole, first_column=nope)
    still = _by_head(listing, "q_absorbed", still, "key_up", nope, latent, dtype)
    lead = (1, heads, rows)
    if listing.work.mode == "decode":
        still = listing.move("transpose", "q_absorbed_by_user", still, TensorType(shape=(*lead, latent)))
        turned = listing.move("transpose", "q_rope_by_user", turned, TensorType(shape=(*lead, rope)))
        lead = (1, rows, heads)
    turned = _turned(listing, "q", turned, heads, rope, tables)
    return _joined(listing, "q_joined", (still, turned), ((*lead, latent), (*lead, rope)))


def _row(listing: HeadsListing, spec: LatentAttentionSpec, dtype: DType, tables: tuple[str, ...]) -> str:
    """What a cache has of a token, the latent and the turned key: [1, 1, S, c + r], in decode [1, B, 1, c + r]."""
    rows, latent, rope = listing.work.rows, whole_tiles(spec.kv_rank), padded_head_dim(spec.rope_dim)
    down = listing.project("kv_down", "x", spec.hidden_dim, latent + rope, dtype, bias=spec.latent_bias)
    whole = TensorType(shape=(1, 1, rows, latent + rope))
    still = listing.move("slice", "kv_latent", down, whole, columns=latent)
    turned = listing.move("slice", "k_rope", down, whole, first_column=latent)
    still = _norm(listing, "kv_latent", still, spec.kv_rank, spec.eps)
    lead = (1, 1, rows)
    if listing.work.mode == "decode":
        still = listing.move("transpose", "kv_latent_by_user", still, TensorType(shape=(*lead, latent)))
        turned = listing.move("transpose", "k_rope_by_user", turned, TensorType(shape=(*lead, rope)))
        lead = (1, rows, 1)
    turned = _turned(listing, "k", turned, 1, rope, tables)
    return _joined(listing, "kv_row", (still, turned), ((*lead, latent), (*lead, rope)))


def _prefill(listing: HeadsListing, spec: LatentAttentionSpec, q: str, row: str) -> str:
    work, dtype = listing.work, listing.cache.dtype
    filled = listing.pages_ahead()
    cast = row
    if dtype != "bfloat16":
        source = TensorType(shape=(1, 1, work.rows, spec.row))
        cast = listing.move("typecast", "kv_row_cast", row, source, dtype=dtype)
    request = CacheFillRequest(
        name="kv_row_fill",
        inputs=("latents", cast) if filled is None else ("latents", cast, filled),
        users=work.users,
        num_kv_heads=1,
        tokens=work.rows,
        context=listing.context,
        head_dim=spec.row,
        dtype=dtype,
        start=work.start,
        block=work.block or None,
    )
    listing.add(request)
    block = work.block or listing.context
    attention = PrefillAttentionRequest(
        name="attention",
        inputs=(q, "latents", listing.pages_read()) if work.start else (q, row),
        tokens=work.rows,
        num_heads=listing.num_heads,
        num_kv_heads=1,
        head_dim=spec.row,
        value_dim=whole_tiles(spec.kv_rank),
        scale=spec.scale,
        start=work.start or None,
        block=block if work.start else TILE,
        blocks=listing.context // block if work.start else 0,
        kv_dtype=dtype if work.start else "bfloat16",
    )
    (attended,) = listing.add(attention)
    return attended


def _decode(listing: HeadsListing, spec: LatentAttentionSpec, q: str, row: str) -> str:
    """→ [1, H, B, c]."""
    work, latent = listing.work, whole_tiles(spec.kv_rank)
    positions, pages = listing.positions(), listing.pages()
    indices = (positions,) if pages is None else (positions, pages)
    block = work.block or None
    update = CacheUpdateRequest(
        name="kv_row_update",
        inputs=("latents", row, *indices),
        users=work.users,
        num_kv_heads=1,
        context=listing.context,
        head_dim=spec.row,
        dtype=listing.cache.dtype,
        block=block,
    )
    listing.add(update)
    attention = DecodeAttentionRequest(
        name="attention",
        inputs=(q, "latents", *indices),
        users=work.users,
        num_heads=listing.num_heads,
        num_kv_heads=1,
        head_dim=spec.row,
        value_dim=latent,
        context=listing.context,
        scale=spec.scale,
        kv_dtype=listing.cache.dtype,
        block=block,
    )
    (attended,) = listing.add(attention)
    by_user = TensorType(shape=(1, work.users, listing.num_heads, latent))
    return listing.move("transpose", "transpose_heads", attended, by_user)


def _by_head(listing: HeadsListing, name: str, x: str, weight: str, k: int, n: int, dtype: DType) -> str:
    """x [1, H, rows, k] by each head's own weight [k, n]."""
    stored = listing.store(f"{weight}_weight", TensorType(shape=(1, listing.num_heads, k, n), dtype=dtype))
    request = BatchedMatmulRequest(
        name=name,
        inputs=(x, stored),
        batch=1,
        heads=listing.num_heads,
        m=listing.work.rows,
        k=k,
        n=n,
        b_dtype=dtype,
    )
    (y,) = listing.add(request)
    return y


def _norm(listing: HeadsListing, name: str, x: str, rank: int, eps: float) -> str:
    """The mean is over the padding too: eps is scaled for it, and so are the weights."""
    width = whole_tiles(rank)
    weight = listing.store(f"{name}_norm_weight", TensorType(shape=(1, 1, 1, width)))
    shape = (1, 1, listing.work.rows, width)
    request = NormRequest(name=f"{name}_norm", inputs=(x, weight), shape=shape, epsilon=eps * rank / width)
    (y,) = listing.add(request)
    return y


def _turned(listing: HeadsListing, name: str, x: str, heads: int, dim: int, tables: tuple[str, ...]) -> str:
    if not tables:
        return x
    work = listing.work
    request = RotaryRequest(
        name=f"{name}_rotary", inputs=(x, *tables), mode=work.mode, rows=work.rows, heads=heads, head_dim=dim
    )
    (y,) = listing.add(request)
    return y


def _joined(listing: HeadsListing, name: str, parts: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]) -> str:
    (y,) = listing.add(ConcatRequest(name=name, inputs=parts, shapes=shapes, dim=3))
    return y
