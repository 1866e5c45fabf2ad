"""Operations of a plan as straight lines of Python: the ttnn calls that a pattern makes, written down when it makes them.

What a pattern calls depends on its request and board alone, so that the calls of its first tensors are those of all. A pattern
that does something else between them, as calling a tensor's methods, is asked each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttt_hw.bound import BoundOp


class Mover:
    """Brings a tensor to another layout; `target` makes ttnn's object for it, once."""

    __slots__ = ("_config", "_target")

    def __init__(self, target: Callable[[], Any]) -> None:
        self._target = target
        self._config: Any = None

    @property
    def config(self) -> Any:
        if self._config is None:
            self._config = self._target()
        return self._config

    def __call__(self, tensor: Any) -> Any:
        import ttnn

        return ttnn.to_memory_config(tensor, self.config)


class Issued:
    """A pattern's `issue` that notes the ttnn operations which it calls."""

    def __init__(self, issue: Callable[[list[Any]], Any]) -> None:
        self._issue = issue
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.tensors: list[Any] = []
        self.result: Any = None

    def __call__(self, tensors: list[Any]) -> Any:
        import ttnn

        kind: Any = ttnn.decorators.FastOperation
        run, depth = kind.__call__, 0

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                result = run(operation, *args, **kwargs)
            finally:
                depth -= 1
            if not depth:
                self.calls.append((operation, args, kwargs, result))
            return result

        self.tensors = [Number(each) if type(each) is int else each for each in tensors]
        kind.__call__ = call
        try:
            self.result = self._issue(list(self.tensors))
        finally:
            kind.__call__ = run
        return self.result


class Number(int):
    """A number that is given, so that it is not taken for another of the same value."""


class Unclear(Exception):
    """The calls alone do not say how the result comes from what is given."""


@dataclass(frozen=True, slots=True)
class Written:
    """A function as its lines, the last of which returns."""

    name: str
    parameters: Sequence[str]
    lines: Sequence[str]
    constants: Mapping[str, Any]

    @property
    def moves(self) -> bool:
        """Whether it keeps what it moved for later operations."""
        return any("moved" in line for line in self.lines)

    def made(self) -> Callable[..., Any]:
        lines = self.lines
        if self.moves:  # what fails must not leave anything to the next forward
            lines = ["try:", *(f"  {line}" for line in lines), "except BaseException:", "  moved.clear()", "  raise"]
        return function(self.name, self.parameters, lines, self.constants)


def straight(op: BoundOp, issued: Issued, moved: dict[str, Any], given: Sequence[Any]) -> Written | None:
    """The operation as one function of `given`; None where its calls do not say all."""
    import ttnn

    inputs = op.inputs
    names = [f"p{position}" for position in range(len(given))]
    others = zip(names[len(inputs) :], given[len(inputs) :], strict=True)
    read = [*names[: len(inputs)], *(name for name, each in others if each is not None)]
    constants: dict[str, Any] = {"moved": moved, "to_memory_config": ttnn.to_memory_config}
    lines: list[str] = []
    for position, (each, name) in enumerate(zip(inputs, names, strict=False)):
        if each.bring is not None:
            lines += _brought(position, each, name)
            constants[f"config{position}"] = each.bring.config if isinstance(each.bring, Mover) else None
            read[position] = f"r{position}"
    try:
        lines += _Lines(issued, read, constants).written()
    except Unclear:
        return None
    finally:
        issued.calls.clear()  # it would keep tensors
        issued.tensors.clear()
        issued.result = None
    for each, name in zip(inputs, names, strict=False):
        if each.last_here and each.bring is not None:
            lines += [f"held = moved.pop({each.name!r}, None)", "if held is not None: held.deallocate(False)"]
        if each.last:
            lines.append(f"{name}.deallocate(False)")
    if isinstance(op.exit, Mover):
        constants["exit_config"] = op.exit.config
        lines += ["left = to_memory_config(result, exit_config)", "result.deallocate(False)", "return left"]
    else:
        lines.append("return result")
    if lines[-2:] == ["result = made0", "return result"]:
        lines[-2:] = ["return made0"]
    if len(lines) == 2 and lines[0].startswith("made0 = ") and lines[1] == "return made0":
        lines = [f"return {lines[0].removeprefix('made0 = ')}"]
    return Written(op.name, names, lines, constants)


def _brought(position: int, each: Any, name: str) -> list[str]:
    target = f"r{position}"
    if not each.moves:
        return [
            f"{target} = moved.get({each.name!r})",
            f"if {target} is None: {target} = moved[{each.name!r}] = to_memory_config({name}, config{position})",
        ]
    freed = [f"s{position}.deallocate(False)"] if each.replaces else []
    return [
        f"s{position} = moved.get({each.name!r}, {name})",
        f"{target} = moved[{each.name!r}] = to_memory_config(s{position}, config{position})",
        *freed,
    ]


class _Lines:
    """Noted calls as lines of which the last sets `result`."""

    def __init__(self, issued: Issued, read: Sequence[str], constants: dict[str, Any]) -> None:
        import ttnn

        self._issued = issued
        self._constants = constants
        self._tensor: type = ttnn.Tensor
        self._known = {id(tensor): name for tensor, name in zip(issued.tensors, read, strict=True)}
        clear = all(isinstance(tensor, (ttnn.Tensor, Number)) for tensor in issued.tensors)
        passed = {id(each) for _, args, kwargs, _ in issued.calls for each in (*args, *kwargs.values())}
        clear = clear and all(id(each) in passed for each in issued.tensors if isinstance(each, Number))
        if not clear or len(self._known) != len(issued.tensors) or not issued.calls:
            raise Unclear

    def written(self) -> list[str]:
        lines = []
        for number, (operation, args, kwargs, result) in enumerate(self._issued.calls):
            given = [self._text(each) for each in args]
            given += [f"{name}={self._text(each)}" for name, each in kwargs.items()]
            lines.append(f"made{number} = {self._constant(operation)}({', '.join(given)})")
            if isinstance(result, self._tensor):
                self._known[id(result)] = f"made{number}"
            elif isinstance(result, (list, tuple)):
                self._known |= {id(each): f"made{number}[{place}]" for place, each in enumerate(result)}
        if self._issued.result is self._issued.calls[-1][3]:
            return [*lines, f"result = made{len(lines) - 1}"]
        return [*lines, f"result = {self._text(self._issued.result)}"]

    def _text(self, value: Any) -> str:
        if id(value) in self._known and isinstance(value, (self._tensor, Number)):
            return self._known[id(value)]
        if isinstance(value, self._tensor):
            raise Unclear
        if isinstance(value, (list, tuple)) and any(isinstance(each, self._tensor) for each in value):
            texts = ", ".join(self._text(each) for each in value)
            return f"[{texts}]" if isinstance(value, list) else f"({texts},)"
        return repr(value) if value is None or isinstance(value, (bool, int, str)) else self._constant(value)

    def _constant(self, value: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name


def function(
    name: str, parameters: Sequence[str], lines: Sequence[str], constants: Mapping[str, Any]
) -> Callable[..., Any]:
    body = "\n    ".join(lines)
    source = f"def make({', '.join(constants)}):\n  def run({', '.join(parameters)}):\n    {body}\n  return run\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<{name}>", "exec"), namespace)
    made: Callable[..., Any] = namespace["make"](*constants.values())
    return made
