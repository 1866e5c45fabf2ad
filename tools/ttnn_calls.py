"""Every use of a ttnn name in Python files, found without running them: where, under which releases, with which arguments.

A `**` is followed to the dict that it unpacks: a literal, a local variable, or what a method or function of the same file
returns. An `if since("0.80")` (ttt_hw.ttnn_release) limits what stands under it to that release and later ones, its `else` to
those before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Of a call: `positional` counts those before any `*`; `keywords` are the names, those in a `**` that was followed too."""

    positional: int
    keywords: frozenset[str]
    starred: bool = False  # a `*` or a `**` gives more or fewer than can be seen
    unseen: bool = False  # a `**` that could not be followed


@dataclass(frozen=True, kw_only=True)
class Use:
    """A name of ttnn at a line of a file; `arguments` if it is called; releases are from `first` up to, without, `end`."""

    path: Path
    line: int
    name: str
    arguments: Arguments | None = None
    first: Version | None = None
    end: Version | None = None

    def concerns(self, release: Version) -> bool:
        return (self.first is None or release >= self.first) and (self.end is None or release < self.end)


def uses(path: Path) -> list[Use]:
    """All uses in a file, in the order of lines."""
    tree = ast.parse(path.read_text())
    aliases = _aliases(tree)
    if not aliases:
        return []
    reader = _Reader(path, aliases, tree)
    reader.visit(tree)
    return sorted(reader.found, key=lambda use: (use.line, use.name))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Local names of ttnn, and of what is imported from it."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ttnn":
                    names[alias.asname or "ttnn"] = alias.name if alias.asname else "ttnn"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ttnn" and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


