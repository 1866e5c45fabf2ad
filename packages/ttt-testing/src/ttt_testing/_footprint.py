"""What one forward takes of a device: memory at its fullest, and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import ttnn

from ttt_hw import OperationRecord, board_of, record_operations

_WARM_UP, _TIMED = 3, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Units: bytes; L1 on the fullest core, DRAM on a chip. `l1_operation` is the one at which L1 is fullest."""

    operations: tuple[OperationRecord, ...]
    l1_bytes: int
    l1_operation: str
    weights: int
    cache: int
    activations: int

    @property
    def dram_bytes(self) -> int:
        return self.weights + self.cache + self.activations


def measure_footprint(run: Callable[[], Any], mesh: Any, *, weights: list[Any], cache: list[Any]) -> Footprint:
    """Run a forward and watch its operations; `weights` and `cache` are the tensors that it finds on the device.

    Errors: what an operation raises that ttnn refuses.
    """
    held = [dram_of(tensors) for tensors in (weights, cache)]
    with record_operations(mesh) as recorder, _watching_l1(mesh, recorder.operations) as fullest:
        run()
    l1_bytes, l1_operation = max(fullest, default=(0, "no operation"))
    return Footprint(
        operations=tuple(recorder.operations),
        l1_bytes=l1_bytes,
        l1_operation=l1_operation,
        weights=held[0],
        cache=held[1],
        activations=recorder.peak_dram_bytes_per_bank * board_of(mesh).dram_banks,
    )


def dram_of(tensors: list[Any]) -> int:
    """Bytes that device tensors take of a chip's DRAM."""
    in_dram = [tensor for tensor in tensors if tensor.memory_config().buffer_type == ttnn.BufferType.DRAM]
    return sum(int(tensor.buffer_num_pages() * tensor.buffer_aligned_page_size()) for tensor in in_dram)


def median_us(prepare: Callable[[], Callable[[], Any]], mesh: Any) -> float:
    """The median time of a forward, the device waited for, after a few that are not counted. Units: µs."""
    times = []
    for number in range(_WARM_UP + _TIMED):
        run = prepare()
        ttnn.synchronize_device(mesh)
        start = time.perf_counter()
        run()
        ttnn.synchronize_device(mesh)
        if number >= _WARM_UP:
            times.append((time.perf_counter() - start) * 1e6)
    return median(times)


@contextmanager
def _watching_l1(mesh: Any, records: list[OperationRecord]) -> Iterator[list[tuple[int, str]]]:
    """L1 at each recorded operation: what was held before it, and its own buffers and output."""
    kind: Any = ttnn.decorators.FastOperation
    run = kind.__call__
    fullest: list[tuple[int, str]] = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        before = int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).total_bytes_allocated_per_bank)
        known = len(records)
        output = run(operation, *args, **kwargs)
        if len(records) == known + 1:
            record = records[-1]
            what = f"{record.name} of {' and '.join(record.inputs)}"
            said = f"{what}: {before:,} bytes held before it, {record.l1_bytes:,} of its own"
            fullest.append((before + record.l1_bytes, said))
        return output

    kind.__call__ = call
    try:
        yield fullest
    finally:
        kind.__call__ = run
