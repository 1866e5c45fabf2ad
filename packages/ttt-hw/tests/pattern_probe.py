"""Requests of real models for the patterns that compute no matmul, issued on a mock here or in a process per board.

No test module, so that such a process imports no pytest.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Iterator
from functools import partial
from itertools import permutations, product
from typing import Any

from ttt_hw._accounting import account
from ttt_hw.catalogue import board_of
from ttt_hw.layouts import (
    DRAM,
    L1,
    block_sharded,
    bytes_per_core,
    height_sharded,
    row_of_cores,
    user_sharded,
    width_sharded,
)
from ttt_hw.mesh import open_mesh
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.distributed_norm import DistributedNorm
from ttt_hw.patterns.eltwise import EltwiseGate
from ttt_hw.patterns.embedding import Embedding
from ttt_hw.patterns.heads import HeadConcat, HeadSplit
from ttt_hw.patterns.move import Move
from ttt_hw.patterns.norm import InterleavedNorm
from ttt_hw.patterns.rotary import RotaryEmbedding
from ttt_hw.patterns.sharded_norm import ShardedNorm
from ttt_hw.patterns.softmax import Softmax
from ttt_hw.patterns.unary import Unary
from ttt_hw.records import Board
from ttt_hw.requests import (
    BinaryRequest,
    EmbeddingRequest,
    HeadConcatRequest,
    HeadSplitRequest,
    MoveRequest,
    NormRequest,
    OpRequest,
    RotaryRequest,
    SoftmaxRequest,
    TensorType,
    UnaryRequest,
)
from ttt_hw.verify import Verdict, _expected, _where, empty, verify
from ttt_shard_dsl import LayoutError

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # ttnn imports it where it is installed, which takes seconds

MODELS = {  # hidden dim, heads, key-value heads, head dim as it is padded, inner dim, vocabulary
    "Llama-3.2-1B": (2048, 32, 8, 64, 8192, 128256),
    "Llama-3.2-3B": (3072, 24, 8, 128, 8192, 128256),
    "Llama-3.1-8B": (4096, 32, 8, 128, 14336, 128256),
    "Llama-3.1-70B": (8192, 64, 8, 128, 28672, 128256),
    "Qwen2.5-7B": (3584, 28, 4, 128, 18944, 152064),
    "Qwen3-32B": (5120, 64, 8, 128, 25600, 151936),
    "Phi-3-mini": (3072, 32, 32, 128, 8192, 32064),
    "Phi-4": (5120, 40, 10, 128, 17920, 100352),
    "Gemma-2-9B": (3584, 16, 8, 256, 14336, 256000),
    "GPT-J-6B": (4096, 16, 16, 256, 16384, 50400),
    "GPT-NeoX-20B": (6144, 64, 64, 128, 24576, 50432),
}
DECODE, PREFILL = (1, 8, 32), (128, 1024, 2048, 8192)


def _norms(rows: int, dim: int, heads: int, head_dim: int, chips: int = 1) -> Iterator[NormRequest]:
    for kind, weight, bias in (("rms", True, False), ("layer", True, True), ("rms", False, False)):
        inputs = ("x", *("weight",) * weight, *("bias",) * bias)
        common: dict[str, Any] = {"name": "norm", "inputs": inputs, "kind": kind, "weight": weight, "bias": bias}
        yield NormRequest(shape=(1, 1, rows, dim // chips), chips=chips, **common)
        if chips == 1 and kind == "rms":
            shape = (1, rows, heads, head_dim) if rows in DECODE else (1, heads, rows, head_dim)
            yield NormRequest(shape=shape, **common)


def requests(kind: type[Pattern[Any]], rows: int, model: str, chips: int = 1) -> Iterator[OpRequest]:
    """What a model asks of a pattern's operation on one of `chips` chips, for `rows` users in decode or tokens."""
    dim, all_heads, all_kv, head_dim, inner, vocabulary = MODELS[model]
    heads, kv = -(-all_heads // chips), -(-all_kv // chips)
    mode: Any = "decode" if rows in DECODE else "prefill"
    activation: Any
    half: Any
    if kind is EltwiseGate:
        yield BinaryRequest(name="sum", inputs=("a", "b"), op="add", shape=(1, 1, rows, dim))
        for activation, half in (("silu", "bfloat16"), ("gelu_tanh", "bfloat8_b"), (None, "bfloat8_b")):
            yield BinaryRequest(
                name="gate", inputs=("a", "b"), op="mul", shape=(1, 1, rows, -(-inner // chips // 32) * 32),
                activation=activation, a_dtype=half, b_dtype=half, output_dtype="bfloat8_b",
            )  # fmt: skip
        yield BinaryRequest(
            name="gate", inputs=("a", "b"), op="mul", shape=(1, 1, rows, 2048), activation="silu", limit=7.0, steepness=1.702,
            b_offset=1.0,
        )  # fmt: skip
        yield BinaryRequest(name="sum", inputs=("a", "b"), op="add", shape=(1, 1, rows, dim), b_scale=0.22)
    elif kind is Unary:
        for activation, scale in (
            ("relu2", 1.0),
            ("quick_gelu", 1.0),
            ("gelu", 1.0),
            ("tanh", 0.02),
            ("silu", 1.0),
            (None, 59.87),
        ):
            yield UnaryRequest(name="u", inputs=("x",), shape=(1, 1, rows, dim), activation=activation, scale=scale)
    elif kind in (InterleavedNorm, ShardedNorm):
        yield from _norms(rows, dim, heads, head_dim)
    elif kind is DistributedNorm:
        yield from _norms(rows, dim, heads, head_dim, chips)
    elif kind is Embedding:
        yield EmbeddingRequest(name="e", rows=rows, dim=dim, count=vocabulary // 32)
        yield EmbeddingRequest(name="e", rows=rows, dim=head_dim, count=4096)
    elif kind is HeadSplit:
        counts = {"num_heads": heads, "num_kv_heads": kv}
        yield HeadSplitRequest(name="split", inputs=("qkv",), mode=mode, rows=rows, head_dim=head_dim, **counts)
    elif kind is HeadConcat:
        yield HeadConcatRequest(name="join", inputs=("x",), rows=rows, num_heads=heads, head_dim=head_dim)
    elif kind is RotaryEmbedding:
        for count in (heads, kv):
            yield RotaryRequest(
                name="r", inputs=("x", "cos", "sin"), mode=mode, rows=rows, heads=count, head_dim=head_dim
            )
    elif kind is Softmax:
        for columns in (1024, 4096) if mode == "decode" else (min(rows, 2048),):
            shape = (rows, heads, 1, columns) if mode == "decode" else (1, min(heads, 4), min(rows, 2048), columns)
            yield SoftmaxRequest(name="s", inputs=("x", "mask"), shape=shape, scale=head_dim**-0.5)
            yield SoftmaxRequest(name="s", inputs=("x",), shape=shape, masked=False)
    elif kind is Move:
        yield from _moves(rows, dim, heads, kv, head_dim, vocabulary)


def _moves(rows: int, dim: int, heads: int, kv: int, head_dim: int, vocabulary: int) -> Iterator[MoveRequest]:
    def move(op: Any, source: TensorType, **how: Any) -> MoveRequest:
        return MoveRequest(name="m", inputs=("x",), op=op, source=source, **how)

    positions = TensorType(shape=(rows,), dtype="int32", tiled=False)
    yield move("typecast", positions, dtype="uint32")
    yield move("reshape", positions, shape=(1, rows))
    if rows in DECODE:
        yield move("transpose", TensorType(shape=(1, rows, heads, head_dim)))
        yield move("transpose", TensorType(shape=(1, 1, rows, head_dim)))
        padded = TensorType(shape=(1, 1, rows, -(-vocabulary // 1024) * 1024))
        yield move("slice", padded, columns=vocabulary)
    else:
        yield move("typecast", TensorType(shape=(1, kv, rows, head_dim)), dtype="bfloat8_b")
        yield move("slice", TensorType(shape=(1, 1, rows, dim)), rows=(rows - 1, rows))
        yield move("slice", TensorType(shape=(1, 1, rows, dim)), rows=(rows - 32, rows))


Option = tuple[Pattern[Any], tuple[str, ...]]


def options(kind: type[Pattern[Any]], request: OpRequest, board: Board) -> list[Option]:
    """Every config with every combination of inputs that is legal and fits an otherwise empty chip."""
    found = []
    for config in kind.candidates(request, board):
        for reads in product(*config.accepts(request, board)):
            tensors = [
                *zip(reads, request.operands, strict=True),
                *zip(config.results(request, board), request.results.values(), strict=True),
            ]
            try:
                taken = bytes_per_core(tensors, board)
            except LayoutError:  # a tensor that L1 has no room for
                continue
            if any(True for _ in config.problems(request, board, reads)):
                continue
            if taken + config.circular_buffers(request, board, reads) <= board.l1_bytes_per_core:
                found.append((config, reads))
    return found


def issue_some(kinds: list[type[Pattern[Any]]], mesh: Any, *, seed: int, count: int) -> list[tuple[str, Verdict]]:
    """Random configs of random requests of random models, `count` of each kind."""
    rng, board, done = random.Random(seed), board_of(mesh), []
    splits = [1, 2, 4, 8] if board.num_chips == 1 else [chips for chips in board.mesh if chips > 1]
    for kind in kinds:
        for _ in range(count):
            rows, model = rng.choice(DECODE + PREFILL), rng.choice(list(MODELS))
            asked = rng.choice(list(requests(kind, rows, model, rng.choice(splits))))
            ways = options(kind, asked, board)
            if ways:
                config, reads = rng.choice(ways)
                what = f"{asked} as {config} of {reads} on {board.name}"
                done.append((what, verify(asked, config, mesh, reads=reads)))
    return done


def on_board(name: str, kinds: list[type[Pattern[Any]]], seed: int, count: int) -> list[tuple[str, Verdict]]:
    with open_mesh(name, backend="mock") as mesh:
        return issue_some(kinds, mesh, seed=seed, count=count)


def move_all(mesh: Any) -> list[tuple[str, str | None]]:
    """Moves of activations and heads between the layouts that patterns read and make, with what ttnn does otherwise."""
    board, done = board_of(mesh), []
    x, half = TensorType(shape=(1, 1, 256, 2048)), TensorType(shape=(1, 1, 8, 4096), dtype="bfloat8_b")
    users = TensorType(shape=(1, 9, 8, 128))
    rectangles = [width_sharded(grid) for grid in ((8, 8), (8, 4), (4, 2), (1, 8))]
    rows = [height_sharded((8, 1)), height_sharded((2, 2)), block_sharded((8, 8)), block_sharded((4, 8))]
    pairs = [(x, a, b) for a, b in permutations([DRAM, L1, *rectangles, *rows], 2)]
    pairs += [(half, a, b) for a, b in permutations([DRAM, L1, *rectangles], 2)]
    one_a_core = [user_sharded(row_of_cores(9, board.grid)), user_sharded("0-0..0-8"), user_sharded("0-0..2-2")]
    fitting = [text for text in one_a_core if text != "b h@core s d in l1 on 0-0..0-8" or board.grid[1] > 8]
    pairs += [(users, a, b) for a, b in permutations([DRAM, L1, *fitting], 2)]
    for type_, source, target in pairs:
        move = Reshard(source=source, target=target)
        move.check(type_, board)
        tensor = empty(source, type_, board, mesh)
        made = _where(move.issue(type_, board, tensor))
        usage = account(partial(move.issue, type_, board, tensor))
        wrong = None
        if made != _expected(target, type_, board):
            wrong = f"lies in {made}"
        elif usage.buffers != move.circular_buffers(type_, board):
            wrong = f"takes {usage.buffers}, not {move.circular_buffers(type_, board)}"
        done.append((f"{type_}: {source} -> {target}", wrong))
    return done


def moves_on_board(name: str) -> list[tuple[str, str | None]]:
    with open_mesh(name, backend="mock") as mesh:
        return move_all(mesh)
