"""Attention whose query heads share keys and values in groups."""

from __future__ import annotations

from typing import Any

import ttnn

from ttt_attention.cache import ContiguousKVCache
from ttt_attention.head_norm import HeadNorm, NoHeadNorm
from ttt_attention.heads import pack_output, pack_qkv, padded_head_dim, split_heads
from ttt_attention.rotary import Rotary
from ttt_attention.spec import AttentionSpec
from ttt_core import KVCache, SpecError, Tensor, WeightError
from ttt_hw import (
    Array,
    DType,
    PlannedMatmul,
    board_of,
    plan_decode_attention,
    plan_prefill_attention,
    plan_reshard,
)
from ttt_shard_dsl import TILE, memory_config
from ttt_weights import LazyWeight, NoWeight, Source, as_source


class GroupedQueryAttention:
    """softmax(q·kᵀ/√head_dim + causal mask)·v per head, q and k rotated by position, heads joined by the output weight.

    Query head i reads key-value head i // (num_heads / num_kv_heads); equal counts are multi-head attention, one key-value
    head is multi-query attention. The columns of a mesh split the heads and sum their outputs.
    Shapes: q [H·hd, D], k and v [KV·hd, D], o [D, H·hd] as transformers stores them, biases [rows], head norms [hd];
    forwards as in ttt_core.Attention. Prefill keeps activations in DRAM, decode in L1 with one user's heads on a core.
    Errors: WeightError for a wrong shape or a weight that the spec asks for and that is not given (or the reverse),
    PlacementError for heads that do not split over the mesh, or if no config fits the device; forwards raise SpecError for a
    page_table.
    Source: arXiv 1706.03762 eq 1, arXiv 2305.13245; LlamaAttention, Qwen2Attention, Qwen3Attention of transformers.
    """

    def __init__(
        self,
        spec: AttentionSpec,
        *,
        q: Source | Array,
        k: Source | Array,
        v: Source | Array,
        o: Source | Array,
        q_bias: Source | Array | None = None,
        k_bias: Source | Array | None = None,
        v_bias: Source | Array | None = None,
        q_norm: Source | Array | None = None,
        k_norm: Source | Array | None = None,
        device: Any,
        dtype: DType = "bfloat8_b",
        cache_dtype: DType = "bfloat8_b",
        rotary: Rotary | None = None,
    ) -> None:
        _refuse_unfused(spec)
        self.spec = spec
        self.cache_dtype: DType = cache_dtype
        self.rotary = rotary or Rotary(spec.rope, head_dim=spec.head_dim, context=spec.max_context, device=device)
        self._device = device
        self._board = board_of(device)
        chips = self._board.mesh[1]
        self._local = split_heads(spec, chips)
        hidden, head_dim = spec.hidden_dim, spec.head_dim
        rows, kv_rows = spec.num_heads * head_dim, spec.num_kv_heads * head_dim
        packed = spec.num_heads * padded_head_dim(head_dim)
        packed_qkv = chips * (self._local.num_heads + 2 * self._local.num_kv_heads) * padded_head_dim(head_dim)

        self.qkv = LazyWeight(
            [
                as_source(q, shape=(rows, hidden), name="the query weight"),
                as_source(k, shape=(kv_rows, hidden), name="the key weight"),
                as_source(v, shape=(kv_rows, hidden), name="the value weight"),
            ],
            lambda *weights: pack_qkv(*weights, spec=spec, chips=chips)[None, None],
            shape=(1, 1, hidden, packed_qkv),
            dtype=dtype,
            device=device,
            placement="1 1 d n@cols in dram",
        )
        self.output = LazyWeight(
            [as_source(o, shape=(hidden, rows), name="the output weight")],
            lambda weight: pack_output(weight, head_dim)[None, None],
            shape=(1, 1, packed, hidden),
            dtype=dtype,
            device=device,
            placement="1 1 n@cols d in dram",
        )
        self.bias = self._bias(q_bias, k_bias, v_bias, packed_qkv)
        self.q_norm = self._norm(q_norm, "the query norm's weight")
        self.k_norm = self._norm(k_norm, "the key norm's weight")
        self._qkv_matmul = PlannedMatmul(
            name="qkv_matmul",
            k=hidden,
            n=packed_qkv // chips,
            weight_dtype=dtype,
            bias_dtype="bfloat16" if spec.qkv_bias else None,
            chip=self._board.chip,
        )
        self._output_matmul = PlannedMatmul(
            name="output_matmul", k=packed // chips, n=hidden, weight_dtype=dtype, chip=self._board.chip
        )
        self._decode_attention = plan_decode_attention(self._board.chip)
        self._decode_program = self._decode_attention.to_ttnn()
        self._decode_kernel = self._decode_attention.kernel.to_ttnn()
        self._sum = plan_reshard("1 1 s d +cols -> 1 1 s d", self._board, shape=(1, 1, TILE, hidden))
        self._prefill_memory = memory_config("1 1 s d in dram", shape=(1, 1, TILE, hidden), device=self._board)
        self._decode_memory = memory_config("1 1 b d in l1", shape=(1, 1, TILE, hidden), device=self._board)
        self._prefill_attention: dict[int, tuple[Any, Any]] = {}

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        bias = (self.bias,) if isinstance(self.bias, LazyWeight) else ()
        return (self.qkv, self.output, *bias, *self.q_norm.weights, *self.k_norm.weights, *self.rotary.weights)

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
        spec, tokens = self.spec, x.shape[-2]
        program, kernel = self._attention_for(tokens)
        qkv = ttnn.linear(  # [1, 1, S, (H + 2·KV)·hd]
            x,
            self.qkv.tensor,
            bias=self.bias.tensor,
            program_config=self._qkv_matmul.for_rows(tokens),
            compute_kernel_config=self._qkv_matmul.kernel,
            memory_config=self._prefill_memory,
        )
        q, k, v = ttnn.experimental.nlp_create_qkv_heads(  # [1, H, S, hd], 2 × [1, KV, S, hd]
            qkv,
            num_heads=self._local.num_heads,
            num_kv_heads=self._local.num_kv_heads,
            transpose_k_heads=False,
            memory_config=self._prefill_memory,
        )
        cos, sin = self.rotary.prefill_tables(positions)
        q = ttnn.experimental.rotary_embedding_hf(self.q_norm.prefill_forward(q), cos, sin, is_decode_mode=False)
        k = ttnn.experimental.rotary_embedding_hf(self.k_norm.prefill_forward(k), cos, sin, is_decode_mode=False)
        if cache is not None:
            ttnn.fill_cache(cache.keys, ttnn.typecast(k, cache.keys.dtype), cache.user)
            ttnn.fill_cache(cache.values, ttnn.typecast(v, cache.values.dtype), cache.user)
        heads = ttnn.transformer.scaled_dot_product_attention(  # [1, H, S, hd]
            q,
            k,
            v,
            is_causal=True,
            scale=spec.scale,
            sliding_window_size=spec.window,
            program_config=program,
            compute_kernel_config=kernel,
        )
        joined = ttnn.experimental.nlp_concat_heads(heads, memory_config=self._prefill_memory)  # [1, 1, S, H·hd]
        y = ttnn.linear(
            joined,
            self.output.tensor,
            program_config=self._output_matmul.for_rows(tokens),
            compute_kernel_config=self._output_matmul.kernel,
            memory_config=self._prefill_memory,
        )
        summed: Tensor = self._sum(y)
        return summed

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        _refuse_pages(page_table)
        spec, users = self.spec, x.shape[-2]
        memory = self._decode_memory
        qkv = ttnn.linear(  # [1, 1, B, (H + 2·KV)·hd]
            x,
            self.qkv.tensor,
            bias=self.bias.tensor,
            program_config=self._qkv_matmul.for_rows(users),
            compute_kernel_config=self._qkv_matmul.kernel,
            memory_config=memory,
        )
        q, k, v = ttnn.experimental.nlp_create_qkv_heads_decode(  # [1, B, H, hd], 2 × [1, B, KV, hd]
            qkv,
            num_heads=self._local.num_heads,
            num_kv_heads=self._local.num_kv_heads,
            memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        )
        cos, sin = self.rotary.decode_tables(positions)
        q = ttnn.experimental.rotary_embedding_hf(self.q_norm.decode_forward(q), cos, sin, is_decode_mode=True)
        k = ttnn.experimental.rotary_embedding_hf(self.k_norm.decode_forward(k), cos, sin, is_decode_mode=True)
        ttnn.experimental.paged_update_cache(cache.keys, k, update_idxs_tensor=positions)
        ttnn.experimental.paged_update_cache(cache.values, v, update_idxs_tensor=positions)
        heads = ttnn.transformer.scaled_dot_product_attention_decode(  # [1, B, H, hd]
            q,
            cache.keys,
            cache.values,
            cur_pos_tensor=positions,
            scale=spec.scale,
            sliding_window_size=spec.window,
            program_config=self._decode_program,
            compute_kernel_config=self._decode_kernel,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        by_head = ttnn.transpose(heads, 1, 2, memory_config=memory)  # [1, H, B, hd]
        joined = ttnn.experimental.nlp_concat_heads(by_head, memory_config=memory)  # [1, 1, B, H·hd]
        y = ttnn.linear(
            joined,
            self.output.tensor,
            program_config=self._output_matmul.for_rows(users),
            compute_kernel_config=self._output_matmul.kernel,
            memory_config=memory,
        )
        summed: Tensor = self._sum(y)
        return summed

    def _bias(
        self, q: Source | Array | None, k: Source | Array | None, v: Source | Array | None, width: int
    ) -> LazyWeight | NoWeight:
        spec, chips = self.spec, self._board.mesh[1]
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
            dtype="bfloat16",
            device=self._device,
            placement="1 1 1 n@cols in dram",
        )

    def _norm(self, weight: Source | Array | None, name: str) -> HeadNorm | NoHeadNorm:
        _agree(self.spec.head_norm is not None, (weight,), "head_norm", "q_norm and k_norm")
        if weight is None or self.spec.head_norm is None:
            return NoHeadNorm()
        return HeadNorm(self.spec.head_norm, weight, head_dim=self.spec.head_dim, name=name, device=self._device)

    def _attention_for(self, tokens: int) -> tuple[Any, Any]:
        if tokens not in self._prefill_attention:
            config = plan_prefill_attention(tokens, self._board.chip)
            self._prefill_attention[tokens] = config.to_ttnn(), config.kernel.to_ttnn()
        return self._prefill_attention[tokens]


def _refuse_pages(page_table: Tensor | None) -> None:
    if page_table is not None:
        raise SpecError(
            "GroupedQueryAttention was given a page_table, and reads contiguous caches only: without it the values would be "
            "those of other tokens. Leave it out, and allocate the cache with allocate_cache."
        )


def _refuse_unfused(spec: AttentionSpec) -> None:
    """What the fused attention of ttnn, or this forward, has no place for; Rotary refuses other rotations."""
    for asked, name in ((spec.soft_cap is not None, "soft_cap"), (spec.output_bias, "output_bias")):
        if asked:
            raise SpecError(
                f"GroupedQueryAttention cannot do {name}={getattr(spec, name)}, and without it the values would be others. "
                "Use a block that can."
            )


def _agree(wanted: bool, given: tuple[object, ...], field: str, names: str) -> None:
    """The spec and the weights say the same about an optional part."""
    if any((weight is not None) != wanted for weight in given):
        raise WeightError(
            f"the spec's {field} {'asks for' if wanted else 'has no use for'} {names}, of which "
            f"{sum(weight is not None for weight in given)} were given. Give all of them, or change the spec."
        )
