"""Whole forwards as straight lines of Python: what a forward does between its ttnn calls is the same each time, and is left out.

A forward of a block is traced once it has been run a few times with the same operations: which of them it calls, with which of
its arguments, of the block's weights and of earlier results. That is written down as one function of ttnn calls [_straight],
which serves from then on. A forward that does anything else with tensors is left as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature
from itertools import chain
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, cast

from ttt_hw._straight import Number, Unclear, Written, function
from ttt_hw.bound import Operations

__all__ = ["straight_line"]

BlockT = TypeVar("BlockT")
P = ParamSpec("P")
R = TypeVar("R")

RUNS = 2  # before a forward is traced: prompts of a length that comes once or twice are not
DEPTH = 6  # of attributes and indices from a block to a weight


def straight_line(
    method: Callable[Concatenate[BlockT, Operations, P], R],
) -> Callable[Concatenate[BlockT, Operations, P], R]:
    """A part of a forward, `method(block, ops, *given)`, that is written down once it has been run a few times.

    `given`: tensors, numbers, None, and what is always the same for the same operations, as their workload. What the method
    decides must depend on that alone, on which tensors are None, and on how the block was made.
    """
    attribute = f"_lines_of{method.__name__}"
    names = [*signature(method).parameters]
    block, ops, *others = names
    given = ", ".join(["", *others])

    def first(block: Any, ops: Operations, *given: Any) -> Any:
        if ops.written is None:
            return method(block, ops, *given)  # type: ignore[call-arg]
        tried = vars(block).setdefault(attribute, {})[id(ops)] = _Tried(method, ops, attribute)
        return tried(block, *given)

    lines = [
        "try:",
        f"  lines = {block}.{attribute}[id({ops})]",
        "except (AttributeError, KeyError):",
        "  lines = None",
        "if lines is None:",
        f"  return first({block}, {ops}{given})",
        f"return lines({block}{given})",
    ]
    forward = wraps(method)(function(method.__name__, names, lines, {"first": first}))  # *args would cost as much again
    return cast("Callable[Concatenate[BlockT, Operations, P], R]", forward)


class _Tried:
    """A forward until it is written down. It holds the operations by whose identity it is found."""

    def __init__(self, method: Callable[..., Any], ops: Operations, attribute: str) -> None:
        self._method = method
        self._ops = ops
        self._attribute = attribute
        self._runs = 0

    def __call__(self, block: Any, *given: Any) -> Any:
        self._runs += 1
        if self._runs <= RUNS:
            return _plain(self._method, self._ops, block, *given)
        plain = partial(_plain, self._method, self._ops)
        getattr(block, self._attribute)[id(self._ops)] = plain  # if it cannot be traced, or fails
        trace = _Trace(self._ops, block, given)
        result, lines = trace.of(self._method, plain)
        if lines is not None:
            getattr(block, self._attribute)[id(self._ops)] = lines
        return result


def _plain(method: Callable[..., Any], ops: Operations, block: Any, *given: Any) -> Any:
    ops.moved.clear()  # a forward that failed may have left something
    return method(block, ops, *given)


class _Trace:
    """One run of a forward, of which each operation is noted as lines."""

    def __init__(self, ops: Operations, block: Any, given: Sequence[Any]) -> None:
        import ttnn

        self._tensor: type = ttnn.Tensor
        self._ops = ops
        self._block = block
        self._given = [Number(each) if type(each) is int else each for each in given]
        self._known = dict(_weights(block, self._tensor))
        self._clear = True
        for position, each in enumerate(self._given):
            if isinstance(each, (self._tensor, Number)):
                self._clear = self._clear and id(each) not in self._known  # else it may be either, the next time
                self._known[id(each)] = f"g{position}"
        self._calls: list[_Call] = []
        self._inside = False

    def of(self, method: Callable[..., Any], plain: Callable[..., Any]) -> tuple[Any, Callable[..., Any] | None]:
        """What the method returns, and its lines; None where they do not say all."""
        self._ops.moved.clear()
        noted = Operations({name: partial(self._call, name) for name in self._ops})
        with self._watched():
            result = method(self._block, noted, *self._given)
        if not self._clear or not self._calls:
            return result, None
        try:
            end = self._text(result)
        except Unclear:
            return result, None
        there = tuple(each is not None for each in self._given)
        key = method, there, tuple(self._calls), end
        if key not in self._ops.forwards:  # which another block with the same operations may have written down
            name = type(self._block).__name__
            self._ops.forwards[key] = _function(name, self._ops, there, self._calls, end, plain)
        return result, self._ops.forwards[key]

    def _call(self, name: str, *given: Any) -> Any:
        texts: list[str] = []
        try:
            texts = [self._text(each) for each in given]  # now: what it frees may leave its identity to another
        except Unclear:
            self._clear = False
        self._inside = True
        try:
            result = self._ops[name](*given)
        finally:
            self._inside = False
        if self._clear:
            self._note(name, texts, result)
        return result

    def _note(self, name: str, texts: Sequence[str], result: Any) -> None:
        number = len(self._calls)
        made: tuple[str, ...] = (f"o{number}",)
        if isinstance(result, (list, tuple)):
            made = tuple(f"o{number}_{place}" for place in range(len(result)))
            self._known |= {id(each): each_name for each, each_name in zip(result, made, strict=True)}
        else:
            self._known[id(result)] = made[0]
        target = f"{', '.join(made)}, " if isinstance(result, (list, tuple)) else made[0]
        self._calls.append(_Call(name, tuple(texts), target, made))

    def _text(self, value: Any) -> str:
        if value is None:
            return "None"
        if id(value) in self._known and isinstance(value, (self._tensor, Number)):
            return self._known[id(value)]
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self._text(each) for each in value)}]"
        raise Unclear

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A ttnn call that is none of the operations' makes the trace unclear."""
        import ttnn

        kind: Any = ttnn.decorators.FastOperation
        run = kind.__call__

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            self._clear = self._clear and self._inside
            return run(operation, *args, **kwargs)

        kind.__call__ = call
        try:
            yield
        finally:
            kind.__call__ = run


