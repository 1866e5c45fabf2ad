"""Prints the signatures of the installed ttnn as JSON. Runs alone: in an environment that has ttnn and nothing of ttt.

No device is opened and torch is not imported: operations of the binding (nanobind) carry their signatures, Python functions
have theirs. Every public name below `ttnn` has one entry:

* a function, an operation or a class: its overloads, each the parameters as "input,/,*,dtype=" where `=` marks a default;
* an enumeration, or anything else that has names of its own and no signature: those names, after a dot;
* a value: nothing.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import os
import sys
from types import ModuleType
from typing import Any

KEPT = ("ttnn._ttnn.fetch_and_increment_tensor_id", "ttnn._ttnn.graph")
"""Private names and modules that the packages use for want of public ones."""


def parameters(text: str) -> str:
    r"""The parameters of a signature of nanobind, without their types.

    >>> parameters(r"def __call__(self, x: Tensor, /, *, sizes: tuple[int, int] = \0, **rest) -> Tensor")
    'x,/,*,sizes=,**rest'
    """
    _, parenthesis, tail = text.partition("(")
    inside, end, _ = tail.rpartition(") ->")
    if not (parenthesis and end):
        return "..."  # some were written by hand
    names = []
    for part in _split(inside.replace("\\*", "*")):
        name, _, rest = part.partition(":")
        default = "=" if "=" in (rest or name) else ""
        name = name.partition("=")[0].strip()
        if name and name != "self":
            names.append(name + default)
    return ",".join(names)


def _split(text: str) -> list[str]:
    """At the commas outside brackets and quotes."""
    parts, depth, quoted, last = [], 0, False, 0
    for i, letter in enumerate(text):
        if letter in "\"'":
            quoted = not quoted
        elif not quoted and letter in "[(<{":
            depth += 1
        elif not quoted and letter in "])>}" and text[i - 1 : i + 1] != "->":
            depth -= 1
        elif letter == "," and not depth and not quoted:
            parts.append(text[last:i].strip())
            last = i + 1
    return [*parts, text[last:].strip()]


def of_python(function: Any) -> list[str]:
    """The parameters of a Python function; none if it has no signature.

    >>> of_python(lambda x, /, *, dtype=None: x)
    ['x,/,*,dtype=']
    """
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return []
    bare = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else None)
        for each in found.parameters.values()
        if each.name != "self"
    ]
    text = str(inspect.Signature(bare)).strip("()")
    return [text.replace("=None", "=").replace(" ", "")]


def overloads(value: Any) -> list[str] | None:
    """Those of what can be called; [] where nobody knows, None for a value."""
    if type(value).__name__ in ("FastOperation", "Operation"):
        value = value.function
    if isinstance(value, type):
        if issubclass(value, enum.Enum) or "__init__" not in dir(value):
            return None
        value = value.__init__
    for carrier in (value, vars(type(value)).get("__call__")):
        found = getattr(carrier, "__nb_signature__", None)
        if isinstance(found, tuple):
            return [parameters(each[0]) for each in found]
    if not callable(value):
        return None
    return of_python(value)


def entry(value: Any) -> list[str]:
    found = overloads(value)
    if found is not None:
        return sorted(set(found)) or ["..."]
    if isinstance(value, type):
        return ["." + ",".join(sorted(name for name in vars(value) if not name.startswith("_")))]
    return []


def walk(module: ModuleType, name: str, found: dict[str, list[str]], seen: set[int]) -> None:
    seen.add(id(module))
    for attribute, value in sorted(vars(module).items()):
        full = f"{name}.{attribute}"
        if attribute.startswith("_") or full in found:
            continue
        if isinstance(value, ModuleType):
            if value.__name__.split(".")[0] == "ttnn" and id(value) not in seen:
                walk(value, full, found, seen)
        elif getattr(value, "__module__", "ttnn").split(".")[0] == "ttnn" or type(value).__module__.startswith("ttnn"):
            found[full] = entry(value)


def read() -> dict[str, Any]:
    """The release and its names."""
    os.environ["LOGURU_LEVEL"] = "ERROR"
    sys.modules["torch"] = None  # type: ignore[assignment]  # 2 s, and needed for no signature
    ttnn = importlib.import_module("ttnn")
    found: dict[str, list[str]] = {}
    walk(ttnn, "ttnn", found, set())
    for name in KEPT:
        value: Any = ttnn
        for part in name.split(".")[1:]:
            value = getattr(value, part, None)
        if isinstance(value, ModuleType):
            walk(value, name, found, set())
        elif value is not None:
            found[name] = entry(value)
    from importlib.metadata import version

    return {"release": version("ttnn"), "names": found}


if __name__ == "__main__":
    json.dump(read(), sys.stdout)
