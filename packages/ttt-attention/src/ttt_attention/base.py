"""Attention: projections, heads, positions and caches around scores, softmax and values."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from ttt_attention._core import Core, CustomCore, FusedCore, StepwiseCore
from ttt_attention._given import held, there
from ttt_attention._keywords import GROUPED, parts_of_spec
from ttt_attention._weights import Made, WeightMaker
from ttt_attention.cache import ContiguousKVCache
from ttt_attention.heads import split_heads
from ttt_attention.masks import Masks
from ttt_attention.paged import PagedKVCache
from ttt_attention.requests import PROFILES, attention_request
from ttt_attention.rotary import Rotary
from ttt_attention.spec import AttentionSpec
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

__all__ = ["BaseAttention"]

AttentionT = TypeVar("AttentionT", bound="BaseAttention")


class BaseAttention(PlannedBlock, Loadable):
    """Attention of which a subclass may compute scores, softmax and values itself; all else is here.

    softmax(q·kᵀ · scale + mask)·v per head, as its spec says, heads joined by the output weight.

    Everything that a spec says is done by ttnn's fused attention, or step by step where that does not know it. A subclass that
    defines `compute_attention` computes scores, softmax and values itself, and needs nothing else: projections, heads,
    positions, caches, meshes and plans are here.

    Query head i reads key-value head i // (num_heads / num_kv_heads); equal counts are multi-head attention, one key-value
    head is multi-query attention. The columns of a mesh split the heads and sum their outputs.
    Shapes: q [H·hd, D], k and v [KV·hd, D], o [D, H·hd] as transformers stores them, biases [rows], of the output
    [D], head norms [hd] or [heads·hd], gate [H·hd or H, D], sinks [H]; forwards as in ttt_core.Attention, with a page table as
    in ttt_core.Paged. Made from a spec or its fields as keywords, see `keywords`; without weights, for `load` to give them.
    `dtype` and `cache_dtype` instead of those of `hw_mode`. `plans` of a layer; without, its own, with activations interleaved
    in DRAM in prefill and in L1 in decode.
    Errors: WeightError for a wrong shape or a weight that the spec asks for and that is not given (or the reverse),
    PlacementError for heads that do not split over the mesh, if no config fits the device, or for overrides that are not legal;
    forwards raise SpecError for pages, or a prompt that goes on, where the fused attention does not do the work.
    Source: arXiv 1706.03762 eq 1, arXiv 2305.13245; the …Attention modules of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = GROUPED

    def __init__(
        self,
        spec: AttentionSpec | None = None,
        *,
        q: Source | Array | None = None,
        k: Source | Array | None = None,
        v: Source | Array | None = None,
        o: Source | Array | None = None,
        q_bias: Source | Array | None = None,
        k_bias: Source | Array | None = None,
        v_bias: Source | Array | None = None,
        o_bias: Source | Array | None = None,
        q_norm: Source | Array | None = None,
        k_norm: Source | Array | None = None,
        q_norm_bias: Source | Array | None = None,
        k_norm_bias: Source | Array | None = None,
        gate: Source | Array | None = None,
        sinks: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        cache_dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        rotary: Rotary | None = None,
        masks: Masks | None = None,
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self._checked(self.keywords(spec, fields, block=type(self).__name__))
        weights = {"q": q, "k": k, "v": v, "o": o}
        more = {
            "q_bias": q_bias,
            "k_bias": k_bias,
            "v_bias": v_bias,
            "o_bias": o_bias,
            "q_norm": q_norm,
            "k_norm": k_norm,
            "q_norm_bias": q_norm_bias,
            "k_norm_bias": k_norm_bias,
            "gate": gate,
            "sinks": sinks,
        }
        given = or_left_out(type(self).__name__, {**weights, **more}, optional=parts_of_spec(spec))
        chosen = {"qkv_weights": dtype, "output_weights": dtype, "kv_cache": cache_dtype}
        precision = chosen_precision(PROFILES, hw_mode, chosen)
        self.cache_dtype = precision["kv_cache"]
        self.rotary = rotary or Rotary.of(spec, device=device)
        self._device = device
        custom = self._custom()
        self._masks = masks or (Masks(spec, device=device) if custom or spec.stepwise else None)
        self._core = self._core_of(spec)
        self._gate = _ungated if spec.output_gate is None else _gated
        self._plans = given_or_own(
            plans,
            lambda work: attention_request(spec, work, precision, custom=custom),
            board_of(device),
            typical=typical(spec.max_context)[1 - spec.causal :],  # what is not causal does not decode
            overrides=hw_config_overrides,
        )
        make = WeightMaker(spec, given, self._plans, device=device)
        self.qkv, self.output = make.qkv(), make.output()
        self.bias, self.output_bias = make.qkv_bias(), make.output_bias()
        self.q_norm, self.k_norm = make.norm("q"), make.norm("k")
        self.q_norm_bias, self.k_norm_bias = make.norm_bias("q"), make.norm_bias("k")
        self.q_norm_heads, self.k_norm_heads = (make.norm_by_head(name, rows=False) for name in "qk")
        self.q_norm_rows, self.k_norm_rows = (make.norm_by_head(name, rows=True) for name in "qk")
        self.gate = make.gate()
        self.sinks, self.sink_rows = make.sinks(rows=False), make.sinks(rows=True)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        own = [value for value in vars(self).values() if isinstance(value, LazyWeight)]
        return (*own, *self.rotary.weights, *self._core.weights)

    def allocate_cache(self, *, users: int, context: int) -> ContiguousKVCache:
        """A zeroed cache for `context` tokens, rounded up to whole tiles, in the dtype that this block was given."""
        rounded = -(-context // TILE) * TILE
        return ContiguousKVCache.allocate(
            self.spec, users=users, context=rounded, device=self._device, dtype=self.cache_dtype
        )

    def allocate_paged_cache(self, *, blocks: int, block: int = TILE) -> PagedKVCache:
        """Zeroed blocks of `block` tokens, in the dtype that this block was given."""
        return PagedKVCache.allocate(self.spec, blocks=blocks, block=block, device=self._device, dtype=self.cache_dtype)

    def compute_attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        """What a subclass may compute otherwise, of a prompt or of a step: softmax(q·kᵀ · scale + mask)·v.

        Shapes, of one chip: q [B, H, Sq, hd], k and v [B, H, Sk, hd], repeated for the query heads that share them, mask
        [B or 1, 1, Sq, Sk] with 0 for what a query sees and -1e9 for the rest → q's shape. In prefill B is 1 and Sq = Sk = S,
        in decode Sq is 1 and Sk what the cache holds, of its dtype. hd is padded with zeros to whole tiles; the scale is
        `self.spec.scale`. ttnn tensors in tiles, in DRAM.
        """
        import ttnn

        scores = ttnn.matmul(q, ttnn.transpose(k, -2, -1))
        masked = ttnn.add(ttnn.multiply(scores, self.spec.scale), mask)
        return ttnn.matmul(ttnn.softmax(masked, dim=-1, numeric_stable=True), v)

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        work = prompt_workload(x, cache, page_table)
        keys, values, user, slot = held(cache)
        return self._prefill(self._plans(work), work, x, positions, page_table, keys, values, user, slot)

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        ops = self._plans(step_workload(x, cache, page_table))
        return self._decode(ops, x, positions, page_table, cache.keys, cache.values)

    @straight_line
    def _prefill(
        self,
        ops: Operations,
        work: Workload,
        x: Tensor,
        positions: Tensor,
        page_table: Tensor | None,
        keys: Tensor | None,
        values: Tensor | None,
        user: int | None,
        slot: Tensor | None,
    ) -> Tensor:
        q, k, v = ops["split_heads"](self._projected(ops, x))  # [1, H, S, hd], 2 × [1, KV, S, hd]
        tables = self.rotary.prefill_tables(ops, positions, work.start + work.tokens)
        q = _turned(ops, "q", q, self.q_norm, self.q_norm_bias, self.q_norm_heads, tables.q_cos, tables.q_sin)
        k = _turned(ops, "k", k, self.k_norm, self.k_norm_bias, self.k_norm_heads, tables.cos, tables.sin)
        k, v, pages = _filled(ops, work, page_table, k, v, keys, values, user, slot)
        heads = self._core.prefill(ops, q, k, v, there(*pages, self.sinks.tensor))  # [1, H, S, hd]
        return self._joined(ops, x, heads)

    @straight_line
    def _decode(
        self,
        ops: Operations,
        x: Tensor,
        positions: Tensor,
        page_table: Tensor | None,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        q, k, v = ops["split_heads"](self._projected(ops, x))  # [1, B, H, hd], 2 × [1, B, KV, hd]
        row = self.rotary.decode_row(ops, positions)  # [1, B]
        tables = self.rotary.row_tables(ops, row)
        q = _turned(ops, "q", q, self.q_norm, self.q_norm_bias, self.q_norm_rows, tables.q_cos, tables.q_sin)
        k = _turned(ops, "k", k, self.k_norm, self.k_norm_bias, self.k_norm_rows, tables.cos, tables.sin)
        ops["key_update"](keys, k, positions, page_table)
        ops["value_update"](values, v, positions, page_table)
        others = there(page_table, self.sink_rows.tensor)
        heads = self._core.decode(ops, q, (keys, values), positions, row, others)  # [1, B, H, hd]
        return self._joined(ops, x, ops["transpose_heads"](heads))  # [1, H, B, hd]

    def _projected(self, ops: Operations, x: Tensor) -> Tensor:
        """[1, 1, rows, (H + 2·KV)·hd]; a norm over all heads of q and of k cuts them out and joins them again."""
        qkv = ops["qkv_matmul"](x, self.qkv.tensor, self.bias.tensor)
        qkv = ops.optional("qkv_sum")(qkv)
        qkv = ops.optional("qkv_clip")(qkv)
        q = ops.optional("q_columns")(qkv)
        q = ops.optional("q_whole_norm")(q, self.q_norm.tensor, self.q_norm_bias.tensor)
        k = ops.optional("k_columns")(qkv)
        k = ops.optional("k_whole_norm")(k, self.k_norm.tensor, self.k_norm_bias.tensor)
        joined: Tensor = ops.optional("qkv_joined")(q, k, ops.optional("v_columns")(qkv))
        return joined

    def _joined(self, ops: Operations, x: Tensor, heads: Tensor) -> Tensor:
        """Heads [1, H, rows, hd] → [1, 1, rows, D]; a gate reads what the projections read."""
        joined = ops["concat_heads"](heads)  # [1, 1, rows, H·hd]
        joined = self._gate(ops, x, self.gate.tensor, joined)
        y = ops["output_matmul"](joined, self.output.tensor, self.output_bias.tensor)
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed

    def _checked(self, spec: AttentionSpec) -> AttentionSpec:
        """What kinds of attention demand of their specs."""
        return spec

    def another(self: AttentionT) -> AttentionT:
        """A block that computes the same by the same plans. Weights that were left out are its own to load, the others shared."""
        made = super().another()
        made._core = made._core_of(self.spec)
        return made

    @classmethod
    def _custom(cls) -> bool:
        return cls.compute_attention is not BaseAttention.compute_attention

    def _core_of(self, spec: AttentionSpec) -> Core:
        if self._masks is None:
            return FusedCore()
        local = split_heads(spec, board_of(self._device).mesh[1])
        if self._custom():
            return CustomCore(self.compute_attention, self._masks, groups=local.num_heads // local.num_kv_heads)
        return StepwiseCore(self._masks, num_heads=local.num_heads, num_kv_heads=local.num_kv_heads)


def _ungated(ops: Operations, x: Tensor, weight: Tensor | None, joined: Tensor) -> Tensor:
    return joined


def _gated(ops: Operations, x: Tensor, weight: Tensor | None, joined: Tensor) -> Tensor:
    scores = ops.optional("gate_sum")(ops["gate_matmul"](x, weight))
    gated: Tensor = ops["gated_heads"](scores, joined)
    return gated


def _turned(
    ops: Operations,
    name: str,
    x: Tensor,
    norm: Made,
    bias: Made,
    own: Made,
    cos: Tensor | None,
    sin: Tensor | None,
) -> Tensor:
    """q or k, normalised before or after it is turned, as its operations say."""
    x = ops.optional(f"{name}_norm")(x, norm.tensor, bias.tensor)
    x = ops.optional(f"{name}_norm_weighted")(x, own.tensor)
    x = ops.optional(f"{name}_rotary")(x, cos, sin)
    x = ops.optional(f"{name}_turned_norm")(x, norm.tensor, bias.tensor)
    x = ops.optional(f"{name}_turned_norm_weighted")(x, own.tensor)
    return x


def _filled(
    ops: Operations,
    work: Workload,
    page_table: Tensor | None,
    k: Tensor,
    v: Tensor,
    keys: Tensor | None,
    values: Tensor | None,
    user: int | None,
    slot: Tensor | None,
) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
    """Keys and values, written to the cache, as the attention reads them: of a prompt that goes on those of the cache, with
    the page table by which it does."""
    if keys is None or values is None:
        return k, v, ()
    target = user if page_table is None else ops.optional("pages_ahead")(page_table)
    ops["key_fill"](keys, ops.optional("key_cast")(k), target)
    ops["value_fill"](values, ops.optional("value_cast")(v), target)
    if work.start:
        return keys, values, (slot if page_table is None else page_table,)
    return k, v, ()
