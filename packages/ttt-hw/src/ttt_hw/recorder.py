"""What each operation takes on the device: cores, L1, and whether ttnn accepts it.

An operation first runs eagerly, which is where ttnn refuses bad configs and finds memory clashes; then once more under a
graph capture that dispatches nothing, which accounts for its buffers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ttt_hw.errors import OutOfMemory, translate

__all__ = ["OperationRecord", "Recorder", "record_operations"]

_RANGE = re.compile(r"\[(\d+)-(\d+) - (\d+)-(\d+)\]")
_DRAM_SIGNS = {"buffer_allocate": 1, "buffer_deallocate": -1}
_BUFFERS = ("circular_buffer_allocate", "dataflow_buffer_allocate")
# Operations that move or describe data without a program on the device.
_SILENT = frozenset(
    {"ttnn.deallocate", "ttnn.to_torch", "ttnn.from_torch", "ttnn.empty", "ttnn.zeros", "ttnn.from_device"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationRecord:
    """One operation as it ran. `config` is the class of its program config; `l1_bytes` are on the fullest core: circular
    buffers and the output. `error` is ttnn's refusal, `fits` False where only memory was lacking."""

    name: str
    inputs: tuple[str, ...]
    config: str
    cores: int
    l1_bytes: int
    error: str | None = None
    fits: bool = True


class Recorder:
    """The operations of a context in order, and the most DRAM that a bank held beyond what it held at the start.

    The most includes what an operation allocates and frees again, as collectives do, and what one asked for in vain.
    """

    def __init__(self, mesh: Any) -> None:
        self.operations: list[OperationRecord] = []
        self.peak_dram_bytes_per_bank = 0
        self._mesh = mesh
        self._start = self._dram()
        self._depth = 0

    def call(self, operation: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name: str = operation.python_fully_qualified_name
        if self._depth or name in _SILENT:
            return run(operation, *args, **kwargs)
        self._depth += 1
        before = self._dram() - self._start
        try:
            output = run(operation, *args, **kwargs)
            self._note(self._dram() - self._start)
            cores, l1_bytes, dram_bytes = self._account(operation, run, args, kwargs)
            self._note(before + dram_bytes)
            self.operations.append(_record(name, args, kwargs, cores=cores, l1_bytes=l1_bytes))
            return output
        except RuntimeError as error:
            refusal = translate(error, where=name)
            if isinstance(refusal, OutOfMemory) and refusal.memory == "DRAM":
                self._note(before + refusal.wanted)
            fits = not isinstance(refusal, OutOfMemory)
            self.operations.append(_record(name, args, kwargs, cores=0, l1_bytes=0, error=str(refusal), fits=fits))
            raise refusal from error
        finally:
            self._depth -= 1

    def _account(
        self, operation: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[int, int, int]:
        """Cores, bytes of L1 on the fullest of them, and the most bytes of DRAM that it held at a time in a bank."""
        import ttnn

        capture = (
            ttnn._ttnn.graph
        )  # ttnn.graph warns at each capture that fast mode records no sub-graphs; none is needed
        capture.begin_graph_capture(capture.RunMode.NO_DISPATCH)
        try:
            run(operation, *args, **kwargs)
        finally:
            graph: Any = capture.end_graph_capture()
        cores = {
            (x, y)
            for node in graph
            if node["node_type"] in _BUFFERS
            for x0, y0, x1, y1 in (map(int, found) for found in _RANGE.findall(node["params"]["core_range_set"]))
            for x in range(x0, x1 + 1)
            for y in range(y0, y1 + 1)
        }
        banks = ttnn.get_memory_view(self._mesh, ttnn.BufferType.DRAM).num_banks
        l1_bytes = int(ttnn.graph.extract_resource_usage_per_core(graph).peak_total)
        return len(cores), l1_bytes, -(-_peak_dram(graph) // banks)

    def _note(self, dram_bytes_per_bank: int) -> None:
        self.peak_dram_bytes_per_bank = max(self.peak_dram_bytes_per_bank, dram_bytes_per_bank)

    def _dram(self) -> int:
        import ttnn

        return int(ttnn.get_memory_view(self._mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank)


@contextmanager
def record_operations(mesh: Any) -> Iterator[Recorder]:
    """Record every ttnn operation inside. A refused one is recorded and raised as the error of ttt that it stands for."""
    import ttnn

    recorder = Recorder(mesh)
    kind: Any = ttnn.decorators.FastOperation
    run = kind.__call__

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return recorder.call(operation, run, args, kwargs)

    kind.__call__ = call
    try:
        yield recorder
    finally:
        kind.__call__ = run


def _peak_dram(graph: Any) -> int:
    """The most bytes of DRAM on a chip at a time, beside what was there before."""
    steps = (
        _DRAM_SIGNS[node["node_type"]] * int(node["params"]["size"])
        for node in graph
        if node["node_type"] in _DRAM_SIGNS and node["params"]["type"] == "DRAM"
    )
    return max(accumulate(steps, initial=0))


def _record(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], **found: Any) -> OperationRecord:
    import ttnn

    given = (each for value in (*args, *kwargs.values()) for each in (value if isinstance(value, list) else [value]))
    tensors = [value for value in given if isinstance(value, ttnn.Tensor)]
    program = kwargs.get("program_config", kwargs.get("config"))
    return OperationRecord(
        name=name.removeprefix("ttnn."),
        inputs=tuple(f"{list(tensor.shape)} {tensor.dtype.name.lower()}" for tensor in tensors),
        config="" if program is None else type(program).__name__.removesuffix("ProgramConfig"),
        **found,
    )
