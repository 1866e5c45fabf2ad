"""Writes type stubs of the installed ttnn, so that mypy checks every ttnn call: wrong keywords and types, names that went.

ttnn is untyped, but its binding (nanobind) knows the signature of every function, class and operation, and its Python
functions have annotations. Nothing is opened, and torch is not imported. The stubs are made again when ttnn, nanobind,
Python or this file changes. Where they say more than ttnn does is in the tables below.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import UnionType
from typing import Any, ForwardRef

from nanobind.stubgen import StubGen

from tools.workspace import ROOT

FOLDER = ROOT / ".mypy_cache" / "stubs"
"""Holds the stubs of each ttnn, and `current`, where `mypy_path` of pyproject.toml looks."""

BINDING = "ttnn._ttnn"

ALSO_TAKES = {
    "tensor.Tensor": "Tensor",
    "tensor.CoreCoord": "Pair",
    "types.Shape": "Sizes",
    "types.QueueId": "Index",
    "activation.UnaryWithParam": "Activation",
    "activation.EltwiseUnaryWithParam": "ActivationWithParam",
}
"""What a parameter of a type takes besides it. All but the first are conversions in C++ that no signature mentions."""

ACCEPTED = f"""\
from collections.abc import Sequence
from typing import TypeAlias

from {BINDING}.activation import UnaryOpType, UnaryWithParam
from ttt_core import Tensor as Tensor

