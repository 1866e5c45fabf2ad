"""The public API of a package as text, read from its source without importing it: `nox -s api` writes packages/*/api.txt.

What is there: for each public module the names of its `__all__` that it defines, with signatures, fields and bases; the
names that the package exports; and the JSON documents that its code writes.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import griffe

from tools.workspace import ROOT, Package, packages

FILE = "api.txt"
HEADER = "# The public API of {name}; written by `nox -s api`.\n"
SAID = ("property", "cached", "classmethod", "staticmethod")  # labels that a caller sees


@dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON object that code writes: one literal, with its keys, those of objects in it as `a.b`."""

    name: str  # of the function: CheckReport.to_json
    schema: str
    keys: frozenset[str]
    where: str


def load(source: Path) -> griffe.Module:
    """A package from its source, e.g. packages/ttt-norm/src/ttt_norm."""
    loader = griffe.GriffeLoader(search_paths=[source.parent], allow_inspection=False)
    module = loader.load(source.name)
    loader.resolve_aliases(implicit=True, external=False)
    assert isinstance(module, griffe.Module)
    return module


def public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    """A package and the modules in it without a leading underscore, by path."""
    yield module
    for name in sorted(module.members):
        member = module.members[name]
        if isinstance(member, griffe.Module) and not name.startswith("_"):
            yield from public_modules(member)


def own_names(module: griffe.Module) -> Iterator[griffe.Object]:
    """What a module defines of its `__all__`."""
    for name in sorted(str(export) for export in module.exports or ()):
        member = module.members.get(name)
        if isinstance(member, griffe.Object):
            yield member


def snapshot(package: Package) -> str:
    """The text of the API of a package."""
    module = load(package.source)
    blocks = [HEADER.format(name=package.name)]
    for each in public_modules(module):
        exported = sorted(
            str(name) for name in each.exports or () if isinstance(each.members.get(str(name)), griffe.Alias)
        )
        lines = [f"{each.path}" + (f" exports {' '.join(exported)}" if exported else "")]
        for member in own_names(each):
            lines += [f"    {line}" for line in _described(member)]
        blocks.append("\n".join(lines) + "\n")
    found = documents(package.source)
    if found:
        lines = [f"    {each.name} schema {each.schema}: {' '.join(sorted(each.keys))}" for each in found]
        blocks.append("\n".join(["JSON", *lines]) + "\n")
    return "\n".join(blocks)


def _described(member: griffe.Object) -> Iterator[str]:
    if isinstance(member, griffe.Class):
        bases = ", ".join(str(base) for base in member.bases)
        decorators = [f"@{decorator.value}" for decorator in member.decorators]
        yield " ".join([*decorators, f"class {member.name}" + (f"({bases})" if bases else "")])
        if "dataclass" not in " ".join(decorators) and "__init__" in member.members:
            yield f"    {_signature('__init__', member.members['__init__'])}"
        for name in sorted(member.members):
            inner = member.members[name]
            if not name.startswith("_") and isinstance(inner, griffe.Object):
                yield from (f"    {line}" for line in _described(inner))
    elif isinstance(member, griffe.Function):
        labels = [f"@{label}" for label in SAID if label in member.labels]
        yield " ".join([*labels, _signature(member.name, member)])
    elif isinstance(member, griffe.Attribute):
        labels = [f"@{label}" for label in SAID if label in member.labels]
        annotation = f": {member.annotation}" if member.annotation is not None else ""
        own = (
            "instance-attribute" in member.labels and "class-attribute" not in member.labels
        )  # how __init__ gets it is its own
        value = f" = {member.value}" if member.value is not None and not own and len(str(member.value)) <= 200 else ""
        yield " ".join([*labels, f"{member.name}{annotation}{value}"])


def _signature(name: str, function: griffe.Object | griffe.Alias) -> str:
    assert isinstance(function, griffe.Function)
    return f"def {name}({parameters(function)})" + (f" -> {function.returns}" if function.returns is not None else "")


def parameters(function: griffe.Function, *, defaults: bool = True) -> str:
    """The parameters as they are written; without `defaults` each is `...`."""
    parts: list[str] = []
    kinds = griffe.ParameterKind
    listed = list(function.parameters)
    for position, each in enumerate(listed):
        previous = listed[position - 1].kind if position else None
        if previous is kinds.positional_only and each.kind is not kinds.positional_only:
            parts.append("/")
        if each.kind is kinds.keyword_only and previous not in (kinds.keyword_only, kinds.var_positional):
            parts.append("*")
        star = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(each.kind, "")
        text = f"{star}{each.name}" + (f": {each.annotation}" if each.annotation is not None else "")
        if each.default is not None and not star:
            text += f" = {each.default if defaults else '...'}"
        parts.append(text)
    if listed and listed[-1].kind is kinds.positional_only:
        parts.append("/")
    return ", ".join(parts)


def documents(source: Path) -> list[Document]:
    """The JSON documents of a package: dict literals with a key `schema`, and those in functions called `to_json`."""
    found: list[Document] = []
    for file in sorted(source.rglob("*.py")):
        where = file.relative_to(source.parent).as_posix()
        for name, literal in _literals(ast.parse(file.read_text()), ()):
            keys = frozenset(_keys(literal))
            if "schema" in keys or name.rpartition(".")[2] == "to_json":
                found.append(Document(name=name, schema=_schema(literal), keys=keys, where=f"{where}:{literal.lineno}"))
    return sorted(found, key=lambda each: (each.name, sorted(each.keys)))


def _literals(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, ast.Dict]]:
    """Outermost dict literals, each with the qualified name of the function it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Dict):
            yield ".".join(scope), child
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _literals(child, (*scope, child.name))
        else:
            yield from _literals(child, scope)


def _keys(literal: ast.Dict) -> Iterator[str]:
    for key, value in zip(literal.keys, literal.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
            if isinstance(value, ast.Dict):
                yield from (f"{key.value}.{inner}" for inner in _keys(value))


def _schema(literal: ast.Dict) -> str:
    for key, value in zip(literal.keys, literal.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "schema":
            return ast.unparse(value)
    return "of its parent"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as the code is")
    check = parser.parse_args().check
    stale = []
    for package in packages().values():
        file, text = package.folder / FILE, snapshot(package)
        if not file.exists() or file.read_text() != text:
            stale.append(str(file.relative_to(ROOT)))
            if not check:
                file.write_text(text)
    print(f"{'not as the code is' if check else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
