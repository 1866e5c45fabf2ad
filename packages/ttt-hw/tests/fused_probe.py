"""A fused sum over chips on a mock; no test module, so that a process of its own imports no pytest."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ttt_hw.catalogue import board_of
from ttt_hw.mesh import open_mesh
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.fused_all_reduce import FusedAllReduce
from ttt_hw.plan import BlockPlan
from ttt_hw.requests import CollectiveRequest
from ttt_hw.verify import empty, issue_plan, verify

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # ttnn imports it where it is installed, which takes seconds


def inexact(name: str, shape: tuple[int, int], pairs: list[tuple[CollectiveRequest, Pattern[Any]]]) -> list[str]:
    """What ttnn refuses or accounts for otherwise, from the first and the last layout that are accepted."""
    found = []
    with open_mesh(name, shape=shape, backend="mock") as mesh:
        record = board_of(mesh)
        for request, one in pairs:
            (layouts,) = one.accepts(request, record)
            for reads in dict.fromkeys((layouts[0], layouts[-1])):
                verdict = verify(request, one, mesh, reads=[reads])
                if list(one.problems(request, record, [reads])) or not verdict.exact:
                    found.append(f"{request} {one} {reads}: {verdict}")
    return found


def kept(name: str, request: CollectiveRequest, one: FusedAllReduce) -> tuple[list[int], list[int]]:
    """L1 of a bank that is taken: at first, after one call and after three, for another number of rows, and in a mesh that is
    opened again; the semaphores that six calls take, as numbers in the order of their first use."""
    import ttnn

    calls: list[int] = []
    original = ttnn.experimental.all_reduce_async
    found = []
    for again in (False, True):
        with open_mesh(name, backend="mock") as mesh:
            record = board_of(mesh)

            def taken(mesh: Any = mesh) -> int:
                return int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).total_bytes_allocated_per_bank)

            def call(rows: int, mesh: Any = mesh, record: Any = record, issue: Callable[..., Any] = one.issue) -> None:
                wanted = replace(request, shape=(1, 1, rows, request.shape[3]))
                (layouts,) = one.accepts(wanted, record)
                issue(wanted, record, [empty(layouts[0], wanted.operands[0], record, mesh)])

            found.append(taken())
            if again:
                continue
            ttnn.experimental.all_reduce_async = lambda *args, **kwargs: (
                calls.append(id(args[1])) or original(*args, **kwargs)
            )
            try:
                for rows in (32, 32, 32, 8, 8, 8):
                    call(rows)
                    found.append(taken())
            finally:
                ttnn.experimental.all_reduce_async = original
    order = list(dict.fromkeys(calls))
    return found, [order.index(each) for each in calls]


def issued(name: str, shape: tuple[int, int], plans: list[BlockPlan]) -> list[str]:
    """What is refused or inexact when plans run one after another on one mesh."""
    with open_mesh(name, shape=shape, backend="mock") as mesh:
        return [str(verdict) for plan in plans for verdict in issue_plan(plan, mesh) if not verdict.exact]
