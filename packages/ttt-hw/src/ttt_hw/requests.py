"""What a block asks of a chip, as data: operations, the tensors between them, and what stays in memory.

A block package writes these lists; the planner reads them and knows nothing else of a block. Shapes are of one chip. A planner
picks for each request one of the patterns that serve its class.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal

from ttt_core import Mode, PlacementError, ShapeError
from ttt_hw.compute import ComputeKernel
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE

__all__ = [
    "BatchedMatmulRequest",
    "BinaryRequest",
    "BlockRequest",
    "BroadcastRequest",
    "CacheFillRequest",
    "CacheUpdateRequest",
    "CollectiveRequest",
    "ConcatRequest",
    "CustomRequest",
    "DecodeAttentionRequest",
    "EmbeddingRequest",
    "ExpertMatmulRequest",
    "HeadConcatRequest",
    "HeadSplitRequest",
    "LMHeadRequest",
    "MatmulRequest",
    "MoveRequest",
    "NormRequest",
    "OpRequest",
    "PrefillAttentionRequest",
    "ReduceRequest",
    "RotaryRequest",
    "RouterRequest",
    "SoftmaxRequest",
    "Stored",
    "StoredKind",
    "TensorType",
    "UnaryRequest",
    "Workload",
    "decoding",
    "prefilling",
]

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "tanh", "exp", "sigmoid", "softplus"]
StoredKind = Literal["weight", "cache", "table", "index"]
"""What a stored tensor holds: weights, keys or values, a table or indices; layers share the last two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What a forward is asked to do: `users` decode together, or one prompt of `tokens` is read.

    `context` is what a cache holds a user; `chips` split heads and columns among them, `hidden_chips` the hidden dim (tensor
    parallel along the columns and the rows of a mesh). Of a prompt the first `start` tokens are in the cache already.
    `block` > 0: the cache is paged, in blocks of so many tokens.
    """

    mode: Mode
    users: int = 1
    tokens: int = 1
    context: int
    chips: int = 1
    hidden_chips: int = 1
    start: int = 0
    block: int = 0

    @property
    def rows(self) -> int:
        """Rows of an activation: users in decode, in prefill the tokens padded to whole tiles."""
        return self.users if self.mode == "decode" else -(-self.tokens // TILE) * TILE

    def hidden(self, dim: int) -> int:
        """A chip's part of a hidden dim. Errors: PlacementError where that is not whole tiles."""
        if self.hidden_chips > 1 and dim % (TILE * self.hidden_chips):
            raise PlacementError(
                f"a hidden dim of {dim} does not split over {self.hidden_chips} rows of chips in whole tiles of {TILE}. Open a "
                "mesh with fewer rows, or with rows as replicas."
            )
        return dim // self.hidden_chips

    def with_whole_rows(self, what: str) -> None:
        """Raise PlacementError where chips split the hidden dim: `what` reads it whole."""
        if self.hidden_chips > 1:
            raise PlacementError(
                f"{what} do not split over {self.hidden_chips} rows of chips yet. Open a mesh with one row, or with rows as "
                "replicas."
            )

    def __str__(self) -> str:
        what = f"{self.users} users" if self.mode == "decode" else f"{self.tokens} tokens"
        return f"{self.mode} of {what}{f' after {self.start}' if self.start else ''}"


@lru_cache(maxsize=1 << 12)
def decoding(users: int, context: int = 0) -> Workload:
    """Users who decode together; the same object for the same numbers, which forwards ask for each time."""
    return Workload(mode="decode", users=users, context=context)