Index: TypeAlias = int
Pair: TypeAlias = tuple[int, int]
Sizes: TypeAlias = Sequence[int]
Activation: TypeAlias = UnaryOpType | tuple[UnaryOpType, float]
ActivationWithParam: TypeAlias = UnaryWithParam | Activation
"""

SKIPPED = ("comparison", "config_serialization", "__dataclass_params__")
"""What nobody calls and mypy cannot read: two modules that hide what they import, a class that dataclasses hides."""

OPERAND = {"__getitem__": "object"}
"""Of the operators that ttnn/__init__.py gives Tensor as lambdas; the others take a Tensor or a float."""

NAMELESS = re.compile(r'"[^"]+::[^"]+"')  # a C++ class that Python does not know: no value has it
DEFAULT = re.compile(r"\\=?\d+$")  # nanobind's mark for the default of a parameter
NEXT_PARAMETER = re.compile(r", (?=\w+:|/|\*\w|\*,)")
TAKEN = re.compile(rf"(?:\bttnn\.)?\b_ttnn\.({'|'.join(map(re.escape, ALSO_TAKES))})\b(?!\.)")


class TtnnStub(StubGen):  # type: ignore[misc]
    """The stub of one module of ttnn."""

    def __init__(self, module: Any, operations: dict[str, str]) -> None:
        super().__init__(module, include_docstrings=False)
        self.operations = operations
        """Filled with the operations of this module, and where the signature of each is from."""

    def put(self, value: object, name: str | None = None, parent: object | None = None) -> None:
        if name is None or type(value).__name__ != "FastOperation":
            if name is None or (name.isidentifier() and name not in SKIPPED):
                super().put(value, name, parent)
            return
        function: Any = value.function  # type: ignore[attr-defined]
        in_binding = type(function).__module__.startswith(("nanobind", BINDING))
        self.operations[f"{self.module.__name__}.{name}"] = "binding" if in_binding else "Python"
        if in_binding:
            self.put_nb_func(function if hasattr(function, "__nb_signature__") else type(function).__call__, name)
        else:
            self.write_ln(f"def {name}{self.signature_str(signature(function))}: ...\n")

    def put_function(self, fn: Callable[..., Any], name: str | None = None, parent: object | None = None) -> None:
        if parent is not None and getattr(fn, "__name__", None) == "<lambda>":
            operand = OPERAND.get(name or "", "Tensor | float")
            self.write_ln(f"def {name}(self, other: {operand}, /) -> Tensor: ...\n")
        else:
            super().put_function(fn, name, parent)

    def put_nb_overload(self, fn: Any, sig: Any, name: str | None = None, is_classmethod: bool = False) -> None:
        text, *rest = sig
        if not self.depth:  # an operation is an object of a class of its own, but is called as a function
            text = text.replace("def __call__(self, ", f"def {name}(")
        start = self._output.tell()
        super().put_nb_overload(fn, (python_signature(text), *rest), name, is_classmethod=is_classmethod)
        self._output.seek(start)
        try:
            ast.parse(textwrap.dedent(self._output.read()))
        except SyntaxError:  # some were written by hand
            self._output.seek(start)
            self._output.truncate()
            anything = self.bind("typing", "Any")
            self.write_ln(f"def {name}(*args: {anything}, **kwargs: {anything}) -> {anything}: ...\n")
            self.operations[f"{self.module.__name__}.{name}"] = "nowhere"

    def signature_str(self, s: Signature) -> str:
        if s.return_annotation is Signature.empty and "self" not in s.parameters:
            s = s.replace(return_annotation=Any)
        return str(super().signature_str(s))

    def param_str(self, p: Parameter) -> str:
        text = with_conversions(str(super().param_str(p)))
        return text if "None =" in text else text.replace(" = None", " | None = None")

    def type_str(self, tp: Any) -> str:
        if isinstance(tp, UnionType):
            return " | ".join(self.type_str(arg) for arg in tp.__args__)
        if isinstance(tp, ForwardRef):
            tp = tp.__forward_arg__
        if isinstance(tp, str):
            for word in re.findall(r"\w+", tp):
                if (origin := getattr(vars(self.module).get(word), "__module__", "")) in ("typing", "collections.abc"):
                    self.bind(origin, word)
        return str(super().type_str(Callable[..., Any] if tp is callable else tp))


def python_signature(text: str) -> str:
    r"""A signature of nanobind as mypy can read it, and with all that the parameters take.

    >>> python_signature('def f(a: int = \\0, b: "x::Y") -> ttnn._ttnn.types.Shape')
    'def f(a: int = \\0, b: typing.NoReturn = ...) -> ttnn._ttnn.types.Shape'
    >>> python_signature(r"def f(\*, shape: ttnn._ttnn.types.Shape) -> None")
    'def f(*, shape: ttnn._ttnn.types.Shape | ttnn._accepted.Sizes) -> None'
    """
    head, parenthesis, tail = text.partition("(")
    parameters, end, result = tail.rpartition(")")
    parameters = re.sub(r"(?<=[ \[])Optional\[", "typing.Optional[", parameters.replace("\\*", "*"))
    parts = NEXT_PARAMETER.split(with_conversions(NAMELESS.sub("typing.NoReturn", parameters)))
    optional = False
    for i, part in enumerate(parts):
        if part.startswith("*"):
            break
        optional = optional or DEFAULT.search(part) is not None
        if optional and "=" not in part and part != "/":
            parts[i] += " = ..."  # nanobind lets it follow one with a default, Python does not
    return head + parenthesis + ", ".join(parts) + end + NAMELESS.sub("object", result)


def with_conversions(parameters: str) -> str:
    """The types in parameters, each with what it takes besides."""
    return TAKEN.sub(lambda found: f"{found[0]} | ttnn._accepted.{ALSO_TAKES[found[1]]}", parameters)


def write(folder: Path) -> dict[str, str]:
    """Writes the stubs of ttnn; all its operations, and where the signature of each is from."""
    os.environ["LOGURU_LEVEL"] = "WARNING"
    sys.modules["torch"] = None  # type: ignore[assignment]  # 2 s, and needed for no signature
    ttnn: Any = importlib.import_module("ttnn")
    ttnn.distributed = sys.modules["ttnn.distributed"]  # the package, not its module of that name
    ttnn.Shape.__orig_bases__ = (Sequence[int],)  # but for slices, which mypy refuses
    operations: dict[str, str] = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] != "ttnn" or name.split(".")[-1] in SKIPPED or module.__name__ != name:
            continue
        stub = TtnnStub(module, operations)
        if name == "ttnn":
            for private in ("_ttnn", "_accepted"):
                stub.bind(f"ttnn.{private}", name=private, export=True)
        stub.put(module)
        path = folder.joinpath(*name.split("."), "__init__.pyi")
        path.parent.mkdir(parents=True)
        path.write_text(stub.get())
    (folder / "ttnn" / "_accepted.pyi").write_text(ACCEPTED)
    return operations


def key() -> str:
    """Of all that decides what the stubs are."""
    parts = (version("ttnn"), version("nanobind"), sys.version, Path(__file__).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def update(folder: Path) -> dict[str, str] | None:
    """Makes the stubs in a folder current; None if they were. Two processes may do it at once."""
    folder.mkdir(parents=True, exist_ok=True)
    stubs = folder / f"ttnn-{version('ttnn')}-{key()}"
    operations = None
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if not stubs.exists():
            new = Path(temporary, "stubs")
            operations = write(new)
            try:
                new.rename(stubs)
            except OSError:  # the other process was first
                shutil.rmtree(new)
        link = Path(temporary, "link")
        link.symlink_to(stubs.name)
        link.replace(folder / "current")
    return operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, metavar="DIR", help=f"default: {FOLDER}")
    folder = parser.parse_args().folder
    start = time.perf_counter()
    operations = update(folder)
    seconds = time.perf_counter() - start
    if operations is None:
        print(f"stubs of ttnn {version('ttnn')} are current, {seconds:.1f} s")
        return
    lost = [name for name, origin in operations.items() if origin == "nowhere"]
    print(f"stubs of ttnn {version('ttnn')} made, {seconds:.1f} s: {len(operations) - len(lost)} operations")
    print(f"without a signature that is Python: {', '.join(lost)}")


if __name__ == "__main__":
    main()
