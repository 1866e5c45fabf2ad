"""Operations issued on a mock of any board; no test module, so that a process of its own imports no pytest."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ttt_hw.catalogue import board, board_of
from ttt_hw.mesh import open_mesh
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest
from ttt_hw.verify import verify

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # ttnn imports it where it is installed, which takes seconds

HEADS = {  # query heads, key-value heads, head dim as it is padded, of one chip of so many
    "llama-1b": (32, 8, 64), "llama-3b, 8": (3, 1, 128), "llama-8b": (32, 8, 128), "llama-70b, 8": (8, 1, 128),
    "qwen-7b": (28, 4, 128), "qwen-72b, 4": (16, 2, 128), "qwen3-32b, 2": (32, 4, 128), "phi-3": (32, 32, 128),
    "phi-4": (40, 10, 128), "gemma-9b": (16, 8, 256), "gpt-j": (16, 16, 256), "neox-20b": (64, 64, 128),
    "mixtral, 32": (1, 1, 128),
}  # fmt: skip


def first_legal(pattern: type[Pattern[Any]], request: OpRequest, record: Board) -> Pattern[Any]:
    """The first candidate that breaks no rule and leaves room for tensors."""
    for one in pattern.candidates(request, record):
        reads = layouts(one, request, record)
        small = one.circular_buffers(request, record, reads) < record.l1_bytes_per_core - 2**18
        if small and not list(one.problems(request, record, reads)):
            return one
    raise AssertionError(f"no legal {pattern.__name__} for {request} on {record.name}")


def layouts(one: Pattern[Any], request: OpRequest, record: Board) -> list[str]:
    return [accepted[0] for accepted in one.accepts(request, record)]


def problems(
    one: Pattern[Any], request: OpRequest, name: str = "n150", reads: Sequence[str] | None = None
) -> list[str]:
    record = board(name)
    return list(one.problems(request, record, reads or layouts(one, request, record)))


def inexact(mesh: Any, pairs: Iterable[tuple[OpRequest, Pattern[Any]]]) -> list[str]:
    """What ttnn refuses, or accounts for otherwise than predicted."""
    record, found = board_of(mesh), []
    for request, one in pairs:
        wrong = list(one.problems(request, record, layouts(one, request, record)))
        verdict = verify(request, one, mesh)
        if wrong or not verdict.exact:
            found.append(f"{request} {one}: {wrong} {verdict}")
    return found


def inexact_on(name: str, shape: tuple[int, int], pairs: list[tuple[OpRequest, Pattern[Any]]]) -> list[str]:
    with open_mesh(name, shape=shape, backend="mock") as mesh:
        return inexact(mesh, pairs)


def first_legal_inexact_on(name: str, pairs: list[tuple[type[Pattern[Any]], OpRequest]]) -> list[str]:
    return inexact_on(
        name, board(name).mesh, [(request, first_legal(cls, request, board(name))) for cls, request in pairs]
    )