@lru_cache(maxsize=1 << 12)
def prefilling(tokens: int) -> Workload:
    """A prompt that is read from its start; the same object for the same number."""
    return Workload(mode="prefill", tokens=tokens, context=tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorType:
    """A tensor of one chip, wherever it lies."""

    shape: tuple[int, ...]
    dtype: DType = "bfloat16"
    tiled: bool = True

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} {self.dtype}" + ("" if self.tiled else " row-major")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What stays in a chip's memory between forwards: a weight, a cache, a table, the positions of the users."""

    name: str
    type: TensorType
    kind: StoredKind = "weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpRequest:
    """One operation. `inputs` are names: of stored tensors, of the block's inputs, or of results of operations before it.

    The result has the operation's own name; several results are told apart by what `results` calls them, as in `heads.q`.
    """

    name: str
    inputs: tuple[str, ...]

    @property
    def operands(self) -> tuple[TensorType, ...]:
        """The types of `inputs`."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    @property
    def results(self) -> dict[str, TensorType]:
        """What it makes, by name; empty for an operation that writes into one of its inputs."""
        raise TypeError(f"{type(self).__name__} does not say what it makes")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatmulRequest(OpRequest):
    """activation(x [1, 1, m, k] @ w [1, 1, k, n] + b [1, 1, 1, n]); inputs x, w and, with `bias_dtype`, b.

    `kernel` is how precisely the engine computes: a demand of the block, never a choice of the planner.
    """

    inputs: tuple[str, ...] = ("x", "weight")
    m: int
    k: int
    n: int
    weight_dtype: DType = "bfloat16"
    input_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    bias_dtype: DType | None = None
    activation: Activation | None = None
    kernel: ComputeKernel | None = None
    """None: the cheapest that keeps all mantissa bits of the weight."""

    @property
    def tiles(self) -> tuple[int, int, int]:
        return -(-self.m // TILE), -(-self.k // TILE), -(-self.n // TILE)

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, 1, self.m, self.k), dtype=self.input_dtype)
        w = TensorType(shape=(1, 1, self.k, self.n), dtype=self.weight_dtype)
        if self.bias_dtype is None:
            return x, w
        return x, w, TensorType(shape=(1, 1, 1, self.n), dtype=self.bias_dtype)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.m, self.n), dtype=self.output_dtype)}

    def __str__(self) -> str:
        return f"{self.name} [{self.m}, {self.k}] @ [{self.k}, {self.n}] {self.weight_dtype}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LMHeadRequest(MatmulRequest):
    """A matmul whose columns are the vocabulary: so many that they may be computed in pieces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchedMatmulRequest(OpRequest):
    """a [batch, heads, m, k] @ b [batch, heads, k, n], or @ bᵀ with b [batch, heads, n, k]; both are activations or caches."""

    batch: int
    heads: int
    m: int
    k: int
    n: int
    transpose_b: bool = False
    a_dtype: DType = "bfloat16"
    b_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi4")

    @property
    def operands(self) -> tuple[TensorType, ...]:
        lead = (self.batch, self.heads)
        b = (self.n, self.k) if self.transpose_b else (self.k, self.n)
        return (
            TensorType(shape=(*lead, self.m, self.k), dtype=self.a_dtype),
            TensorType(shape=(*lead, *b), dtype=self.b_dtype),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {
            self.name: TensorType(shape=(self.batch, self.heads, self.m, self.n), dtype=self.output_dtype),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertMatmulRequest(OpRequest):
    """x [1, 1 or experts, m, k] @ each expert's w [1, experts, k, n] → [1, experts, m, n]; inputs x, w and the routing weights
    [1, 1, m, experts] by which an expert that no row chose is left out. `active`: experts that a row chooses."""

    experts: int
    active: int
    shared_input: bool
    m: int
    k: int
    n: int
    weight_dtype: DType = "bfloat8_b"
    input_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"
    kernel: ComputeKernel | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (
            TensorType(shape=(1, 1 if self.shared_input else self.experts, self.m, self.k), dtype=self.input_dtype),
            TensorType(shape=(1, self.experts, self.k, self.n), dtype=self.weight_dtype),
            TensorType(shape=(1, 1, self.m, self.experts)),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.experts, self.m, self.n), dtype=self.output_dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class RouterRequest(OpRequest):
    """Logits [1, 1, rows, experts] → routing weights [1, 1, rows, experts], 0 but for the `active` best experts of a row.

    Inputs logits, with `selection_bias` a bias [1, 1, 1, experts], with `groups` > 1 a table [1, 1, groups, experts] that is 1
    where the expert is of the group. With `logit_cap` c logits are c · tanh(logit / c) first. Scores are the softmax or the
    sigmoid of the logits. The best are those with the largest score + bias, of the `active_groups` groups with the largest
    maximum, or sum of their two largest. Their weights are their scores, with `renormalise` over their sum, times `scale`.
    A sparsemixer takes the best one by one: the weight of each is its softmax among those that are left and whose logit is not
    below its own by more than 2 · `jitter` · max(|logit|, its own).
    """

    rows: int
    experts: int
    active: int
    score: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    renormalise: bool = True
    selection_bias: bool = False
    groups: int = 1
    active_groups: int = 1
    group_score: Literal["max", "top2"] = "max"
    scale: float = 1.0
    logit_cap: float | None = None
    jitter: float = 0.01

    @property
    def operands(self) -> tuple[TensorType, ...]:
        logits = TensorType(shape=(1, 1, self.rows, self.experts))
        bias = (TensorType(shape=(1, 1, 1, self.experts)),) * self.selection_bias
        table = (TensorType(shape=(1, 1, self.groups, self.experts)),) * (self.groups > 1)
        return (logits, *bias, *table)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.experts))}


