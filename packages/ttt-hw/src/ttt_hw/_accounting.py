"""What ttnn itself says that an operation takes: its programs' buffers, the tensors that it allocates, its cores.

Read from a graph capture that dispatches nothing, so it works on a mock and leaves no tensor behind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_RANGE = re.compile(r"\[(\d+)-(\d+) - (\d+)-(\d+)\]")
_SIGNS = {"buffer_allocate": 1, "buffer_deallocate": -1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Units: bytes. `buffers` are those of circular and dataflow buffers on the fullest core of the program with the most;
    `l1_tensors` the most that the operation's own tensors in L1 take on a core at a time, `dram_bytes` on a chip.
    """

    buffers: int
    l1_tensors: int
    dram_bytes: int
    cores: int
    programs: int


def account(run: Callable[[], Any]) -> Usage:
    """Call `run` without dispatching anything, and say what it would have taken. Errors are those of `run`."""
    import ttnn

    capture = ttnn._ttnn.graph  # ttnn.graph warns at each capture that fast mode records no sub-graphs; none is needed
    capture.begin_graph_capture(capture.RunMode.NO_DISPATCH)
    try:
        run()
    finally:
        graph: Any = capture.end_graph_capture()
    return usage_of(graph)


def usage_of(graph: Iterable[Any]) -> Usage:
    """Of a captured graph."""
    programs: list[Counter[tuple[int, int]]] = []
    opened = False
    l1: list[int] = []
    dram: list[int] = []
    for node in graph:
        kind, params = node["node_type"], node["params"]
        if kind == "circular_buffer_deallocate_all":
            opened = False
        elif kind in ("circular_buffer_allocate", "dataflow_buffer_allocate"):
            if not opened:
                programs.append(Counter())
                opened = True
            borrowed = int(params.get("globally_allocated", 0)) or int(params.get("borrows_memory", 0))
            for core in _cores(params["core_range_set"]):
                programs[-1][core] += 0 if borrowed else int(params["size"])
        elif kind in _SIGNS:
            in_l1 = params["type"] == "L1"
            size = int(params["max_size_per_bank"] if in_l1 else params["size"])
            (l1 if in_l1 else dram).append(_SIGNS[kind] * size)
    return Usage(
        buffers=max((max(program.values()) for program in programs), default=0),
        l1_tensors=max(accumulate(l1, initial=0)),
        dram_bytes=max(accumulate(dram, initial=0)),
        cores=max((len(program) for program in programs), default=0),
        programs=len(programs),
    )


def _cores(ranges: str) -> list[tuple[int, int]]:
    return [
        (x, y)
        for x0, y0, x1, y1 in (map(int, found) for found in _RANGE.findall(ranges))
        for x in range(x0, x1 + 1)
        for y in range(y0, y1 + 1)
    ]