class _Call(NamedTuple):
    """A call of an operation: what it is given, what its result is assigned to, and the names that this makes."""

    name: str
    given: tuple[str, ...]
    target: str
    made: tuple[str, ...]


def _function(
    name: str, ops: Operations, there: Sequence[bool], calls: Sequence[_Call], end: str, plain: Callable[..., Any]
) -> Callable[..., Any]:
    """Calls as a function of the block and what it is given; `there`: which of that is not None."""
    names = [f"g{position}" for position in range(len(there))]
    tests = [f"{each} is {'' if is_there else 'not '}None" for each, is_there in zip(names, there, strict=True)]
    lines = [f"if {' or '.join(tests)}: return plain(block, {', '.join(names)})"]
    called = [(ops.written or {}).get(call.name) for call in calls]
    if any(written.moves for written in called if written is not None):
        lines.append("moved.clear()")
    constants: dict[str, Any] = {"plain": plain, "moved": ops.moved}
    results = {made for call in calls for made in call.made}
    bodies = []
    for number, (call, written) in enumerate(zip(calls, called, strict=True)):
        if written is None:
            constants[f"f{number}"] = ops[call.name]
            bodies.append(ast.parse(f"{call.target} = f{number}({', '.join(call.given)})").body)
        else:
            constants |= {f"o{number}_{key}": value for key, value in written.constants.items()}
            bodies.append(_renamed(written, number, call))
    last = {each: number for number, body in enumerate(bodies) for each in _names(body) & results}
    returned = _names(ast.parse(end).body)
    for number, body in enumerate(bodies):
        lines += [line for each in body for line in ast.unparse(each).splitlines()]
        temporary = _names(body, stored=True) - results
        dead = temporary | {each for each in results if last[each] == number and each not in returned}
        if dead:
            lines.append(f"del {', '.join(sorted(dead))}")  # a view of a tensor keeps its memory
    lines.append(f"return {end}")
    return function(name, ["block", *names], lines, constants)


def _renamed(written: Written, number: int, call: _Call) -> list[ast.stmt]:
    """The lines of an operation with names of their own, what it is given in the place of its parameters."""
    read = dict(zip(written.parameters, call.given, strict=True))

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if node.id in read:
                return ast.parse(read[node.id], mode="eval").body
            return ast.Name(id=f"o{number}_{node.id}", ctx=node.ctx)

        def visit_Return(self, node: ast.Return) -> ast.stmt:
            assert node.value is not None
            value = ast.unparse(self.visit(node.value))
            return ast.parse(f"{call.target} = {value}").body[0]

    tree = ast.parse("\n".join(["def run():", *(f"  {line}" for line in written.lines)]))
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    return [Rename().visit(each) for each in body.body]


def _names(statements: Sequence[ast.stmt], *, stored: bool = False) -> set[str]:
    nodes = chain.from_iterable(ast.walk(each) for each in statements)
    return {node.id for node in nodes if isinstance(node, ast.Name) and (not stored or isinstance(node.ctx, ast.Store))}


def _weights(block: Any, tensor: type) -> Iterator[tuple[int, str]]:
    """The tensors of a block's weights by identity, and how to read each from the block, which may be given others."""
    seen: set[int] = set()
    held: list[tuple[Any, str]] = [(block, "block")]
    for _ in range(DEPTH):
        within: list[tuple[Any, str]] = []
        for value, path in held:
            for each, text in _parts(value, path):
                if isinstance(each, tensor):
                    if text.endswith(".tensor"):
                        yield id(each), text
                elif id(each) not in seen:
                    seen.add(id(each))
                    within.append((each, text))
        held = within


def _parts(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    if isinstance(value, (list, tuple)):
        yield from ((each, f"{path}[{place}]") for place, each in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((each, f"{path}[{key!r}]") for key, each in value.items() if isinstance(key, (int, str, tuple)))
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((each, f"{path}.{name}") for name, each in vars(value).items() if name != "_plans")
