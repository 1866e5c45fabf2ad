"""Golden functions that ttnn lacks, or that must behave differently here.

Each stands for one ttnn operation: arguments of the same names, torch tensors in place of ttnn ones, the value that the
kernel computes. An argument that a golden does not know is a TypeError: it might change the value.
Letters: B users, H query heads, KV key-value heads, S tokens, C context, hd head dim.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import ttnn

from ttt_core import GoldenError
from ttt_testing._goldens_activations import activated, add, linear, multiply, unary_chain

Golden = Callable[..., Any]


def nlp_create_qkv_heads(
    input: torch.Tensor, input_kv: torch.Tensor | None = None, *, num_heads: int, num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
) -> list[torch.Tensor]:  # fmt: skip
    """input [B, 1, S, (H + 2·KV)·hd], columns q | k | v → q [B, H, S, hd], k and v [B, KV, S, hd]; k as [.., hd, S] if
    transposed. With input_kv, input has the columns q and input_kv k | v.

    Stands for ttnn.experimental.nlp_create_qkv_heads (kernels of transformer/nlp_create_qkv_heads).
    """
    x = input if input_kv is None else torch.cat([input, input_kv], -1)
    groups = num_heads if num_kv_heads is None else num_kv_heads
    batch, _one, tokens, width = x.shape
    heads = x.reshape(batch, tokens, -1, width // (num_heads + 2 * groups)).transpose(1, 2)
    q, k, v = heads.split([num_heads, groups, groups], dim=1)
    return [q, k.transpose(-1, -2) if transpose_k_heads else k, v]


def nlp_create_qkv_heads_decode(
    input_tensor: torch.Tensor, *, num_heads: int, num_kv_heads: int | None = None
) -> list[torch.Tensor]:
    """input_tensor [1, 1, B, (H + 2·KV)·hd] → q [1, B, H, hd], k and v [1, B, KV, hd].

    Stands for ttnn.experimental.nlp_create_qkv_heads_decode (kernels of transformer/nlp_create_qkv_heads_decode).
    """
    groups = num_heads if num_kv_heads is None else num_kv_heads
    _one, _one, users, width = input_tensor.shape
    heads = input_tensor.reshape(1, users, num_heads + 2 * groups, width // (num_heads + 2 * groups))
    return list(heads.split([num_heads, groups, groups], dim=2))


def nlp_concat_heads(input_tensor: torch.Tensor) -> torch.Tensor:
    """input_tensor [B, H, S, hd] → [B, 1, S, H·hd]. Stands for ttnn.experimental.nlp_concat_heads."""
    batch, heads, tokens, head_dim = input_tensor.shape
    return input_tensor.transpose(1, 2).reshape(batch, 1, tokens, heads * head_dim)


def nlp_concat_heads_decode(input_tensor: torch.Tensor, *, num_heads: int) -> torch.Tensor:
    """input_tensor [1, B, H padded, hd] → [1, 1, 32, H·hd]: rows beyond the B users are padding that the device counts as rows.

    Stands for ttnn.experimental.nlp_concat_heads_decode (kernels of transformer/nlp_concat_heads_decode).
    """
    _one, users, _padded, head_dim = input_tensor.shape
    rows = input_tensor[:, :, :num_heads].reshape(1, 1, users, num_heads * head_dim)
    return torch.nn.functional.pad(rows, (0, 0, 0, -users % ttnn.TILE_SIZE))


def rotary_embedding_hf(
    input_tensor: torch.Tensor, cos_cache: torch.Tensor, sin_cache: torch.Tensor, *, is_decode_mode: bool = False
) -> torch.Tensor:
    """x·cos + rotate_half(x)·sin, rotate_half([a | b]) = [−b | a]; x [1, H, S, hd] with cos [1, 1, S, hd], or in decode
    x [1, B, H, hd] with cos [1, B, 1, hd].

    Stands for ttnn.experimental.rotary_embedding_hf (kernels of transformer/rotary_embedding_hf). [arXiv 2104.09864 eq 34]
    """
    x, cos, sin = input_tensor, cos_cache, sin_cache
    if not is_decode_mode:
        cos, sin = cos[..., : x.shape[-2], :], sin[..., : x.shape[-2], :]
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def paged_update_cache(
    cache_tensor: torch.Tensor, input_tensor: torch.Tensor, *, update_idxs: Any = (),
    update_idxs_tensor: torch.Tensor | None = None, page_table: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Write input_tensor [1, B, KV padded, hd] into the cache in place, user b's row at its own index; none if it is negative.

    The cache is [B, KV, C, hd], or [blocks, KV, block, hd] with page_table [B, blocks per user].
    Stands for ttnn.experimental.paged_update_cache (kernels of paged_cache/update_cache).
    """
    indices = update_idxs if update_idxs_tensor is None else update_idxs_tensor.reshape(-1).tolist()
    kv_heads, block = cache_tensor.shape[1], cache_tensor.shape[2]
    for user, index in enumerate(indices):
        if index < 0:
            continue
        slot, row = (user, index) if page_table is None else (int(page_table[user, index // block]), index % block)
        cache_tensor[slot, :, row] = input_tensor[0, user, :kv_heads]
    return cache_tensor


def paged_fill_cache(
    cache_tensor: torch.Tensor, input_tensor: torch.Tensor, page_table: torch.Tensor, *, batch_idx: int = 0
) -> torch.Tensor:
    """Write input_tensor [1, KV, S, hd] into the cache [blocks, KV, block, hd] in place, token t into row t mod block of block
    page_table[batch_idx, t // block]; none where that is negative.

    Stands for ttnn.experimental.paged_fill_cache (kernels of paged_cache/fill_cache).
    """
    block = cache_tensor.shape[2]
    for first in range(0, input_tensor.shape[-2], block):
        page, rows = int(page_table[batch_idx, first // block]), input_tensor[0, :, first : first + block]
        if page >= 0:
            cache_tensor[page, :, : rows.shape[1]] = rows
    return cache_tensor


def fill_cache(
    cache_tensor: torch.Tensor, input_tensor: torch.Tensor, batch_idx: int, *, update_idx: int = 0
) -> torch.Tensor:
    """Write input_tensor [1, KV, S, hd] into slot batch_idx of the cache [B, KV, C, hd] in place, from row update_idx on.

    Stands for ttnn.fill_cache (kernels of kv_cache/update_cache).
    """
    cache_tensor[batch_idx, :, update_idx : update_idx + input_tensor.shape[-2]] = input_tensor[0]
    return cache_tensor


def reshape(input_tensor: torch.Tensor, shape: Any, padded_shape: Any = None) -> torch.Tensor:
    """ttnn.reshape; with a padded shape too it reinterprets the rows of the last tile as logical rows or as padding."""
    shape = tuple(shape)
    if padded_shape is None:
        return input_tensor.reshape(shape)
    rows, held = shape[-2], input_tensor.shape[-2]
    return (
        input_tensor[..., :rows, :] if rows <= held else torch.nn.functional.pad(input_tensor, (0, 0, 0, rows - held))
    )


def typecast(
    input_tensor: torch.Tensor, *dtypes: Any, dtype: Any = None, input_dtype: Any = None, output_dtype: Any = None
) -> torch.Tensor:
    """ttnn.typecast: ttnn's own golden for integers; a floating target is left to the shadow's rounding."""
    *_, target = (given for given in (*dtypes, dtype, output_dtype) if given is not None)
    if target in (ttnn.float32, ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b):
        return input_tensor.to(torch.float32)
    integers: torch.Tensor = ttnn.get_golden_function(ttnn.typecast)(input_tensor, target)
    return integers.to(torch.int64)


def minimal_matmul(
    input_tensor: torch.Tensor, weight_tensor: torch.Tensor, bias_tensor: torch.Tensor | None = None,
    fused_activation: Any = None, config: Any = None,
) -> torch.Tensor:  # fmt: skip
    """activation(input_tensor @ weight_tensor + bias_tensor); `config` says how.

    Stands for ttnn.experimental.minimal_matmul (kernels of experimental/minimal_matmul).
    """
    product = input_tensor @ weight_tensor
    if bias_tensor is not None:
        product = product + bias_tensor
    if fused_activation is None:
        return product
    return activated(product, [fused_activation])


def fast_reduce_nc(input: torch.Tensor, *, dims: Any) -> torch.Tensor:
    """Σ input [N, C, H, W] over dims 0 or 1, which stay with size 1; H and W become those of whole tiles, as the device counts.

    Stands for ttnn.experimental.fast_reduce_nc (kernels of experimental/reduction/fast_reduce_nc).
    """
    y = input.sum(tuple(dims), keepdim=True)
    return torch.nn.functional.pad(y, (0, -y.shape[-1] % ttnn.TILE_SIZE, 0, -y.shape[-2] % ttnn.TILE_SIZE))


def rms_norm_pre_all_gather(
    input_tensor: torch.Tensor, *, residual_input_tensor: torch.Tensor | None = None, program_config: Any = None
) -> torch.Tensor:
    """Σx² of each row, in the first column of a tile. Stands for ttnn.rms_norm_pre_all_gather, whose own golden rounds it."""
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    return torch.nn.functional.pad(x.square().sum(-1, keepdim=True), (0, ttnn.TILE_SIZE - 1))


def layer_norm_pre_all_gather(
    input_tensor: torch.Tensor, *, residual_input_tensor: torch.Tensor | None = None, program_config: Any = None
) -> torch.Tensor:
    """Σx² and Σx of each row, in the first columns of two tiles. Stands for ttnn.layer_norm_pre_all_gather, as above."""
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    sums = (x.square().sum(-1, keepdim=True), x.sum(-1, keepdim=True))
    return torch.cat([torch.nn.functional.pad(each, (0, ttnn.TILE_SIZE - 1)) for each in sums], -1)


def empty(shape: Any, *_: Any, device: Any = None, layout: Any = None) -> torch.Tensor:
    """ttnn.empty: whatever the memory held, shown as NaN so that a read of it is seen."""
    return torch.full(tuple(shape), torch.nan)


_E = ttnn.experimental
MISSING: dict[Any, Golden] = {
    _E.nlp_create_qkv_heads: nlp_create_qkv_heads,
    _E.nlp_create_qkv_heads_decode: nlp_create_qkv_heads_decode,
    _E.nlp_concat_heads: nlp_concat_heads,
    _E.nlp_concat_heads_decode: nlp_concat_heads_decode,
    _E.rotary_embedding_hf: rotary_embedding_hf,
    _E.paged_update_cache: paged_update_cache,
    _E.paged_fill_cache: paged_fill_cache,
    _E.minimal_matmul: minimal_matmul,
    ttnn.empty: empty,
    _E.fast_reduce_nc: fast_reduce_nc,
}
# ttnn has goldens for these, but they round where the shadow wants float32, or know only part of the arguments.
_INSTEAD: dict[Any, Golden] = {
    ttnn.fill_cache: fill_cache,
    ttnn.reshape: reshape,
    ttnn.typecast: typecast,
    ttnn.unary_chain: unary_chain,
    ttnn.linear: linear,
    ttnn.add: add,
    ttnn.mul: multiply,
    ttnn.rms_norm_pre_all_gather: rms_norm_pre_all_gather,
    ttnn.layer_norm_pre_all_gather: layer_norm_pre_all_gather,
}
_REPLACED: dict[Any, Golden | None] = {operation: operation.golden_function for operation in _INSTEAD}
# Operations that write rows into a cache, their first argument, in place; besides them, those whose name ends with "_".
CACHE_WRITES = frozenset({_E.paged_update_cache, _E.paged_fill_cache, ttnn.fill_cache, ttnn.update_cache})
# Arguments by which a caller gives the tensors that an operation is to write.
_OUTPUTS = ("output_tensor", "output_tensors", "optional_output_tensor", "optional_output_tensors")
# Arguments that say where and how to compute, not what. An output dtype is left to the rounding.
_NOT_MATH = frozenset(
    {
        "dtype",
        "output_dtype",
        "memory_config",
        "compute_kernel_config",
        "queue_id",
        "cq_id",
        "core_grid",
        "sub_core_grids",
    }
    | {"overlap_qk_coregrid", *_OUTPUTS}
)


def attach_missing() -> None:
    """Attach to ttnn the golden functions that it lacks; those it has are left alone."""
    for operation, golden in MISSING.items():
        if operation.golden_function is None:
            ttnn.attach_golden_function(operation, _of_math_alone(operation, golden))


def _of_math_alone(operation: Any, golden: Golden) -> Golden:
    """A golden that can be called as the operation is, as ttnn's own comparison mode does."""

    @wraps(golden)
    def call(*args: Any, **kwargs: Any) -> Any:
        return golden(*args, **math_of(operation, kwargs))

    return call


def math_of(operation: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that say what to compute; for a typecast the dtype is that."""
    dtype_too = operation is ttnn.typecast
    return {key: kwargs[key] for key in kwargs if key not in _NOT_MATH or (dtype_too and key.endswith("dtype"))}


def golden_of(operation: Any) -> Golden:
    """The golden function of an operation, or GoldenError."""
    golden: Golden | None = operation.golden_function
    if operation in _INSTEAD and golden is _REPLACED[operation]:  # one that somebody attached goes before ours
        golden = _INSTEAD[operation]
    if golden is None:
        raise GoldenError(
            f"{operation.python_fully_qualified_name} has no golden function, so its value is not known without hardware. "
            "Attach one with ttnn.attach_golden_function(op, fn), or add it to ttt_testing._goldens with a test."
        )
    return golden


def written_tensors(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The caller's tensors that hold the operation's outputs afterwards, in the order of the outputs."""
    name: str = operation.python_fully_qualified_name
    if operation in CACHE_WRITES or (name.endswith("_") and not name.endswith("__")):
        if not args:
            raise GoldenError(
                f"{name} writes its first argument in place: give that one by position, so that it is known."
            )
        return [args[0]]
    given = (kwargs[key] for key in _OUTPUTS if kwargs.get(key) is not None)
    return [tensor for value in given for tensor in (value if isinstance(value, (list, tuple)) else [value])]
