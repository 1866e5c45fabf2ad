"""Each golden against a formula written in another way; those of ttnn through the device, as the blocks call them.

Letters: B users, H query heads, KV key-value heads, S tokens, C context, hd head dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import ttnn
from numpy.typing import NDArray
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from ttt_core import GoldenError
from ttt_hw import upload
from ttt_shard_dsl import memory_config
from ttt_testing import _goldens as goldens, shadow

Case = tuple[tuple[Any, ...], dict[str, Any], Any]  # arguments, keywords, what the golden must return

E = ttnn.experimental
HEADS = [(1, 1, 32), (4, 4, 16), (4, 2, 32), (6, 1, 80), (40, 8, 128)]  # H, KV, hd: MHA, GQA, MQA, odd sizes


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def create_qkv_heads() -> Iterator[Case]:
    for batch, tokens in ((1, 1), (1, 33), (3, 8)):
        for heads, kv_heads, hd in HEADS:
            x = random(batch, 1, tokens, (heads + 2 * kv_heads) * hd)

            def head(number: int, x: torch.Tensor = x, hd: int = hd) -> torch.Tensor:
                return x[:, 0, :, number * hd : (number + 1) * hd]

            q = torch.stack([head(i) for i in range(heads)], 1)
            k = torch.stack([head(heads + i) for i in range(kv_heads)], 1)
            v = torch.stack([head(heads + kv_heads + i) for i in range(kv_heads)], 1)
            sizes = {"num_heads": heads, "num_kv_heads": kv_heads}
            yield (x,), sizes | {"transpose_k_heads": False}, [q, k, v]
            yield (x,), sizes, [q, torch.einsum("bhsd->bhds", k), v]  # transposed unless told otherwise
            columns = heads * hd
            apart = {"input": x[..., :columns], "input_kv": x[..., columns:]}
            yield (), sizes | apart | {"transpose_k_heads": False}, [q, k, v]
    x = random(1, 1, 4, 3 * 2 * 16)
    yield (x,), {"num_heads": 2, "transpose_k_heads": False}, list(x.view(4, 3, 2, 16).permute(1, 2, 0, 3)[:, None])


def create_qkv_heads_decode() -> Iterator[Case]:
    for users in (1, 3, 32):
        for heads, kv_heads, hd in HEADS:
            x = random(1, 1, users, (heads + 2 * kv_heads) * hd)
            expected = [torch.empty(1, users, n, hd) for n in (heads, kv_heads, kv_heads)]
            starts = [0, heads, heads + kv_heads]
            for part, start in zip(expected, starts, strict=True):
                for user in range(users):
                    for i in range(part.shape[2]):
                        part[0, user, i] = x[0, 0, user, (start + i) * hd : (start + i + 1) * hd]
            yield (x,), {"num_heads": heads, "num_kv_heads": kv_heads}, expected


def concat_heads() -> Iterator[Case]:
    for batch, tokens in ((1, 1), (2, 33)):
        for heads, _, hd in HEADS:
            x = random(batch, heads, tokens, hd)
            yield (x,), {}, torch.cat([x[:, i : i + 1] for i in range(heads)], dim=-1)


def concat_heads_decode() -> Iterator[Case]:
    for users in (1, 3, 32):
        for heads, _, hd in HEADS:
            for padded in (heads, -(-heads // 32) * 32):
                x = random(1, users, padded, hd)
                expected = torch.zeros(1, 1, 32, heads * hd)
                for i in range(heads):
                    expected[0, 0, :users, i * hd : (i + 1) * hd] = x[0, :, i]
                yield (x,), {"num_heads": heads}, expected


def rotary() -> Iterator[Case]:
    """Prefill against transformers; decode as a turn of the complex plane, x[i] + j·x[i + hd/2]."""
    for heads, tokens, hd in ((1, 1, 2), (4, 33, 16), (3, 32, 80), (40, 5, 128)):
        angles = random(tokens, hd // 2)
        cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        x = random(1, heads, tokens, hd)
        turned, _ = apply_rotary_pos_emb(x, x, cos[None], sin[None])
        yield (x, cos[None, None], sin[None, None]), {"is_decode_mode": False}, turned
        rows = (
            torch.nn.functional.pad(cos, (0, 0, 0, 7), value=9.0),
            torch.nn.functional.pad(sin, (0, 0, 0, 7), value=9.0),
        )
        yield (x, *(row[None, None] for row in rows)), {}, turned  # tables that are longer than x
        users = random(1, tokens, heads, hd)  # [1, B, H, hd]
        plane = (
            torch.complex(users[..., : hd // 2], users[..., hd // 2 :])
            * torch.polar(torch.ones(()), angles)[None, :, None]
        )
        decode = (users, cos[None, :, None], sin[None, :, None])
        yield decode, {"is_decode_mode": True}, torch.cat([plane.real, plane.imag], -1)


def update_cache() -> Iterator[Case]:
    for users, kv_heads, padded, context, hd in ((1, 1, 1, 32, 16), (3, 2, 32, 64, 32), (32, 8, 32, 32, 128)):
        for rows in (list(range(users)), [context - 1 - user for user in range(users)], [-1] * users):
            cache, x = random(users, kv_heads, context, hd), random(1, users, padded, hd)
            expected = cache.numpy().copy()
            for user, row in enumerate(rows):
                for head in range(kv_heads):
                    if row >= 0:
                        expected[user, head, row] = x[0, user, head]
            yield (cache.clone(), x), {"update_idxs_tensor": torch.tensor(rows)}, torch.from_numpy(expected)
            yield (cache.clone(), x), {"update_idxs": rows}, torch.from_numpy(expected)
    # Pages: 2 users of 3 blocks of 32 rows among 8 blocks.
    pages, blocks = torch.tensor([[7, 2, 4], [0, 5, 1]]), random(8, 2, 32, 16)
    x, expected = random(1, 2, 32, 16), blocks.clone()
    expected[2, :, 8] = x[0, 0, :2]  # user 0, row 40
    expected[1, :, 31] = x[0, 1, :2]  # user 1, row 95
    yield (blocks, x), {"update_idxs_tensor": torch.tensor([40, 95]), "page_table": pages}, expected


def fill_cache() -> Iterator[Case]:
    for users, kv_heads, context, hd in ((1, 1, 32, 16), (3, 2, 128, 80), (32, 8, 64, 128)):
        for tokens, start in ((1, 0), (31, 0), (32, 0), (context - 32, 32)):
            cache, x = random(users, kv_heads, context, hd), random(1, kv_heads, tokens, hd)
            user = users - 1
            mine = torch.cat([cache[user, :, :start], x[0], cache[user, :, start + tokens :]], dim=1)
            yield (cache, x, user), {"update_idx": start}, torch.cat([cache[:user].clone(), mine[None]])


def reshape() -> Iterator[Case]:
    x = random(1, 1, 32, 6)
    for shape in ((1, 2, 16, 6), (192,), (1, -1, 3)):
        yield (x, shape), {}, torch.from_numpy(x.numpy().reshape(shape))
    for rows in (1, 31, 32):  # rows of the tile become padding
        yield (x, (1, 1, rows, 6), (1, 1, 32, 32)), {}, x[:, :, :rows]
    grown = torch.zeros(1, 1, 32, 6)
    grown[:, :, :5] = x[:, :, :5]
    yield (x[:, :, :5], (1, 1, 32, 6), (1, 1, 32, 32)), {}, grown  # padding becomes rows


def typecast() -> Iterator[Case]:
    x = torch.tensor([[0.0, 0.49, 0.5, 1.5, 2.99, 7.0]])
    for dtype in (ttnn.uint32, ttnn.int32):
        whole = torch.tensor([[math.trunc(value) for value in x[0].tolist()]])
        yield (x, dtype), {}, whole
        yield (x,), {"dtype": dtype}, whole
        yield (x, ttnn.float32, dtype), {}, whole  # from, to
        yield (torch.arange(5), dtype), {}, torch.arange(5)
    yield (-x, ttnn.int32), {}, torch.tensor([[0, 0, 0, -1, -2, -7]])
    yield (torch.arange(3), ttnn.bfloat16), {}, torch.tensor([0.0, 1.0, 2.0])
    yield (x, ttnn.bfloat8_b), {}, x  # left to the shadow's rounding


def minimal_matmul() -> Iterator[Case]:
    x, w, b = random(1, 1, 5, 8), random(1, 1, 8, 12), random(1, 1, 1, 12)
    product = torch.nn.functional.linear(x, w[0, 0].T)
    yield (x, w), {}, product
    yield (x, w, b), {"config": None}, product + b
    silu = ttnn.UnaryWithParam(ttnn.UnaryOpType.SILU)
    yield (x, w), {"bias_tensor": b, "fused_activation": silu}, torch.nn.functional.silu(product + b)


def fast_reduce() -> Iterator[Case]:
    x = random(3, 4, 40, 32)
    for dim, rest in ((0, (1, 4)), (1, (3, 1))):
        expected = torch.zeros(*rest, 64, 32)
        for part in x.unbind(dim):
            expected[..., :40, :] += part.unsqueeze(dim)
        yield (x,), {"dims": [dim]}, expected


def empty() -> Iterator[Case]:
    yield ([1, 2, 3], ttnn.bfloat16), {}, torch.tensor([[[math.nan] * 3] * 2])


GELU = torch.nn.functional.gelu
EXACT, TANH = (ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU, variant) for variant in (0.0, 2.0))
TWICE = ttnn.UnaryWithParam(ttnn.UnaryOpType.MUL_UNARY_SFPU, 2.0)


def unary_chain() -> Iterator[Case]:
    x = random(1, 1, 5, 8)
    yield (x, [TWICE, EXACT]), {}, GELU(2 * x)
    yield (x, [TANH, TWICE]), {}, 2 * GELU(x, approximate="tanh")
    limit = ttnn.UnaryWithParam(ttnn.UnaryOpType.CLAMP_TSS, -0.5, 0.5)
    yield (x, [limit, TWICE]), {}, 2 * x.clamp(-0.5, 0.5)


def linear() -> Iterator[Case]:
    x, w, b = random(1, 1, 5, 8), random(1, 1, 8, 12), random(1, 1, 1, 12)
    product = torch.nn.functional.linear(x, w[0, 0].T)
    yield (x, w), {"bias": b}, product + b
    for activation, expected in ((EXACT, GELU(product + b)), (TANH, GELU(product + b, approximate="tanh"))):
        config = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
            compute_with_storage_grid_size=(1, 1), in0_block_w=1, out_subblock_h=1, out_subblock_w=1, per_core_M=1,
            per_core_N=1, fuse_batch=True, fused_activation=activation, mcast_in0=True,
        )  # fmt: skip
        yield (x, w), {"bias": b.clone(), "program_config": config}, expected


def paged_fill() -> Iterator[Case]:
    """40 tokens in blocks of 32: one whole, and 8 rows of another."""
    x, pages = random(1, 2, 40, 16), torch.tensor([[1, 0], [2, -1]])
    for user, blocks in enumerate(([1, 0], [2])):
        cache = random(3, 2, 32, 16)
        expected = cache.clone()
        expected[blocks[0]] = x[0, :, :32]
        if len(blocks) > 1:
            expected[blocks[1], :, :8] = x[0, :, 32:]
        yield (cache, x, pages), {"batch_idx": user}, expected


def sums_of_squares() -> Iterator[Case]:
    x, more = random(1, 2, 3, 64), random(1, 2, 3, 64)
    expected = torch.zeros(1, 2, 3, 32)
    expected[..., 0] = (x * x).sum(-1)
    yield (x,), {}, expected
    yield (x - more,), {"residual_input_tensor": more}, expected


def sums() -> Iterator[Case]:
    for (args, kwargs, squares), x in zip(sums_of_squares(), [random(1, 2, 3, 64)] * 2, strict=True):
        plain = torch.zeros(1, 2, 3, 32)
        plain[..., 0] = x.sum(-1)
        yield args, kwargs, torch.cat([squares, plain], -1)


def add() -> Iterator[Case]:
    a, b = random(1, 1, 5, 8), random(1, 1, 5, 8)
    yield (a, b), {}, a + b
    yield (a, b), {"input_tensor_a_activations": [TWICE]}, 2 * a + b
    yield (a, 3), {"activations": [ttnn.UnaryOpType.TANH]}, (a + 3).tanh()


def multiply() -> Iterator[Case]:
    a, b = random(1, 1, 5, 8), random(1, 1, 5, 8)
    yield (a, b), {"input_tensor_a_activations": [TANH]}, GELU(a, approximate="tanh") * b
    yield (a, b), {"input_tensor_a_activations": [EXACT]}, GELU(a) * b
    yield (a, b), {"input_tensor_a_activations": [ttnn.UnaryOpType.SILU]}, torch.nn.functional.silu(a) * b


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "ttnn.experimental.nlp_create_qkv_heads": create_qkv_heads,
    "ttnn.experimental.nlp_create_qkv_heads_decode": create_qkv_heads_decode,
    "ttnn.experimental.nlp_concat_heads": concat_heads,
    "ttnn.experimental.nlp_concat_heads_decode": concat_heads_decode,
    "ttnn.experimental.rotary_embedding_hf": rotary,
    "ttnn.experimental.paged_update_cache": update_cache,
    "ttnn.experimental.paged_fill_cache": paged_fill,
    "ttnn.rms_norm_pre_all_gather": sums_of_squares,
    "ttnn.layer_norm_pre_all_gather": sums,
    "ttnn.experimental.minimal_matmul": minimal_matmul,
    "ttnn.experimental.fast_reduce_nc": fast_reduce,
    "ttnn.empty": empty,
    "ttnn.fill_cache": fill_cache,
    "ttnn.reshape": reshape,
    "ttnn.typecast": typecast,
    "ttnn.unary_chain": unary_chain,
    "ttnn.linear": linear,
    "ttnn.add": add,
    "ttnn.multiply": multiply,
}


def our_goldens() -> dict[str, goldens.Golden]:
    ours = {**goldens.MISSING, **goldens._INSTEAD}
    return {operation.python_fully_qualified_name: golden for operation, golden in ours.items()}


def test_every_golden_of_ours_is_tested() -> None:
    assert set(CASES) == set(our_goldens())
    for name, golden in our_goldens().items():
        assert name in (golden.__doc__ or "")


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    for args, kwargs, expected in CASES[name]():
        actual = our_goldens()[name](*args, **kwargs)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_an_argument_that_a_golden_does_not_know_is_refused(name: str) -> None:
    """Passing over one that changes the value would be a wrong value in silence."""
    args, kwargs, _ = next(CASES[name]())
    with pytest.raises(TypeError, match="unexpected keyword argument 'kv_tied'"):
        our_goldens()[name](*args, **kwargs, kv_tied=True)


# Through the device: what ttnn's own goldens, and ours, answer when a block calls the operation.

Float = NDArray[np.float64]


def on(mesh: Any, x: torch.Tensor, dtype: str = "bfloat16", **options: Any) -> Any:
    return upload(x.numpy(), mesh, dtype=dtype, **options)  # type: ignore[arg-type]


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, seen: Callable[[int], int]
) -> torch.Tensor:
    """softmax(q·kᵀ·scale)·v in float64, token by token; token t of q sees the first seen(t) keys."""
    groups = q.shape[1] // k.shape[1]
    keys, values = repeat_kv(k, groups).double(), repeat_kv(v, groups).double()
    y = torch.empty(q.shape, dtype=torch.float64)
    for t in range(q.shape[2]):
        n = seen(t)
        for b in range(q.shape[0]):
            for h in range(q.shape[1]):
                weights = (keys[b, h, :n] * q[b, h, t].double()).sum(-1).mul(scale).exp()
                y[b, h, t] = (weights[:, None] * values[b, h, :n]).sum(0) / weights.sum()
    return y.float()


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=1e-5, atol=atol)


def test_linear(mesh: Any) -> None:
    for rows, k, n in ((1, 72, 40), (33, 96, 160)):
        x, w, bias = random(1, 1, rows, k), random(1, 1, k, n), random(1, 1, 1, n)
        expected = np.einsum("abrk,abkn->abrn", x.double().numpy(), w.double().numpy())
        with shadow() as values:
            for dtype in ("bfloat16", "bfloat8_b"):
                y = values.to_torch(ttnn.linear(on(mesh, x), on(mesh, w, dtype)))
                close(y, torch.from_numpy(expected), atol=k * 1e-6)
            close(
                values.to_torch(ttnn.linear(on(mesh, x), on(mesh, w), bias=on(mesh, bias))),
                torch.from_numpy(expected) + bias,
                atol=k * 1e-6,
            )
            relu = values.to_torch(ttnn.linear(on(mesh, x), on(mesh, w), activation="relu"))
            close(relu, torch.from_numpy(expected).clamp(min=0), atol=k * 1e-6)


def test_rms_norm(mesh: Any) -> None:
    for rows, dim, eps in ((1, 72, 1e-5), (33, 2048, 1e-6), (32, 96, 0.5)):
        x, w = random(1, 1, rows, dim), random(1, 1, 1, dim)
        wide = x.double().numpy()
        expected = wide / np.sqrt((wide**2).sum(-1, keepdims=True) / dim + eps) * w.double().numpy()
        with shadow() as values:
            y = ttnn.rms_norm(on(mesh, x), epsilon=eps, weight=on(mesh, w))
            close(values.to_torch(y), torch.from_numpy(expected))


def test_embedding(mesh: Any) -> None:
    table, ids = random(50, 72), torch.tensor([[0, 49, 7, 7, 31]])
    with shadow() as values:
        rows = ttnn.embedding(
            on(mesh, ids, "uint32", layout="row_major"), on(mesh, table, layout="row_major"), layout=ttnn.TILE_LAYOUT
        )
        close(values.to_torch(rows), torch.stack([table[i] for i in ids[0].tolist()])[None])
        close(values.to_torch(ttnn.unsqueeze_to_4D(rows)), torch.stack([table[i] for i in ids[0].tolist()])[None, None])


@pytest.mark.parametrize(("heads", "kv_heads", "hd"), [(1, 1, 32), (4, 2, 64), (4, 4, 128)])
@pytest.mark.parametrize("tokens", [32, 96])
def test_attention_prefill(mesh: Any, heads: int, kv_heads: int, hd: int, tokens: int) -> None:
    q, k, v = (
        random(1, heads, tokens, hd),
        random(1, kv_heads, tokens, hd, seed=1),
        random(1, kv_heads, tokens, hd, seed=2),
    )
    operation = ttnn.transformer.scaled_dot_product_attention
    with shadow() as values:
        for scale in (hd**-0.5, 0.3):
            causal = operation(on(mesh, q), on(mesh, k), on(mesh, v), is_causal=True, scale=scale)
            close(values.to_torch(causal), attention(q, k, v, scale, lambda t: t + 1))
        open_ = operation(on(mesh, q), on(mesh, k), on(mesh, v), is_causal=False)
        close(values.to_torch(open_), attention(q, k, v, hd**-0.5, lambda _t: tokens))


@pytest.mark.parametrize(("users", "heads", "kv_heads", "hd"), [(1, 4, 2, 32), (3, 8, 8, 64), (32, 4, 1, 128)])
def test_attention_decode(mesh: Any, users: int, heads: int, kv_heads: int, hd: int) -> None:
    context = 64
    q = random(1, users, heads, hd)
    k, v = random(users, kv_heads, context, hd, seed=1), random(users, kv_heads, context, hd, seed=2)
    positions = [(7 * user) % context for user in range(users)]
    expected = torch.cat(
        [
            attention(q[0, u][None, :, None], k[u : u + 1], v[u : u + 1], hd**-0.5, lambda _t, p=position: p + 1)
            for u, position in enumerate(positions)
        ]
    )  # [B, H, 1, hd]
    with shadow() as values:
        y = ttnn.transformer.scaled_dot_product_attention_decode(
            on(mesh, q),
            on(mesh, k, "bfloat8_b"),
            on(mesh, v, "bfloat8_b"),
            cur_pos_tensor=on(mesh, torch.tensor(positions), "int32", layout="row_major"),
            scale=hd**-0.5,
        )
        close(values.to_torch(y), expected.permute(2, 0, 1, 3))


def test_elementwise(mesh: Any) -> None:
    a, b = random(1, 1, 33, 72), random(1, 1, 33, 72, seed=1)
    with shadow() as values:
        x, y = on(mesh, a), on(mesh, b)
        gated = ttnn.mul(x, y, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
        close(values.to_torch(gated), torch.from_numpy(a.numpy() / (1 + np.exp(-a.numpy())) * b.numpy()))
        close(values.to_torch(ttnn.mul(x, y)), torch.from_numpy(a.numpy() * b.numpy()))
        close(values.to_torch(ttnn.add(x, y)), torch.from_numpy(a.numpy() + b.numpy()))


def test_data_movement(mesh: Any) -> None:
    a, b = random(1, 3, 33, 72), random(1, 3, 2, 72, seed=1)
    x, y = a.numpy(), b.numpy()
    with shadow() as values:
        u, w = on(mesh, a), on(mesh, b)
        for actual, expected in (
            (ttnn.slice(u, [0, 1, 32, 0], [1, 3, 33, 72]), x[:1, 1:3, 32:33]),
            (ttnn.concat([u, w], dim=2), np.concatenate([x, y], 2)),
            (ttnn.transpose(u, 1, 2), np.swapaxes(x, 1, 2)),
            (ttnn.permute(u, (0, 2, 1, 3)), np.moveaxis(x, 1, 2)),
            (ttnn.pad(w, [(0, 0), (0, 0), (0, 30), (0, 0)], 0), np.pad(y, [(0, 0), (0, 0), (0, 30), (0, 0)])),
            (ttnn.to_memory_config(u, ttnn.L1_MEMORY_CONFIG), x),
            (ttnn.zeros([1, 2, 32, 32], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh), np.zeros((1, 2, 32, 32))),
        ):
            close(values.to_torch(actual), torch.from_numpy(np.ascontiguousarray(expected)), atol=0)


def test_heads_of_prefill_through_the_device(mesh: Any) -> None:
    """Heads made, turned, cached and joined again: every shape that a golden gives is the device's."""
    heads, kv_heads, tokens, hd = 4, 2, 64, 32
    x, angles = random(1, 1, tokens, (heads + 2 * kv_heads) * hd), random(tokens, hd // 2)
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    with shadow() as values:
        q, k, v = E.nlp_create_qkv_heads(on(mesh, x), num_heads=heads, num_kv_heads=kv_heads, transpose_k_heads=False)
        turned = E.rotary_embedding_hf(q, on(mesh, cos[None, None]), on(mesh, sin[None, None]))
        expected_q = x[0, 0, :, : heads * hd].view(1, tokens, heads, hd).transpose(1, 2)
        close(values.to_torch(turned), apply_rotary_pos_emb(expected_q, expected_q, cos[None], sin[None])[0])
        cache = on(mesh, torch.zeros(3, kv_heads, 128, hd))
        ttnn.fill_cache(cache, k, 2)
        assert torch.equal(values.to_torch(cache)[2, :, :tokens], values.to_torch(k)[0])
        assert not values.to_torch(cache)[:2].any()
        assert not values.to_torch(cache)[2, :, tokens:].any()
        joined = E.nlp_concat_heads(q)
        close(values.to_torch(joined), x[..., : heads * hd], atol=0)
        assert values.to_torch(v).shape == (1, kv_heads, tokens, hd)


@pytest.mark.parametrize("users", [1, 3, 32])
def test_heads_of_decode_through_the_device(mesh: Any, users: int) -> None:
    from ttt_hw import board

    heads, kv_heads, hd = 4, 2, 64
    x, angles = random(1, 1, users, (heads + 2 * kv_heads) * hd), random(users, hd // 2)
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    def user_a_core(rows: int) -> Any:
        return memory_config("1 b@core h d in l1", shape=(1, users, rows, hd), device=board("n150"))

    with shadow() as values:
        q, k, _v = E.nlp_create_qkv_heads_decode(
            on(mesh, x), num_heads=heads, num_kv_heads=kv_heads, memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
        )
        tables = (ttnn.to_memory_config(on(mesh, t[None, :, None]), user_a_core(32)) for t in (cos, sin))
        turned = E.rotary_embedding_hf(k, *tables, is_decode_mode=True)
        rows = x[0, 0, :, heads * hd : (heads + kv_heads) * hd].view(users, kv_heads, 1, hd)
        expected, _ = apply_rotary_pos_emb(rows, rows, cos[:, None], sin[:, None])  # a user is a batch of one token
        close(values.to_torch(turned), expected.transpose(1, 2).reshape(1, users, kv_heads, hd))
        cache = on(mesh, torch.zeros(users, kv_heads, 64, hd))
        positions = [5 + user for user in range(users)]
        E.paged_update_cache(
            cache, turned, update_idxs_tensor=on(mesh, torch.tensor(positions), "int32", layout="row_major")
        )
        held = values.to_torch(cache)
        for user, position in enumerate(positions):
            close(held[user, :, position], expected[user, :, 0])
            held[user, :, position] = 0
        assert not held.any()
        joined = E.nlp_concat_heads_decode(ttnn.to_memory_config(q, user_a_core(32)), num_heads=heads)
        close(values.to_torch(joined)[:, :, :users], x[..., : heads * hd], atol=0)
        interleaved = ttnn.to_memory_config(joined, ttnn.L1_MEMORY_CONFIG)
        kept = ttnn.reshape(interleaved, (1, 1, users, heads * hd), (1, 1, 32, heads * hd))
        close(values.to_torch(kept), x[..., : heads * hd], atol=0)


def test_typecast_through_the_device(mesh: Any) -> None:
    with shadow() as values:
        x = on(mesh, torch.full((1, 32), 2.75), "float32")
        for cast in (ttnn.typecast(x, ttnn.uint32), ttnn.typecast(x, dtype=ttnn.uint32)):
            assert values.to_torch(cast).unique().tolist() == [2]
        assert values.to_torch(ttnn.typecast(x, dtype=ttnn.bfloat16)).unique().tolist() == [2.75]


def test_memory_that_was_never_written_shows(mesh: Any) -> None:
    with shadow() as values:
        x = ttnn.empty([1, 1, 32, 32], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
        assert values.to_torch(ttnn.add(x, x)).isnan().all()


def test_an_unknown_argument_reaches_the_user_as_a_golden_error(mesh: Any) -> None:
    x = random(1, 1, 32, 5 * 32)
    with shadow(), pytest.raises(GoldenError, match=r"nlp_create_qkv_heads.*kv_tied"):
        E.nlp_create_qkv_heads(on(mesh, x), num_heads=4, num_kv_heads=1, transpose_k_heads=False, kv_tied=True)
