"""What modules say, read from their source: importing a block may take seconds, and need a library that is not there."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import getdoc
from pathlib import Path
from typing import Any


def literal_of(module: str, name: str) -> Any:
    """What the module says that `name` is, if that is a literal; else None."""
    tree = _tree(module)
    for statement in tree.body if tree else ():
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                pass
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                pass
            case _:
                continue
        try:
            return ast.literal_eval(value)
        except ValueError:
            return None
    return None


def docstring_of(path: str) -> str:
    """Of `package.Name`, or of `package.module.Name`; imported only where its source does not lead to it."""
    module, _, name = path.rpartition(".")
    found = _docstring(module, name, depth=4)
    return found if found is not None else getdoc(loaded(path)) or ""


def loaded(path: str) -> Any:
    """The object at the path, imported."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _docstring(module: str, name: str, *, depth: int) -> str | None:
    """None where neither the module nor one that it imports the name from, `depth` modules far, defines it."""
    tree = _tree(module)
    if tree is None or not depth:
        return None
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() if node.name == name:
                return ast.get_docstring(node) or ""
            case ast.ImportFrom(names=aliases):
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        return _docstring(_absolute(node, module), alias.name, depth=depth - 1)
    return None


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """The module that an import names; relative ones begin at the package of the one they stand in."""
    if not node.level:
        return node.module or ""
    file = _file(module)
    parts = module.split(".")
    upwards = node.level - (file is not None and file.name == "__init__.py")
    return ".".join([*parts[: len(parts) - upwards], *([node.module] if node.module else [])])


@cache
def _tree(module: str) -> ast.Module | None:
    file = _file(module)
    return None if file is None else ast.parse(file.read_text(encoding="utf-8"))


def _file(module: str) -> Path | None:
    """Where its source is, found without importing its package."""
    top, *rest = module.split(".")
    spec = find_spec(top) if top else None
    if spec is None:
        return None
    if not rest and spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
    return None
