"""Attention whose cache has one latent a token."""

from __future__ import annotations

from typing import Any, ClassVar

from ttt_attention._given import held, there
from ttt_attention._keywords import LATENT, parts_of_latent_spec
from ttt_attention._latent_weights import LatentWeightMaker
from ttt_attention.cache import ContiguousKVCache
from ttt_attention.latent_requests import latent_attention_request
from ttt_attention.latent_spec import LatentAttentionSpec
from ttt_attention.paged import PagedKVCache
from ttt_attention.requests import PROFILES
from ttt_attention.rotary import Rotary
from ttt_core import KVCache, Tensor
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    Workload,
    board_of,
    chosen_precision,
    given_or_own,
    prompt_workload,
    step_workload,
    straight_line,
    typical,
)
from ttt_shard_dsl import TILE
from ttt_weights import LazyWeight, Loadable, Source, or_left_out

__all__ = ["MultiLatentAttention"]


class MultiLatentAttention(PlannedBlock, Loadable):
    """Attention whose keys and values are made of one latent a token, which is all that its cache holds.

    softmax((q_nope·W_uk c + q_rope·k_rope) · scale)·W_uv c per head, heads joined by the output weight; c is a token's
    latent, RMSNorm(W_kv_down x), and k_rope its one turned key, which together are all that the cache has of it.

    W_uk multiplies the query and W_uv what attention gives, so keys and values are never made. The columns of a mesh split the
    heads and sum their outputs; each chip makes and keeps all latents.
    Shapes: q_down [q_rank, D], q_norm [q_rank], q_up [H·(nope + rope), q_rank], without a q_rank instead q [H·(nope + rope), D];
    kv_down [kv_rank + rope, D], kv_norm [kv_rank], kv_up [H·(nope + v), kv_rank], o [D, H·v] as transformers stores them (q_a,
    q_b, kv_a, kv_b there), biases [rows]: q_bias of q_down, kv_bias of kv_down, o_bias. Forwards as in ttt_core.Attention, with
    a page table as in ttt_core.Paged. Made from a spec or its fields as keywords; without weights, for `load` to give them.
    `dtype` and `cache_dtype` instead of those of `hw_mode`. `plans` of a layer; without, its own, with activations interleaved
    in DRAM in prefill and in L1 in decode.
    Errors: WeightError for a wrong shape or a weight that the spec asks for and that is not given (or the reverse),
    PlacementError for heads that do not split over the mesh, for chips that split the hidden dim, if no config fits the device,
    or for overrides that are not legal.
    Source: arXiv 2405.04434 section 2.1; DeepseekV3Attention, LongcatFlashMLA of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = LATENT

    def __init__(
        self,
        spec: LatentAttentionSpec | None = None,
        *,
        q: Source | Array | None = None,
        q_down: Source | Array | None = None,
        q_norm: Source | Array | None = None,
        q_up: Source | Array | None = None,
        kv_down: Source | Array | None = None,
        kv_norm: Source | Array | None = None,
        kv_up: Source | Array | None = None,
        o: Source | Array | None = None,
        q_bias: Source | Array | None = None,
        kv_bias: Source | Array | None = None,
        o_bias: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        cache_dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        rotary: Rotary | None = None,
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        queries = {"q": q, "q_down": q_down, "q_norm": q_norm, "q_up": q_up, "q_bias": q_bias}
        latents = {"kv_down": kv_down, "kv_norm": kv_norm, "kv_up": kv_up, "kv_bias": kv_bias}
        weights = {**queries, **latents, "o": o, "o_bias": o_bias}
        given = or_left_out(type(self).__name__, weights, optional=parts_of_latent_spec(spec))
        chosen = {"qkv_weights": dtype, "output_weights": dtype, "kv_cache": cache_dtype}
        precision = chosen_precision(PROFILES, hw_mode, chosen)
        self.cache_dtype = precision["kv_cache"]
        self.rotary = rotary or Rotary.of(spec.turning, device=device)
        self._device = device
        self._plans = given_or_own(
            plans,
            lambda work: latent_attention_request(spec, work, precision),
            board_of(device),
            typical=typical(spec.max_context),
            overrides=hw_config_overrides,
        )
        make = LatentWeightMaker(spec, given, self._plans, device=device)
        self.q_down, self.q_bias, self.q_norm = make.q_down(), make.q_bias(), make.q_norm()
        self.q_up, self.key_up, self.value_up = make.q_up(), make.key_up(), make.value_up()
        self.kv_down, self.kv_bias, self.kv_norm = make.kv_down(), make.kv_bias(), make.kv_norm()
        self.output, self.output_bias = make.output(), make.output_bias()

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        own = [value for value in vars(self).values() if isinstance(value, LazyWeight)]
        return (*own, *self.rotary.weights)

    def allocate_cache(self, *, users: int, context: int) -> ContiguousKVCache:
        """A zeroed cache for `context` tokens, rounded up to whole tiles, in the dtype that this block was given."""
        rounded = -(-context // TILE) * TILE
        return ContiguousKVCache.allocate(
            self.spec, users=users, context=rounded, device=self._device, dtype=self.cache_dtype
        )

    def allocate_paged_cache(self, *, blocks: int, block: int = TILE) -> PagedKVCache:
        """Zeroed blocks of `block` tokens, in the dtype that this block was given."""
        return PagedKVCache.allocate(self.spec, blocks=blocks, block=block, device=self._device, dtype=self.cache_dtype)

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        work = prompt_workload(x, cache, page_table)
        rows, _, user, slot = held(cache)
        return self._prefill(self._plans(work), work, x, positions, page_table, rows, user, slot)

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        return self._decode(self._plans(step_workload(x, cache, page_table)), x, positions, page_table, cache.keys)

    @straight_line
    def _prefill(
        self,
        ops: Operations,
        work: Workload,
        x: Tensor,
        positions: Tensor,
        page_table: Tensor | None,
        rows: Tensor | None,
        user: int | None,
        slot: Tensor | None,
    ) -> Tensor:
        tables = self.rotary.prefill_tables(ops, positions, work.start + work.tokens)
        q = self._queries(ops, x, tables.cos, tables.sin)  # [1, H, S, kv_rank + rope]
        row = self._row(ops, x, tables.cos, tables.sin)  # [1, 1, S, kv_rank + rope]
        attended = ops["attention"](q, *_kept(ops, work, page_table, row, rows, user, slot))  # [1, H, S, kv_rank]
        return self._joined(ops, attended)

    @straight_line
    def _decode(self, ops: Operations, x: Tensor, positions: Tensor, page_table: Tensor | None, rows: Tensor) -> Tensor:
        tables = self.rotary.decode_tables(ops, positions)
        q = self._queries(ops, x, tables.cos, tables.sin)  # [1, B, H, kv_rank + rope]
        row = self._row(ops, x, tables.cos, tables.sin)  # [1, B, 1, kv_rank + rope]
        ops["kv_row_update"](rows, row, positions, page_table)
        attended = ops["attention"](q, rows, positions, *there(page_table))  # [1, B, H, kv_rank]
        return self._joined(ops, ops["transpose_heads"](attended))

    def _queries(self, ops: Operations, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        """What of each head does not turn, times W_uk, beside what does."""
        c = ops.optional("q_down_matmul")(x, self.q_down.tensor, self.q_bias.tensor)
        c = ops.optional("q_latent_norm")(c, self.q_norm.tensor)
        q = ops["q_columns"](ops["q_up_matmul"](c, self.q_up.tensor))
        q = ops["q_heads"](ops["q_cut"](q))  # [1, H, rows, nope + rope]
        nope, rope = ops["q_nope"](q), ops["q_rope"](q)
        absorbed = ops["q_absorbed"](nope, self.key_up.tensor)  # [1, H, rows, kv_rank]
        absorbed = ops.optional("q_absorbed_by_user")(absorbed)
        rope = ops.optional("q_rope_by_user")(rope)
        rope = ops.optional("q_rotary")(rope, cos, sin)
        joined: Tensor = ops["q_joined"](absorbed, rope)
        return joined

    def _row(self, ops: Operations, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        """A token's latent beside its turned key."""
        down = ops["kv_down_matmul"](x, self.kv_down.tensor, self.kv_bias.tensor)
        latent, rope = ops["kv_latent"](down), ops["k_rope"](down)
        latent = ops["kv_latent_norm"](latent, self.kv_norm.tensor)
        latent = ops.optional("kv_latent_by_user")(latent)
        rope = ops.optional("k_rope_by_user")(rope)
        rope = ops.optional("k_rotary")(rope, cos, sin)
        row: Tensor = ops["kv_row"](latent, rope)
        return row

    def _joined(self, ops: Operations, attended: Tensor) -> Tensor:
        """What attention gives, [1, H, rows, kv_rank] → [1, 1, rows, D]."""
        heads = ops["attended_values"](attended, self.value_up.tensor)  # [1, H, rows, v]
        y = ops["output_matmul"](ops["concat_heads"](heads), self.output.tensor, self.output_bias.tensor)
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed


def _kept(
    ops: Operations,
    work: Workload,
    page_table: Tensor | None,
    row: Tensor,
    rows: Tensor | None,
    user: int | None,
    slot: Tensor | None,
) -> tuple[Tensor, ...]:
    """What attention reads of a prompt, once it is in the cache: itself, or where the prompt goes on the cache, with the page
    table by which it does."""
    if rows is None:
        return (row,)
    target = user if page_table is None else ops.optional("pages_ahead")(page_table)
    ops["kv_row_fill"](rows, ops.optional("kv_row_cast")(row), target)
    if work.start:
        return (rows, *there(slot if page_table is None else page_table))
    return (row,)
