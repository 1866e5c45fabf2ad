"""Attention whose query heads share keys and values in groups."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ttt_attention._core import CappedCore, Core, FusedCore
from ttt_attention._head_norm import head_norm_weight
from ttt_attention._keywords import GROUPED, parts_of_spec
from ttt_attention.cache import ContiguousKVCache
from ttt_attention.heads import pack_output, pack_qkv, padded_head_dim, split_heads
from ttt_attention.masks import Masks
from ttt_attention.requests import PROFILES, attention_request
from ttt_attention.rotary import Rotary
from ttt_attention.spec import AttentionSpec
from ttt_core import KVCache, SpecError, Tensor, WeightError
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    ModuleHardwareConfig,
    Overrides,
    Plans,
    TimedByPlans,
    Workload,
    board_of,
    chosen_precision,
    default_config,
    given_or_own,
    on_mesh,
    typical,
)
from ttt_shard_dsl import TILE
from ttt_weights import LazyWeight, Loadable, NoWeight, Source, as_source, or_left_out

__all__ = ["GroupedQueryAttention"]


class GroupedQueryAttention(TimedByPlans, Loadable):
    """softmax(q·kᵀ/√head_dim + causal mask)·v per head, q and k rotated by position, heads joined by the output weight.

    With a soft-cap c scores s become c·tanh(s/c); ttnn's fused attention has none, so it is done step by step.

    Query head i reads key-value head i // (num_heads / num_kv_heads); equal counts are multi-head attention, one key-value
    head is multi-query attention. The columns of a mesh split the heads and sum their outputs.
    Shapes: q [H·hd, D], k and v [KV·hd, D], o [D, H·hd] as transformers stores them, biases [rows], of the output
    [D], head norms [hd]; forwards as in ttt_core.Attention. Made from a spec or its fields as keywords, see `keywords`; without
    weights, for `load` to give them. `dtype` and `cache_dtype` instead of those of `hw_mode`. `plans` of a layer; without, its
    own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: WeightError for a wrong shape or a weight that the spec asks for and that is not given (or the reverse),
    PlacementError for heads that do not split over the mesh, if no config fits the device, or for overrides that are not legal;
    forwards raise SpecError for a page_table.
    Source: arXiv 1706.03762 eq 1, arXiv 2305.13245; LlamaAttention, Qwen2Attention, Qwen3Attention,
    GPTJAttention, GPTNeoXAttention, Gemma2Attention of transformers.
    """

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
        }
        given = or_left_out(type(self).__name__, {**weights, **more}, optional=parts_of_spec(spec))
        _agree(spec.output_bias, (given["o_bias"],), "output_bias", "o_bias")
        chosen = {"qkv_weights": dtype, "output_weights": dtype, "kv_cache": cache_dtype}
        precision = chosen_precision(PROFILES, hw_mode, chosen)
        self.cache_dtype = precision["kv_cache"]
        self.rotary = rotary or Rotary(spec.rope, head_dim=spec.head_dim, context=spec.max_context, device=device)
        self._device = device
        board = board_of(device)
        chips = self._chips = board.mesh[1]
        local = split_heads(spec, chips)
        self._core: Core = FusedCore()
        if spec.soft_cap is not None:
            masks = masks or Masks(spec, device=device)
            self._core = CappedCore(masks, num_heads=local.num_heads, num_kv_heads=local.num_kv_heads)
        self._plans = given_or_own(
            plans,
            lambda work: attention_request(spec, work, precision),
            board,
            typical=typical(spec.max_context),
            overrides=hw_config_overrides,
        )
        stored, dtypes = self._plans.stored, self._plans.dtypes
        hidden, head_dim = spec.hidden_dim, spec.head_dim
        rows, kv_rows = spec.num_heads * head_dim, spec.num_kv_heads * head_dim
        packed = spec.num_heads * padded_head_dim(head_dim)
        packed_qkv = chips * (local.num_heads + 2 * local.num_kv_heads) * padded_head_dim(head_dim)

        self.qkv = LazyWeight(
            [
                as_source(given["q"], shape=(rows, hidden), name="the query weight"),
                as_source(given["k"], shape=(kv_rows, hidden), name="the key weight"),
                as_source(given["v"], shape=(kv_rows, hidden), name="the value weight"),
            ],
            lambda *weights: pack_qkv(*weights, spec=spec, chips=chips)[None, None],
            shape=(1, 1, hidden, packed_qkv),
            dtype=dtypes["qkv_weight"],
            device=device,
            placement=on_mesh(stored["qkv_weight"], dim=3),
        )
        self.output = LazyWeight(
            [as_source(given["o"], shape=(hidden, rows), name="the output weight")],
            lambda weight: pack_output(weight, spec)[None, None],
            shape=(1, 1, packed, hidden),
            dtype=dtypes["output_weight"],
            device=device,
            placement=on_mesh(stored["output_weight"], dim=2),
        )
        self.bias = self._bias(given["q_bias"], given["k_bias"], given["v_bias"], packed_qkv)
        self.output_bias = self._output_bias(given["o_bias"])
        self.q_norm = self._norm(given["q_norm"], "q", "the query norm's weight")
        self.k_norm = self._norm(given["k_norm"], "k", "the key norm's weight")

    @classmethod
    def get_default_hw_config(cls, device_type: str, mode: HardwareMode = "performance") -> ModuleHardwareConfig:
        """Its dtypes on a board. Errors: DeviceError for an unknown board, PlacementError for an unknown mode."""
        return default_config(PROFILES, device_type, mode)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        optional = (self.bias, self.output_bias, self.q_norm, self.k_norm)
        given = (weight for weight in optional if isinstance(weight, LazyWeight))
        return (self.qkv, self.output, *given, *self.rotary.weights, *self._core.weights)

    def allocate_cache(self, *, users: int, context: int) -> ContiguousKVCache:
        """A zeroed cache for `context` tokens, rounded up to whole tiles, in the dtype that this block was given."""
        rounded = -(-context // TILE) * TILE
        return ContiguousKVCache.allocate(
            self.spec, users=users, context=rounded, device=self._device, dtype=self.cache_dtype
        )

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        _refuse_pages(page_table)
        tokens = x.shape[-2]
        ops = self._plans(Workload(mode="prefill", tokens=tokens, context=tokens))
        qkv = ops["qkv_matmul"](x, self.qkv.tensor, self.bias.tensor)  # [1, 1, S, (H + 2·KV)·hd]
        q, k, v = ops["split_heads"](qkv)  # [1, H, S, hd], 2 × [1, KV, S, hd]
        cos, sin = self.rotary.prefill_tables(ops, positions)
        q = ops.optional("q_norm")(q, self.q_norm.tensor)
        q = ops["q_rotary"](q, cos, sin)
        k = ops.optional("k_norm")(k, self.k_norm.tensor)
        k = ops["k_rotary"](k, cos, sin)
        if cache is not None:
            ops["key_fill"](cache.keys, ops.optional("key_cast")(k), cache.user)
            ops["value_fill"](cache.values, ops.optional("value_cast")(v), cache.user)
        heads = self._core.prefill(ops, q, k, v)  # [1, H, S, hd]
        joined = ops["concat_heads"](heads)  # [1, 1, S, H·hd]
        y = ops["output_matmul"](joined, self.output.tensor, self.output_bias.tensor)  # [1, 1, S, D]
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        _refuse_pages(page_table)
        users, context = x.shape[-2], cache.keys.shape[-2]
        ops = self._plans(Workload(mode="decode", users=users, context=context))
        qkv = ops["qkv_matmul"](x, self.qkv.tensor, self.bias.tensor)  # [1, 1, B, (H + 2·KV)·hd]
        q, k, v = ops["split_heads"](qkv)  # [1, B, H, hd], 2 × [1, B, KV, hd]
        row = self.rotary.decode_row(ops, positions)  # [1, B]
        cos, sin = self.rotary.row_tables(ops, row)
        q = ops.optional("q_norm")(q, self.q_norm.tensor)
        q = ops["q_rotary"](q, cos, sin)
        k = ops.optional("k_norm")(k, self.k_norm.tensor)
        k = ops["k_rotary"](k, cos, sin)
        ops["key_update"](cache.keys, k, positions)
        ops["value_update"](cache.values, v, positions)
        heads = self._core.decode(ops, q, cache, positions, row)  # [1, B, H, hd]
        by_head = ops["transpose_heads"](heads)  # [1, H, B, hd]
        joined = ops["concat_heads"](by_head)  # [1, 1, B, H·hd]
        y = ops["output_matmul"](joined, self.output.tensor, self.output_bias.tensor)  # [1, 1, B, D]
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed

    def _checked(self, spec: AttentionSpec) -> AttentionSpec:
        """The spec, if this class computes it. Errors: SpecError."""
        return spec

    def _bias(
        self, q: Source | Array | None, k: Source | Array | None, v: Source | Array | None, width: int
    ) -> LazyWeight | NoWeight:
        spec, chips = self.spec, self._chips
        rows, kv_rows = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
        _agree(spec.qkv_bias, (q, k, v), "qkv_bias", "q_bias, k_bias and v_bias")
        if q is None or k is None or v is None:
            return NoWeight()
        return LazyWeight(
            [
                as_source(q, shape=(rows,), name="the query bias"),
                as_source(k, shape=(kv_rows,), name="the key bias"),
                as_source(v, shape=(kv_rows,), name="the value bias"),
            ],
            lambda *biases: pack_qkv(*(bias[:, None] for bias in biases), spec=spec, chips=chips)[None, None],
            shape=(1, 1, 1, width),
            dtype=self._plans.dtypes["qkv_bias"],
            device=self._device,
            placement=on_mesh(self._plans.stored["qkv_bias"], dim=3),
        )

    def _output_bias(self, bias: Source | Array | None) -> LazyWeight | NoWeight:
        """Divided by the chips, each of which has it whole, so that their sum has it once."""
        if bias is None:
            return NoWeight()
        hidden, parts = self.spec.hidden_dim, np.float32(self._chips)
        return LazyWeight(
            [as_source(bias, shape=(hidden,), name="the output bias")],
            lambda b: (b / parts).reshape(1, 1, 1, hidden),
            shape=(1, 1, 1, hidden),
            dtype=self._plans.dtypes["output_bias"],
            device=self._device,
            placement=self._plans.stored["output_bias"],
        )

    def _norm(self, weight: Source | Array | None, heads: str, name: str) -> LazyWeight | NoWeight:
        _agree(self.spec.head_norm is not None, (weight,), "head_norm", "q_norm and k_norm")
        if weight is None:
            return NoWeight()
        return head_norm_weight(
            weight,
            spec=self.spec,
            name=name,
            device=self._device,
            dtype=self._plans.dtypes[f"{heads}_norm_weight"],
            placement=self._plans.stored[f"{heads}_norm_weight"],
        )


def _refuse_pages(page_table: Tensor | None) -> None:
    if page_table is not None:
        raise SpecError(
            "GroupedQueryAttention was given a page_table, and reads contiguous caches only: without it the values would be "
            "those of other tokens. Leave it out, and allocate the cache with allocate_cache."
        )


def _agree(wanted: bool, given: tuple[object, ...], field: str, names: str) -> None:
    """The spec and the weights say the same about an optional part."""
    if any((weight is not None) != wanted for weight in given):
        raise WeightError(
            f"the spec's {field} {'asks for' if wanted else 'has no use for'} {names}, of which "
            f"{sum(weight is not None for weight in given)} were given. Give all of them, or change the spec."
        )
