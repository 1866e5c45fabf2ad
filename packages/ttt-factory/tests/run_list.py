"""Computes a list of operations with torch in float32, on one chip: what a planned forward would compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ttt_hw.requests import (
    BatchedMatmulRequest,
    BinaryRequest,
    BlockRequest,
    BroadcastRequest,
    CacheFillRequest,
    CacheUpdateRequest,
    ConcatRequest,
    DecodeAttentionRequest,
    EmbeddingRequest,
    ExpertMatmulRequest,
    HeadConcatRequest,
    HeadSplitRequest,
    MatmulRequest,
    MoveRequest,
    NormRequest,
    OpRequest,
    PrefillAttentionRequest,
    ReduceRequest,
    RotaryRequest,
    RouterRequest,
    SoftmaxRequest,
    UnaryRequest,
)

Tensor = torch.Tensor
ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
}
HIDDEN = -1e9


def run(block: BlockRequest, values: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Every tensor by name. `values` are the inputs and what is stored, of the types that the block says; caches change."""
    known = dict(values)
    for name, type_ in (*block.inputs, *((stored.name, stored.type) for stored in block.stored)):
        assert tuple(known[name].shape) == type_.shape, (name, known[name].shape, type_)
    for op in block.ops:
        made = compute(op, [known[name] for name in op.inputs], scale)
        for (name, type_), tensor in zip(op.results.items(), made, strict=True):
            assert tuple(tensor.shape) == type_.shape, (name, tensor.shape, type_)
            known[name] = tensor
    return known


def compute(op: OpRequest, x: list[Tensor], scale: float) -> tuple[Tensor, ...]:
    if isinstance(op, MatmulRequest):
        return (ACTIVATIONS[op.activation](x[0] @ x[1] + (x[2] if op.bias_dtype else 0)),)
    if isinstance(op, BatchedMatmulRequest):
        return (x[0] @ (x[1].transpose(-1, -2) if op.transpose_b else x[1]),)
    if isinstance(op, ExpertMatmulRequest):
        return (x[0] @ x[1],)
    if isinstance(op, RouterRequest):
        best, where = x[0].topk(op.active, dim=-1)
        return (torch.zeros_like(x[0]).scatter(-1, where, best.softmax(-1)),)
    if isinstance(op, NormRequest):
        centred = x[0] - x[0].mean(-1, keepdim=True) if op.kind == "layer" else x[0]
        y = centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + op.epsilon)
        return (y * (x[1] if op.weight else 1) + (x[-1] if op.bias else 0),)
    if isinstance(op, BinaryRequest):
        a = ACTIVATIONS[op.activation](x[0])
        return (a + x[1] if op.op == "add" else a * x[1],)
    if isinstance(op, BroadcastRequest):
        return (x[0] + x[1] if op.op == "add" else x[0] * x[1],)
    if isinstance(op, UnaryRequest):
        return (ACTIVATIONS[op.activation](x[0] * op.scale),)
    if isinstance(op, SoftmaxRequest):
        return ((op.scale * x[0] + (x[1] if op.masked else 0)).softmax(-1),)
    if isinstance(op, ReduceRequest):
        return (x[0].sum(op.dim, keepdim=True),)
    if isinstance(op, ConcatRequest):
        return (torch.cat(x, op.dim),)
    if isinstance(op, EmbeddingRequest):
        return (x[1][x[0][0].long()][None, None],)
    if isinstance(op, MoveRequest):
        return (_moved(op, x[0]),)
    return _heads(op, x, scale)


def _moved(op: MoveRequest, x: Tensor) -> Tensor:
    if op.op == "transpose":
        return x.transpose(*op.dims)
    if op.op == "slice":
        start, stop = op.rows or (0, x.shape[-2])
        return x[..., start:stop, : op.columns]
    if op.op == "reshape":
        assert op.shape is not None
        return x.reshape(op.shape)
    return x


def _heads(op: Any, x: list[Tensor], scale: float) -> tuple[Tensor, ...]:
    if isinstance(op, HeadSplitRequest):
        heads = x[0].reshape(1, op.rows, -1, op.head_dim)
        q, k, v = heads.split([op.num_heads, op.num_kv_heads, op.num_kv_heads], dim=2)
        return (q, k, v) if op.mode == "decode" else (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    if isinstance(op, HeadConcatRequest):
        return (x[0].transpose(1, 2).reshape(1, 1, op.rows, -1),)
    if isinstance(op, RotaryRequest):
        first, second = x[0].chunk(2, dim=-1)
        return (x[0] * x[1] + torch.cat([-second, first], dim=-1) * x[2],)
    if isinstance(op, CacheFillRequest):
        x[0][0, :, : op.tokens] = x[1][0]
        return ()
    if isinstance(op, CacheUpdateRequest):
        for user, position in enumerate(x[2].tolist()):
            x[0][user, :, position] = x[1][0, user]
        return ()
    if isinstance(op, PrefillAttentionRequest):
        groups = op.num_heads // op.num_kv_heads
        k, v = x[1].repeat_interleave(groups, 1), x[2].repeat_interleave(groups, 1)
        scores = x[0] @ k.transpose(-1, -2) * scale + causal(op.tokens, op.window)
        return (scores.softmax(-1) @ v,)
    assert isinstance(op, DecodeAttentionRequest), op
    groups = op.num_heads // op.num_kv_heads
    k, v = (cache.repeat_interleave(groups, 1) for cache in x[1:3])  # [B, H, context, hd]
    q = x[0].transpose(0, 1).transpose(1, 2)  # [B, H, 1, hd]
    mask = causal(op.context, op.window)[x[3].long()][:, None, None]
    attended = (q @ k.transpose(-1, -2) * scale + mask).softmax(-1) @ v
    return (attended.transpose(1, 2).transpose(0, 1),)


def causal(tokens: int, window: int | None) -> Tensor:
    """[queries, keys]: 0 where a query sees a key."""
    seen = torch.ones(tokens, tokens).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    return (1 - seen) * HIDDEN