@dataclass(frozen=True, kw_only=True, slots=True)
class NormRequest(OpRequest):
    """Normalisation of x [batch, heads, rows, dim] over dim; inputs x, then weight and bias [1, 1, 1, dim] as asked for.

    `chips` > 1: dim is this chip's part, and the statistics are gathered over that many, along an axis of the mesh.
    """

    inputs: tuple[str, ...] = ("x", "weight")
    kind: Literal["rms", "layer"] = "rms"
    shape: tuple[int, int, int, int]
    epsilon: float = 1e-5
    weight: bool = True
    bias: bool = False
    dtype: DType = "bfloat16"
    chips: int = 1
    axis: int = 1

    @property
    def operands(self) -> tuple[TensorType, ...]:
        vector = TensorType(shape=(1, 1, 1, self.shape[-1]))
        return (TensorType(shape=self.shape, dtype=self.dtype), *[vector] * (self.weight + self.bias))

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryRequest(OpRequest):
    """activation(a) op b, element by element, of equal shapes: a residual sum, a gate.

    With `limit` a is at most that, and b between −limit and limit, before anything else; with `steepness` s the activation is
    activation(s · a) / s; `b_offset` is added to b, which is then multiplied by `b_scale`.
    """

    op: Literal["add", "mul", "sub"]
    shape: tuple[int, int, int, int]
    activation: Activation | None = None
    """Of a."""
    limit: float | None = None
    steepness: float = 1.0
    b_offset: float = 0.0
    b_scale: float = 1.0
    a_dtype: DType = "bfloat16"
    b_dtype: DType = "bfloat16"
    output_dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return TensorType(shape=self.shape, dtype=self.a_dtype), TensorType(shape=self.shape, dtype=self.b_dtype)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.output_dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnaryRequest(OpRequest):
    """activation(x · scale), element by element; without activation the product. `limit`: x between −limit and limit first."""

    shape: tuple[int, ...]
    activation: Activation | None = None
    scale: float = 1.0
    limit: float | None = None
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftmaxRequest(OpRequest):
    """softmax(scale · x + mask) over the last dim of x [batch, heads, rows, columns]; inputs x and, with `masked`, the mask
    [batch, 1, rows, columns]."""

    shape: tuple[int, int, int, int]
    scale: float = 1.0
    masked: bool = True
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=self.shape, dtype=self.dtype)
        mask = TensorType(shape=(self.shape[0], 1, *self.shape[2:]))
        return (x, mask) if self.masked else (x,)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRequest(OpRequest):
    """Rows of a table [count, dim], row-major bf16, by indices [1, rows] → [1, 1, rows, dim] in tiles; inputs indices, table."""

    inputs: tuple[str, ...] = ("ids", "table")
    rows: int
    dim: int
    count: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (
            TensorType(shape=(1, self.rows), dtype="uint32", tiled=False),
            TensorType(shape=(self.count, self.dim), tiled=False),
        )

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSplitRequest(OpRequest):
    """qkv [1, 1, rows, (H + 2·KV)·hd] → q, k, v: in prefill [1, H or KV, rows, hd], in decode [1, rows, H or KV, hd]."""

    mode: Mode
    rows: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=(1, 1, self.rows, (self.num_heads + 2 * self.num_kv_heads) * self.head_dim)),)

    @property
    def results(self) -> dict[str, TensorType]:
        def heads(count: int) -> TensorType:
            middle = (count, self.rows) if self.mode == "prefill" else (self.rows, count)
            return TensorType(shape=(1, *middle, self.head_dim))

        counts = {"q": self.num_heads, "k": self.num_kv_heads, "v": self.num_kv_heads}
        return {f"{self.name}.{part}": heads(count) for part, count in counts.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConcatRequest(OpRequest):
    """Heads [1, H, rows, hd] → [1, 1, rows, H·hd]."""

    rows: int
    num_heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=(1, self.num_heads, self.rows, self.head_dim)),)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.num_heads * self.head_dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryRequest(OpRequest):
    """Heads turned by their positions; inputs x, cos, sin.

    Prefill: x [1, heads, rows, hd], tables [1, 1, rows, hd]. Decode: x [1, rows, heads, hd], tables [1, rows, 1, hd].
    """

    mode: Mode
    rows: int
    heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        if self.mode == "prefill":
            x, table = (1, self.heads, self.rows, self.head_dim), (1, 1, self.rows, self.head_dim)
        else:
            x, table = (1, self.rows, self.heads, self.head_dim), (1, self.rows, 1, self.head_dim)
        return TensorType(shape=x), TensorType(shape=table), TensorType(shape=table)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: self.operands[0]}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefillAttentionRequest(OpRequest):
    """softmax(scale · q·kᵀ + causal mask)·v of one prompt: q [1, H, tokens, hd], k and v [1, KV, tokens, hd] → q's shape.

    Without `causal` each query sees all keys, of which there may be another number, `keys`. `window`: tokens that a query sees.
    `start`: tokens that are in a cache already; k, v are then that cache, [blocks, KV, block, hd], and a fourth input is the
    page table [1, blocks of the user]; a cache that is not paged has a block of its whole context for each of `users`.
    `sinks`: a last input [1, H, 1, 1] has a score of each head, divided by the scale, that takes part in the softmax.
    `value_dim`: there is no v, the values are the keys' first so many columns, and the result is as wide [arXiv 2405.04434].
    """

    tokens: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int | None = None
    kv_dtype: DType = "bfloat16"
    start: int | None = None
    block: int = 32
    blocks: int = 0
    users: int = 1
    causal: bool = True
    keys: int | None = None
    sinks: bool = False
    value_dim: int | None = None
    scale: float | None = None
    """None: 1 / √head_dim."""
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi4")

    @property
    def num_keys(self) -> int:
        """Of a prompt from its start."""
        return self.tokens if self.keys is None else self.keys

    @property
    def operands(self) -> tuple[TensorType, ...]:
        q = TensorType(shape=(1, self.num_heads, self.tokens, self.head_dim))
        sinks = (TensorType(shape=(1, self.num_heads, 1, 1)),) * self.sinks
        if self.start is None:
            kv = TensorType(shape=(1, self.num_kv_heads, self.num_keys, self.head_dim), dtype=self.kv_dtype)
            return q, *_keys_and_values(kv, self.value_dim), *sinks
        shape = (self.users * self.blocks, self.num_kv_heads, self.block, self.head_dim)
        read = _keys_and_values(TensorType(shape=shape, dtype=self.kv_dtype), self.value_dim)
        return q, *read, TensorType(shape=(1, self.blocks), dtype="int32", tiled=False), *sinks

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.num_heads, self.tokens, self.value_dim or self.head_dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeAttentionRequest(OpRequest):
    """One query a user against its cache: q [1, users, H, hd], keys and values [users, KV, context, hd] → [1, users, H, hd].

    Inputs q, keys, values, positions [users]; with `block`, the cache is paged: [users · context / block, KV, block, hd], and
    a fifth input is the page table [users, context / block]. `sinks`: a last input [H, 32] has in its first column a score of
    each head, divided by the scale, that takes part in the softmax. `value_dim` as in PrefillAttentionRequest: there are no
    values beside the keys.
    """

    users: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context: int
    window: int | None = None
    kv_dtype: DType = "bfloat8_b"
    block: int | None = None
    sinks: bool = False
    value_dim: int | None = None
    scale: float | None = None
    """None: 1 / √head_dim."""
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi2")

    @property
    def operands(self) -> tuple[TensorType, ...]:
        q = TensorType(shape=(1, self.users, self.num_heads, self.head_dim))
        positions = TensorType(shape=(self.users,), dtype="int32", tiled=False)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
        else:
            shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        kv = _keys_and_values(TensorType(shape=shape, dtype=self.kv_dtype), self.value_dim)
        sinks = (TensorType(shape=(self.num_heads, TILE)),) * self.sinks
        if self.block is None:
            return q, *kv, positions, *sinks
        pages = TensorType(shape=(self.users, self.context // self.block), dtype="int32", tiled=False)
        return q, *kv, positions, pages, *sinks

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.users, self.num_heads, self.value_dim or self.head_dim))}


