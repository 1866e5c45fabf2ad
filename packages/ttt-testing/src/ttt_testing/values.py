"""Values without hardware.

Inside `shadow()` each ttnn operation first runs on the device, which validates it, builds its program and allocates its
output; then its golden function computes the value on the host, once per chip. `ttnn.to_torch` and `ttt_hw.download`
answer with those values, so a program does not notice that its device computes nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import ttnn
from numpy.typing import NDArray

from ttt_core import GoldenError, WeightError
from ttt_hw import observe, remember_source, source_of, translate
from ttt_testing._collectives import COLLECTIVES, run_collective
from ttt_testing._goldens import CACHE_WRITES, Golden, attach_missing, golden_of, math_of, written_tensors
from ttt_testing.rounding import round_to

__all__ = ["Rounding", "Values", "remembered", "shadow"]

Rounding = Literal["none", "device"]
"""Whether each result is rounded to the dtype of the device tensor that it is the value of."""

_FLOATING = (ttnn.float32, ttnn.bfloat16, ttnn.bfloat8_b, ttnn.bfloat4_b)
Shards = list[torch.Tensor]  # one value per chip of the mesh, in row-major order

# Operations whose result is not a function of values.
_SILENT = frozenset({"ttnn.deallocate", "ttnn.synchronize_device"})


@dataclass(slots=True)
class _Entry:
    tensor: Any  # kept so that its id stays its own; dropped as soon as nobody else holds it
    shards: Shards

    def unshare(self) -> None:
        """Before a write: chips that hold equal values in one memory get their own."""
        seen: set[int] = set()
        for chip, shard in enumerate(self.shards):
            if shard.data_ptr() in seen:
                self.shards[chip] = shard.clone()
            seen.add(shard.data_ptr())


class Values:
    """What `shadow()` yields: the values of all live tensors, and counts of the operations that ran."""

    def __init__(self, rounding: Rounding) -> None:
        self.rounding = rounding
        self.operations: Counter[str] = Counter()
        self.trace: list[tuple[str, torch.Tensor]] | None = None
        """Give it a list to have each operation's name and first result on the first chip kept there."""
        self._entries: dict[int, _Entry] = {}
        self._depth = 0

    @property
    def num_operations(self) -> int:
        """Device operations that ttnn validated and a golden function gave a value."""
        return self.operations.total()

    def shards(self, tensor: Any) -> Shards:
        """A copy of the value on each chip. Raises GoldenError for a tensor whose history the shadow did not see."""
        return [shard.clone() for shard in self._value(tensor, reader="values.shards")]

    def to_torch(self, tensor: Any) -> torch.Tensor:
        """The value of a tensor that is the same on all chips (or of a single-chip mesh)."""
        first, *others = self.shards(tensor)
        if any(not torch.equal(first, other) for other in others):
            raise GoldenError(
                f"values.to_torch of a tensor {list(tensor.shape)} whose value differs between the chips of its mesh; "
                "one value is wanted. Read them with values.shards(tensor), or gather the tensor first."
            )
        return first

    def knows(self, tensor: Any) -> bool:
        """Whether the tensor has a value: its history was seen, and something has been written to it."""
        try:
            value = self._value(tensor, reader="values.knows")[0]
        except (GoldenError, WeightError):
            return False
        return not bool(value.flatten()[:1].isnan().any())

    def remember(self) -> None:
        """Let shadows that are opened later know the tensors that somebody still holds, with the values that they have now."""
        self._sweep()
        for entry in self._entries.values():
            if isinstance(entry.tensor, ttnn.Tensor) and source_of(entry.tensor) is None:
                parts = [shard.numpy() for shard in entry.shards]
                remember_source(entry.tensor, lambda parts=parts: parts)  # type: ignore[misc]

    def uploaded(self, tensor: Any, parts: Sequence[NDArray[np.generic]], host: Any, /) -> None:
        """Part of ttt_hw's TransferObserver: an array entered the mesh, with each chip's part of it."""
        if self.rounding == "none":
            self._put(tensor, _from_parts(parts))
            return
        packed = [_as_held(part.to_torch(), tensor.dtype) for part in ttnn.get_device_tensors(host)]
        self._entries[id(tensor)] = _Entry(tensor, packed if len(packed) == len(parts) else packed * len(parts))

    def value(self, tensor: Any, /) -> NDArray[np.generic]:
        """Part of ttt_hw's TransferObserver: an array leaves the device."""
        return self.to_torch(tensor).numpy()

    def call(self, operation: Any, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation on the device, then compute its value; operations that it calls itself are its own affair."""
        if self._depth:
            return run(operation, *args, **kwargs)
        self._sweep()
        self._depth += 1
        try:
            name: str = operation.python_fully_qualified_name
            output = _validated(name, run, operation, args, kwargs)
            if name in _SILENT:
                return output
            if name == "ttnn.to_torch":
                return self.to_torch(args[0] if args else kwargs["tensor"])
            if name == "ttnn.from_torch":
                host: torch.Tensor = args[0] if args else kwargs["tensor"]
                self._put(output, [host.detach().clone()] * _num_chips(output))
                return output
            if operation in COLLECTIVES:
                self._exchange(name, operation, args, kwargs, output)
            else:
                self._compute(name, operation, args, kwargs, output)
            if self.trace is not None:
                first = next((tensor for tensor in _flatten(output) if id(tensor) in self._entries), None)
                self.trace += [] if first is None else [(name, self._entries[id(first)].shards[0].clone())]
            return output
        finally:
            self._depth -= 1

    def _exchange(self, name: str, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tensor, *others = (*args, *([kwargs["input_tensor"]] if not args else []))
        mesh = (output.device().shape[0], output.device().shape[1])
        shards = run_collective(operation, self._value(tensor, name), mesh, tuple(others), kwargs)
        if tuple(shards[0].shape) != tuple(output.shape):
            raise GoldenError(
                f"{name}: the device made {list(output.shape)} but its golden function made {list(shards[0].shape)}. "
                "One of the two misreads the arguments; see ttt_testing._collectives."
            )
        self._put(output, shards)
        self.operations[name] += 1

    def _compute(self, name: str, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        outputs = [tensor for tensor in _flatten(output) if isinstance(tensor, ttnn.Tensor)]
        if not outputs:
            return
        golden = golden_of(operation)
        written = written_tensors(operation, args, kwargs)
        for entry in (self._entries.get(id(tensor)) for tensor in written):
            if entry is not None:
                entry.unshare()
        math = math_of(operation, kwargs)
        results: list[list[torch.Tensor]] = []
        made: dict[Any, list[torch.Tensor]] = {}  # chips that read the same memory make the same, and share that
        for chip in range(_num_chips(outputs[0])):
            chip_args, chip_kwargs = self._pick(args, chip, name), self._pick(math, chip, name)
            reads = [
                value for value in [*_flatten(chip_args), *_flatten(chip_kwargs)] if isinstance(value, torch.Tensor)
            ]
            key = tuple((value.data_ptr(), tuple(value.shape), value.stride()) for value in reads)
            if not written and key in made:
                results.append(made[key])
                continue
            if self.rounding == "device" and operation in CACHE_WRITES:
                chip_args = _rounded_like(args[0], chip_args)
            result = _run_golden(name, golden, chip_args, chip_kwargs)
            own = [entry.shards[chip] for entry in (self._entries.get(id(tensor)) for tensor in written) if entry]
            made[key] = _unshare(result, [*_flatten(chip_args), *_flatten(chip_kwargs)], own)
            results.append(made[key])
        shapes = [tuple(result.shape) for result in results[0]]
        if shapes != [tuple(tensor.shape) for tensor in outputs]:
            raise GoldenError(
                f"{name}: the device made {_shapes(outputs)} but its golden function made {_shapes(results[0])}. "
                f"One of the two misreads the arguments; see {golden.__module__}.{golden.__qualname__}."
            )
        for index, tensor in enumerate(outputs):
            target = written[index] if index < len(written) else tensor
            if operation not in CACHE_WRITES:  # those wrote the value's own memory, with rounded rows
                self._put(target, [result[index] for result in results])
            self._entries[id(tensor)] = _Entry(tensor, self._entries[id(target)].shards)
        self.operations[name] += 1

    def _put(self, tensor: Any, shards: Shards) -> None:
        """Give a tensor its value. One that has a value already is written in place, for whatever shares its memory."""
        converted: dict[int, torch.Tensor] = {}
        for shard in shards:
            if id(shard) not in converted:
                wide = _as_held(shard, tensor.dtype)
                converted[id(shard)] = round_to(wide, tensor.dtype) if self.rounding == "device" else wide
        held = [converted[id(shard)] for shard in shards]
        entry = self._entries.get(id(tensor))
        if entry is None:
            self._entries[id(tensor)] = _Entry(tensor, held)
        else:
            for memory, shard in zip(entry.shards, held, strict=True):
                memory.copy_(shard)

    def _value(self, tensor: Any, reader: str) -> Shards:
        entry = self._entries.get(id(tensor))
        if entry is None:
            source = source_of(tensor)
            if source is None:
                raise GoldenError(
                    f"{reader} reads a tensor {list(tensor.shape)} {tensor.dtype} that has no value: it was made before "
                    "shadow() opened, or by something other than a ttnn operation (a method such as tensor.cpu()). "
                    "Make it inside the context, with ttnn.from_torch, ttt_hw.upload or a ttnn operation such as ttnn.add."
                )
            self._put(tensor, _from_parts(source()))
            entry = self._entries[id(tensor)]
        return entry.shards

    def _pick(self, value: Any, chip: int, reader: str) -> Any:
        """Arguments as one chip's golden sees them."""
        if isinstance(value, ttnn.Tensor):
            return self._value(value, reader)[chip]
        if isinstance(value, ttnn.Shape):
            return tuple(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self._pick(element, chip, reader) for element in value)
        if isinstance(value, dict):
            return {key: self._pick(element, chip, reader) for key, element in value.items()}
        return value

    def _sweep(self) -> None:
        """Let go of tensors that only the shadow still holds, so that the allocator sees the program's own lifetimes."""
        dead = [key for key, entry in self._entries.items() if sys.getrefcount(entry.tensor) <= _ONLY_OURS]
        for key in dead:
            del self._entries[key]


def _count_of_unheld() -> int:
    entry = _Entry(object(), [])
    return sys.getrefcount(entry.tensor)


_ONLY_OURS = _count_of_unheld()
_active: list[Values] = []


@contextmanager
def shadow(rounding: Rounding = "none") -> Iterator[Values]:
    """Give every ttnn operation inside a value from its golden function.

    rounding: "none" keeps float32 throughout and so checks the math; "device" rounds each result to its tensor's own dtype
    (bfp8 and bfp4 by ttnn's own packing) and so shows what the chosen precisions cost.
    Errors: GoldenError for an operation without a golden function, a golden whose shape differs from the device's, a tensor
    whose value is not known.
    """
    if rounding not in ("none", "device"):
        raise ValueError(
            f"shadow(rounding={rounding!r}): give 'none' (check the math) or 'device' (check the precision)"
        )
    if _active:
        raise GoldenError(
            "shadow() is open already; one shadow at a time. Close the outer one, or use the values it gave."
        )
    attach_missing()
    values = Values(rounding)
    with ExitStack() as stack:
        _active.append(values)
        stack.callback(_active.clear)
        stack.callback(values._sweep)
        stack.enter_context(observe(values))
        kinds: tuple[Any, ...] = (ttnn.decorators.FastOperation, ttnn.decorators.Operation)
        for kind in kinds:
            run = kind.__call__
            stack.callback(setattr, kind, "__call__", run)
            kind.__call__ = _shadowed(values, run)
        yield values


@contextmanager
def remembered() -> Iterator[Values]:
    """Tensors that are made inside have their values in every shadow that is opened later.

    For a module that copies its weights to the device when it is made; ttt_weights.LazyWeight needs it not. The values stay
    in the host's memory.
    """
    with shadow("none") as values:
        yield values
        values.remember()


def _validated(
    name: str, run: Callable[..., Any], operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        return run(operation, *args, **kwargs)
    except RuntimeError as error:
        raise translate(error, where=name) from error


def _shadowed(values: Values, run: Callable[..., Any]) -> Callable[..., Any]:
    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        return values.call(operation, run, args, kwargs)

    return call


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for element in value.values() for leaf in _flatten(element)]
    if isinstance(value, (list, tuple)):
        return [leaf for element in value for leaf in _flatten(element)]
    return [value]


def _run_golden(name: str, golden: Golden, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    try:
        return [value for value in _flatten(golden(*args, **kwargs)) if isinstance(value, torch.Tensor)]
    except TypeError as error:
        raise GoldenError(
            f"{name}: its golden function {golden.__module__}.{golden.__qualname__} does not take these arguments: {error}."
        ) from error


def _unshare(results: Sequence[torch.Tensor], inputs: list[Any], own: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copy results that are views of an input, so that writing a cache in place cannot change another tensor.

    `own` is memory that the operation is meant to write.
    """
    shared = {_storage(value) for value in inputs if isinstance(value, torch.Tensor)} - {
        _storage(value) for value in own
    }
    return [result.clone() if _storage(result) in shared else result for result in results]


def _rounded_like(cache: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a cache write with the rows to write rounded to the cache's dtype: rounding the whole cache after each
    step gives the same, since values share exponents only within a row, and takes as long as the cache is large."""
    memory, rows, *others = args
    return (memory, round_to(rows, cache.dtype), *others)


def _storage(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _shapes(tensors: Sequence[Any]) -> str:
    return " and ".join(str(list(tensor.shape)) for tensor in tensors)


def _as_held(value: torch.Tensor, dtype: Any) -> torch.Tensor:
    """float32 for a floating dtype of the device, int64 for an integer one."""
    return value.to(torch.float32 if dtype in _FLOATING else torch.int64)


def _from_parts(parts: Sequence[NDArray[np.generic]]) -> Shards:
    """Each chip's value; chips that hold the same part share its memory until one is written."""
    made = {id(part): _from_numpy(part) for part in {id(part): part for part in parts}.values()}
    return [made[id(part)] for part in parts]


def _from_numpy(array: NDArray[np.generic]) -> torch.Tensor:
    """A torch tensor of its own memory: the array may be read-only, as mapped files are, or change later."""
    wide = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32
    return torch.from_numpy(np.array(array, dtype=wide, order="C"))


def _num_chips(tensor: Any) -> int:
    device = tensor.device()
    return int(device.get_num_devices()) if device is not None else 1
