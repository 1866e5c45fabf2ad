"""Requests of mixtures of experts and of soft-capped attention for the patterns that repeat, sum and join along a dim, issued on
a mock here or in a process per board. No test module, so that such a process imports no pytest."""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Iterator
from typing import Any

from ttt_hw.catalogue import board_of
from ttt_hw.layouts import bytes_per_core
from ttt_hw.mesh import open_mesh
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.broadcast import Broadcast
from ttt_hw.patterns.concat import Concat
from ttt_hw.patterns.reduce import Reduce
from ttt_hw.records import Board
from ttt_hw.requests import BroadcastRequest, ConcatRequest, OpRequest, ReduceRequest
from ttt_hw.verify import Verdict, verify
from ttt_shard_dsl import LayoutError

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # ttnn imports it where it is installed, which takes seconds

ROWS = (1, 8, 32, 96, 128, 1024)  # of a piece that goes through the experts
EXPERTS, HIDDEN = 8, (4096, 6144)  # of Mixtral-8x7B, and 8x22B
HEADS, KV_HEADS, HEAD_DIM = 16, 8, 256  # of Gemma-2-9B
CONTEXTS, CHIPS = (1024, 4096, 8192), (1, 2, 4, 8)
Option = tuple[Pattern[Any], tuple[str, ...]]
DTYPES: tuple[Any, ...] = ("bfloat16", "bfloat8_b")


def requests(kind: type[Pattern[Any]]) -> Iterator[OpRequest]:
    for dtype in DTYPES:
        if kind is Broadcast:
            yield from _broadcasts(dtype)
        elif kind is Reduce:
            for hidden in HIDDEN:
                for rows in ROWS:
                    yield ReduceRequest(name="sum", inputs=("x",), shape=(1, EXPERTS, rows, hidden), dim=1, dtype=dtype)
        elif kind is Concat:
            yield from _joins(dtype)


def _broadcasts(dtype: Any) -> Iterator[BroadcastRequest]:
    for hidden in HIDDEN:
        for rows in ROWS:
            shape = (1, EXPERTS, rows, hidden)
            yield BroadcastRequest(
                name="weighted", inputs=("a", "b"), op="mul", shape=shape, b_shape=(*shape[:3], 1), dtype=dtype
            )
    for users in (1, 8, 32):
        for context in CONTEXTS:
            for chips in CHIPS:
                shape = (users, KV_HEADS // chips, HEADS // KV_HEADS, context)
                yield BroadcastRequest(
                    name="masked", inputs=("a", "b"), op="add", shape=shape, b_shape=(users, 1, 1, context), dtype=dtype
                )


def _joins(dtype: Any) -> Iterator[ConcatRequest]:
    shapes: tuple[tuple[int, ...], ...]
    for chips in CHIPS:
        for sizes in ((1024,) * 2, (1024,) * 8, (704, 704, 640), (512,) * 16):
            shapes = tuple((1, HEADS // chips, size, HEAD_DIM) for size in sizes)
            yield ConcatRequest(name="pieces", inputs=("x",) * len(sizes), shapes=shapes, dim=2, dtype=dtype)
    for sizes in ((1024, 1024), (1024, 32), (1024,) * 8):
        shapes = tuple((1, 1, size, HIDDEN[0]) for size in sizes)
        yield ConcatRequest(name="rows", inputs=("x",) * len(sizes), shapes=shapes, dim=2, dtype=dtype)
    for dim in (1, 3):
        shapes = tuple(tuple(size if index == dim else 64 for index in range(4)) for size in (64, 128, 64))
        yield ConcatRequest(name="dims", inputs=("x",) * 3, shapes=shapes, dim=dim, dtype=dtype)


def ways(kind: type[Pattern[Any]], request: OpRequest, board: Board, rng: random.Random) -> list[Option]:
    """Every config that is legal and fits an otherwise empty chip, with its inputs where it likes them best and elsewhere."""
    found = []
    for config in kind.candidates(request, board):
        accepted = config.accepts(request, board)
        for reads in (tuple(layouts[0] for layouts in accepted), tuple(rng.choice(layouts) for layouts in accepted)):
            if not any(True for _ in config.problems(request, board, reads)) and _fits(config, request, board, reads):
                found.append((config, reads))
    return found


def _fits(config: Pattern[Any], request: OpRequest, board: Board, reads: tuple[str, ...]) -> bool:
    results = zip(config.results(request, board), request.results.values(), strict=True)
    try:
        taken = bytes_per_core([*zip(reads, request.operands, strict=True), *results], board)
    except LayoutError:  # a tensor that L1 has no room for
        return False
    return taken + config.circular_buffers(request, board, reads) <= board.l1_bytes_per_core


def issue_some(kind: type[Pattern[Any]], mesh: Any, *, seed: int, count: int) -> list[tuple[str, Verdict]]:
    """Random requests, each in a random way."""
    rng, board, done = random.Random(seed), board_of(mesh), []
    for request in rng.choices(list(requests(kind)), k=count):
        config, reads = rng.choice(ways(kind, request, board, rng))
        what = f"{request} as {config} of {reads} on {board.name}"
        done.append((what, verify(request, config, mesh, reads=reads)))
    return done


def on_board(name: str, kind: type[Pattern[Any]], seed: int, count: int) -> list[tuple[str, Verdict]]:
    with open_mesh(name, backend="mock") as mesh:
        return issue_some(kind, mesh, seed=seed, count=count)