def _keys_and_values(kv: TensorType, value_dim: int | None) -> tuple[TensorType, ...]:
    return (kv, kv) if value_dim is None else (kv,)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheFillRequest(OpRequest):
    """A prompt's keys or values [1, KV, tokens, hd] into a user's slot of a cache [users, KV, context, hd], from row `start` on;
    inputs cache, x. With `block` the cache is paged, [users · context / block, KV, block, hd], and a third input is the page
    table of the tokens from `start` on, [1, (context − start) / block]."""

    users: int
    num_kv_heads: int
    tokens: int
    context: int
    head_dim: int
    dtype: DType = "bfloat8_b"
    start: int = 0
    block: int | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, self.num_kv_heads, self.tokens, self.head_dim), dtype=self.dtype)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
            return TensorType(shape=shape, dtype=self.dtype), x
        shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        pages = TensorType(shape=(1, (self.context - self.start) // self.block), dtype="int32", tiled=False)
        return TensorType(shape=shape, dtype=self.dtype), x, pages

    @property
    def results(self) -> dict[str, TensorType]:
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUpdateRequest(OpRequest):
    """A row a user [1, users, KV, hd] into a cache [users, KV, context, hd] at its position; inputs cache, x, positions. With
    `block` the cache is paged, [users · context / block, KV, block, hd], and a fourth input is the page table
    [users, context / block]."""

    users: int
    num_kv_heads: int
    context: int
    head_dim: int
    dtype: DType = "bfloat8_b"
    block: int | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, self.users, self.num_kv_heads, self.head_dim))
        positions = TensorType(shape=(self.users,), dtype="int32", tiled=False)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
            return TensorType(shape=shape, dtype=self.dtype), x, positions
        shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        pages = TensorType(shape=(self.users, self.context // self.block), dtype="int32", tiled=False)
        return TensorType(shape=shape, dtype=self.dtype), x, positions, pages

    @property
    def results(self) -> dict[str, TensorType]:
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomRequest(OpRequest):
    """What a block's own function computes from tensors of types `reads`, giving one of type `makes`; when it is issued, the
    function follows the tensors."""

    reads: tuple[TensorType, ...]
    makes: TensorType

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return self.reads

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: self.makes}


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectiveRequest(OpRequest):
    """What the chips along a mesh axis do together with x: sum it, sum and split it along `dim`, or join it along `dim`."""

    kind: Literal["all_reduce", "reduce_scatter", "all_gather"]
    shape: tuple[int, int, int, int]
    """Of x on each chip, before."""
    chips: int
    axis: int = 1
    dim: int = 3
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.shape)
        if self.kind == "all_gather":
            shape[self.dim] *= self.chips
        elif self.kind == "reduce_scatter":
            if shape[self.dim] % self.chips:
                raise ShapeError(f"{self.name}: {self.chips} chips do not divide dim {self.dim} of {self.shape}.")
            shape[self.dim] //= self.chips
        return {self.name: TensorType(shape=tuple(shape), dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveRequest(OpRequest):
    """The same values in another shape, order or dtype.

    transpose: dims `dims` exchanged; slice: rows `rows` (start, stop) of dim 2, columns from `first_column` up to `columns`;
    typecast: to `dtype`; reshape: to `shape` (no data moves if the last two dims stay).
    """

    op: Literal["transpose", "slice", "typecast", "reshape"]
    source: TensorType
    dims: tuple[int, int] = (1, 2)
    rows: tuple[int, int] | None = None
    columns: int | None = None
    first_column: int = 0
    dtype: DType | None = None
    shape: tuple[int, ...] | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (self.source,)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.source.shape)
        if self.op == "transpose":
            first, second = self.dims
            shape[first], shape[second] = shape[second], shape[first]
        elif self.op == "slice":
            shape[-2] = self.rows[1] - self.rows[0] if self.rows else shape[-2]
            shape[-1] = (self.columns or shape[-1]) - self.first_column
        elif self.op == "reshape" and self.shape is not None:
            shape = list(self.shape)
        return {self.name: replace(self.source, shape=tuple(shape), dtype=self.dtype or self.source.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRequest:
    """All operations of a block in one mode, in the order in which its forward issues them.

    `inputs` are the activations that enter, by name; `outputs` the names of what leaves.
    Errors: ShapeError where a name is unknown, given twice, or of another type than its reader wants.
    """

    mode: Mode
    inputs: tuple[tuple[str, TensorType], ...]
    stored: tuple[Stored, ...]
    ops: tuple[OpRequest, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known = dict(self.inputs)
        for stored in self.stored:
            known[stored.name] = stored.type
        for op in self.ops:
            for name, wanted in zip(op.inputs, op.operands, strict=True):
                if name not in known:
                    raise ShapeError(
                        f"{op.name} reads {name!r}, which nothing before it makes; there are {sorted(known)}."
                    )
                if known[name] != wanted:
                    raise ShapeError(f"{op.name} reads {name!r} as {wanted}, but it is {known[name]}.")
            for name, made in op.results.items():
                if name in known:
                    raise ShapeError(
                        f"{op.name} makes {name!r}, which is there already. Names must be unique in a block."
                    )
                known[name] = made
        for name in self.outputs:
            if name not in known:
                raise ShapeError(f"the block gives out {name!r}, which no operation makes.")

    @property
    def types(self) -> dict[str, TensorType]:
        """Of every tensor, by name."""
        made = {name: type_ for op in self.ops for name, type_ in op.results.items()}
        return {**dict(self.inputs), **{stored.name: stored.type for stored in self.stored}, **made}

    def within(self, prefix: str, **inputs: str) -> BlockRequest:
        """The same block as part of a larger one: its names begin with `prefix.`, and its inputs are called as given."""

        def renamed(name: str) -> str:
            return inputs.get(name, f"{prefix}.{name}")

        return BlockRequest(
            mode=self.mode,
            inputs=tuple((renamed(name), type_) for name, type_ in self.inputs),
            stored=tuple(replace(stored, name=renamed(stored.name)) for stored in self.stored),
            ops=tuple(
                replace(op, name=f"{prefix}.{op.name}", inputs=tuple(renamed(name) for name in op.inputs))
                for op in self.ops
            ),
            outputs=tuple(renamed(name) for name in self.outputs),
        )


def field_names(request: OpRequest) -> tuple[str, ...]:
    """What an override of a request may change."""
    return tuple(field.name for field in fields(request))


@dataclass(frozen=True, kw_only=True, slots=True)
class BroadcastRequest(OpRequest):
    """a op b, where each dim of b is a's or 1: b is repeated along it."""

    op: Literal["add", "mul"]
    shape: tuple[int, int, int, int]
    b_shape: tuple[int, int, int, int]
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return TensorType(shape=self.shape, dtype=self.dtype), TensorType(shape=self.b_shape)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=self.shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReduceRequest(OpRequest):
    """The sum of x along `dim`, which stays as a dim of 1."""

    shape: tuple[int, int, int, int]
    dim: int
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=self.shape, dtype=self.dtype),)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = tuple(1 if index == self.dim else size for index, size in enumerate(self.shape))
        return {self.name: TensorType(shape=shape, dtype=self.dtype)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcatRequest(OpRequest):
    """Tensors joined along `dim`, in which alone their `shapes` differ; as many inputs as shapes."""

    shapes: tuple[tuple[int, ...], ...]
    dim: int
    dtype: DType = "bfloat16"

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return tuple(TensorType(shape=shape, dtype=self.dtype) for shape in self.shapes)

    @property
    def results(self) -> dict[str, TensorType]:
        shape = list(self.shapes[0])
        shape[self.dim] = sum(part[self.dim] for part in self.shapes)
        return {self.name: TensorType(shape=tuple(shape), dtype=self.dtype)}