class _Reader(ast.NodeVisitor):
    def __init__(self, path: Path, aliases: dict[str, str], tree: ast.Module) -> None:
        self.path, self.aliases = path, aliases
        self.found: list[Use] = []
        self.first: Version | None = None
        self.end: Version | None = None
        self.keys = _Keys(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        with self.keys.inside(node):
            self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        with self.keys.inside(node):
            self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        release = _since(node.test)
        body = node.body if isinstance(node.body, list) else [node.body]
        otherwise = node.orelse if isinstance(node.orelse, list) else [node.orelse]
        self.visit(node.test)
        before = self.first, self.end
        self.first = release or self.first
        for child in body:
            self.visit(child)
        self.first, self.end = before[0], release or before[1]
        for child in otherwise:
            self.visit(child)
        self.end = before[1]

    visit_IfExp = visit_If

    def visit_Call(self, node: ast.Call) -> None:
        name = self._dotted(node.func)
        if name is None:
            self.generic_visit(node)
            return
        keywords, unseen = set[str](), False
        for keyword in node.keywords:
            if keyword.arg is not None:
                keywords.add(keyword.arg)
            elif (inside := self.keys.of(keyword.value)) is not None:
                keywords |= inside
            else:
                unseen = True
        stars = [isinstance(argument, ast.Starred) for argument in node.args]
        self._add(
            node,
            name,
            Arguments(
                positional=stars.index(True) if True in stars else len(stars),
                keywords=frozenset(keywords),
                starred=True in stars or any(keyword.arg is None for keyword in node.keywords),
                unseen=unseen,
            ),
        )
        for child in (*node.args, *node.keywords):
            self.visit(child)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._dotted(node)
        if name is None:
            self.generic_visit(node)
        else:
            self._add(node, name, None)

    def visit_Name(self, node: ast.Name) -> None:
        if self.aliases.get(node.id, "ttnn") != "ttnn":
            self._add(node, self.aliases[node.id], None)

    def _add(self, node: ast.expr, name: str, arguments: Arguments | None) -> None:
        use = Use(path=self.path, line=node.lineno, name=name, arguments=arguments, first=self.first, end=self.end)
        self.found.append(use)

    def _dotted(self, node: ast.expr) -> str | None:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.aliases:
            return None
        return ".".join([self.aliases[node.id], *reversed(parts)])


def _since(test: ast.expr) -> Version | None:
    match test:
        case ast.Call(func=ast.Name(id="since"), args=[ast.Constant(value=str(release))]):
            return Version(release)
    return None


class _Keys:
    """The keys of dicts in one file."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.scopes: list[ast.ClassDef | ast.FunctionDef] = []
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def inside(self, node: ast.ClassDef | ast.FunctionDef) -> _Scope:
        return _Scope(self.scopes, node)

    def of(self, value: ast.expr, depth: int = 0) -> set[str] | None:
        """Those that a dict may have; None if it cannot be followed."""
        if depth > 4:
            return None
        match value:
            case ast.Dict(keys=keys, values=values):
                return self._union(
                    {key.value} if isinstance(key, ast.Constant) else self.of(each, depth) if key is None else None
                    for key, each in zip(keys, values, strict=True)
                )
            case ast.DictComp(
                key=ast.Name(id=key),
                generators=[
                    ast.comprehension(
                        target=ast.Tuple(elts=[ast.Name(id=first), *_]),
                        iter=ast.Call(func=ast.Attribute(value=source, attr="items")),
                    )
                ],
            ) if key == first:
                return self.of(source, depth)
            case ast.Call(func=ast.Name(id="dict"), args=copied, keywords=keywords):
                named = [{each.arg} if each.arg else self.of(each.value, depth) for each in keywords]
                return self._union([*named, *(self.of(each, depth) for each in copied)])
            case ast.IfExp(body=body, orelse=otherwise):
                return self._union(self.of(each, depth) for each in (body, otherwise))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._union(self.of(each, depth) for each in (left, right))
            case ast.Name(id=name):
                return self._of_local(name, depth)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=method)):
                return self._of_function(self._method(method), depth)
            case ast.Call(func=ast.Name(id=name)):
                functions = [each for each in self.tree.body if isinstance(each, ast.FunctionDef) and each.name == name]
                return self._of_function(functions[0] if functions else None, depth)
        return None

    def _of_local(self, name: str, depth: int) -> set[str] | None:
        """What is assigned to it in the innermost function around that does so."""
        functions = [scope for scope in self.scopes if isinstance(scope, ast.FunctionDef)]
        for function in reversed(functions):
            if found := self._assigned(function, name, depth):
                return self._union(found)
        return None

    def _assigned(self, function: ast.FunctionDef, name: str, depth: int) -> list[set[str] | None]:
        found: list[set[str] | None] = []
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[ast.Name(id=to)], value=value) if to == name:
                    found.append(self.of(value, depth + 1))
                case ast.AnnAssign(target=ast.Name(id=to), value=ast.expr() as value) if to == name:
                    found.append(self.of(value, depth + 1))
                case ast.AugAssign(target=ast.Name(id=to), op=ast.BitOr(), value=value) if to == name:
                    found.append(self.of(value, depth + 1))
                case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=to), slice=ast.Constant(value=key))]) if (
                    to == name
                ):
                    found.append({str(key)})
        return found

    def _of_function(self, function: ast.FunctionDef | None, depth: int) -> set[str] | None:
        if function is None:
            return None
        with self.inside(function):
            results = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
            return self._union(self.of(value, depth + 1) for value in results) if results else None

    def _method(self, name: str) -> ast.FunctionDef | None:
        """Of the class around, or of one that it inherits from in the same file."""
        pending = [scope for scope in self.scopes if isinstance(scope, ast.ClassDef)][-1:]
        while pending:
            cls = pending.pop(0)
            for each in cls.body:
                if isinstance(each, ast.FunctionDef) and each.name == name:
                    return each
            pending += [
                self.classes[base.id] for base in cls.bases if isinstance(base, ast.Name) and base.id in self.classes
            ]
        return None

    @staticmethod
    def _union(found: object) -> set[str] | None:
        keys: set[str] = set()
        for each in found:  # type: ignore[attr-defined]
            if each is None:
                return None
            keys |= each
        return keys


class _Scope:
    def __init__(self, scopes: list[ast.ClassDef | ast.FunctionDef], node: ast.ClassDef | ast.FunctionDef) -> None:
        self.scopes, self.node = scopes, node

    def __enter__(self) -> None:
        self.scopes.append(self.node)

    def __exit__(self, *_: object) -> None:
        self.scopes.pop()


def python_files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))
