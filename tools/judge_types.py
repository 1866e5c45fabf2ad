"""What a change of a package does to types: mypy, asked whether the new can stand where the old stood, and the reverse.

For each public name the old signature is written down as a Protocol in a module where all other names are the new ones, and
the new thing is given where that Protocol is wanted: a caller's view. For a Protocol of the package the old is given where
the new is wanted as well: the view of those who implement it, for whom a member or an optional keyword more is a break.

What mypy rejects about a package that did not change cannot be judged in this way, and is left to griffe.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import griffe

from tools.api import load, own_names, parameters, public_modules
from tools.changelog import Bump
from tools.judge_callers import Finding

ERROR = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+)(?::\d+)?: (?P<severity>error|note): (?P<message>.*)$")
ROLES = {
    "call": "is not what callers had",
    "use": "is not what those who use one had",
    "keep": "asks more of those who implement it than they have",
    "base": "is no longer what it is caught or passed as",
    "value": "does not have the values that were allowed",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One assignment that must hold: `role` of ROLES, for a public name."""

    path: str
    role: str


def types(changed: Mapping[Path, Path], siblings: Iterable[Path], cache: Path) -> Iterator[Finding]:
    """What breaks types between old and new sources of packages, {old/src/ttt_norm: packages/ttt-norm/src/ttt_norm}.

    `siblings` are the src folders of all packages.
    """
    if not changed:
        return
    others = [folder for folder in siblings if folder not in {new.parent for new in changed.values()}]
    with tempfile.TemporaryDirectory(prefix="ttt-types-") as temporary:
        folder = Path(temporary)
        checks: dict[tuple[str, int], Check] = {}
        for old in changed:
            checks |= write_checks(load(old), folder)
        found = ask(folder, [*(new.parent for new in changed.values()), *others], cache)
        if not found.keys() & checks.keys():
            return
        unjudged = ask(folder, [*(old.parent for old in changed), *others], cache).keys()
    trees = [load(new) for new in changed.values()]
    now = {member.path: member for tree in trees for module in public_modules(tree) for member in own_names(module)}
    for place in sorted(found.keys() & checks.keys() - unjudged):
        check = checks[place]
        if (member := now.get(check.path)) is not None:
            where = f"{member.relative_package_filepath.as_posix()}:{member.lineno or 0}"
            said = f"{check.path}: {ROLES[check.role]}: {' '.join(found[place])}"
            yield Finding(bump=Bump.MAJOR, where=where, what=said)


def ask(folder: Path, path: Sequence[Path], cache: Path) -> dict[tuple[str, int], list[str]]:
    """What mypy says of the modules in a folder, by file and line: the error, then its notes."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--no-pretty",
        "--hide-error-codes",
        "--config-file=",
    ]
    command += ["--python-version", "3.10", "--follow-imports=silent", "--ignore-missing-imports", "--no-site-packages"]
    command += ["--cache-dir", str(cache), *sorted(each.name for each in folder.glob("*.py"))]
    environment = os.environ | {"MYPYPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"mypy failed: {done.stdout}{done.stderr}")
    found: dict[tuple[str, int], list[str]] = {}
    for line in done.stdout.splitlines():
        if (match := ERROR.match(line)) is not None and match["file"].startswith("judge_"):
            place = (match["file"], int(match["line"]))
            if match["severity"] == "error" or place in found:
                found.setdefault(place, []).append(re.sub(r"\bjudge_\w+\.", "", match["message"].strip()))
    return found


def write_checks(old: griffe.Module, folder: Path) -> dict[tuple[str, int], Check]:
    """One module of assignments for each public module of a package; what each line of them is about."""
    checks: dict[tuple[str, int], Check] = {}
    for module in public_modules(old):
        name = f"judge_{module.path.replace('.', '__')}.py"
        lines = list(_imports(module))
        for member in own_names(module):
            for line, role in _assignments(member):
                lines.append(line)
                if role:
                    checks[name, len(lines)] = Check(path=member.path, role=role)
        (folder / name).write_text("\n".join(lines) + "\n")
    return checks


def _imports(module: griffe.Module) -> Iterator[str]:
    """The names that the old signatures use: what the module imported, and of its own the new."""
    yield "from __future__ import annotations"
    yield "from typing import Protocol as _Protocol"
    yield f"import {module.path} as _NEW"
    tree = ast.parse(Path(str(module.filepath)).read_text())
    yield from (ast.unparse(node) for node in _import_nodes(tree.body) if not _is_future(node))
    own = sorted(
        name for name, member in module.members.items() if not isinstance(member, griffe.Alias | griffe.Module)
    )
    yield from (
        f"from {module.path} import {name}" for name in own if name.isidentifier() and not name.startswith("__")
    )


def _import_nodes(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _import_nodes(node.body)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _assignments(member: griffe.Object) -> Iterator[tuple[str, str]]:
    """Lines for one public name; those with a role are what mypy is asked."""
    name = member.name
    if isinstance(member, griffe.Function):
        if not member.overloads:
            yield from _callable(f"_Old_{name}", member, skip_self=False)
            yield f"def _ask_{name}() -> _Old_{name}: return _NEW.{name}", "call"
    elif isinstance(member, griffe.Attribute):
        is_alias = str(member.annotation) in ("TypeAlias", "typing.TypeAlias")
        if member.annotation is not None and not is_alias:
            yield f"def _ask_{name}() -> {member.annotation}: return _NEW.{name}", "call"
        elif is_alias or str(member.value).startswith(("Literal[", "Mapping[", "Callable[")):
            yield f"def _ask_{name}(_x: {member.value}) -> _NEW.{name}: return _x", "value"
    elif isinstance(member, griffe.Class):
        yield from _of_class(member)


def _of_class(member: griffe.Class) -> Iterator[tuple[str, str]]:
    name, bases = member.name, [str(base) for base in member.bases]
    is_protocol = any(base.split("[")[0].endswith("Protocol") for base in bases)
    yield f"class _Old_{name}(_Protocol):", ""
    yield "    ...", ""
    for inner_name, inner in member.all_members.items():
        found = inner.target if isinstance(inner, griffe.Alias) else inner
        if (not inner_name.startswith("_") or _is_operator(inner_name)) and isinstance(found, griffe.Object):
            yield from ((f"    {line}", role) for line, role in _member(found))
    yield f"def _use_{name}(_x: _NEW.{name}) -> _Old_{name}: return _x", "use"
    if is_protocol:
        yield f"def _keep_{name}(_x: _Old_{name}) -> _NEW.{name}: return _x", "keep"
        return
    for position, base in enumerate(bases):
        if base.split("[")[0] not in ("Generic", "Enum", "str"):
            yield f"def _base_{name}_{position}(_x: _NEW.{name}) -> {base}: return _x", "base"
    made = member.all_members.get("__init__")
    function = made.target if isinstance(made, griffe.Alias) else made
    if isinstance(function, griffe.Function):
        yield from _callable(f"_Make_{name}", function, skip_self=True, returns="object")
        yield f"def _make_{name}() -> _Make_{name}: return _NEW.{name}", "call"


def _is_operator(name: str) -> bool:
    return name in ("__call__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__", "__add__", "__matmul__")


def _member(member: griffe.Object) -> Iterator[tuple[str, str]]:
    """A method, property or field, as a member of a Protocol."""
    if isinstance(member, griffe.Function):
        if member.overloads:
            return
        yield from ((f"@{decorator.value}", "") for decorator in member.decorators)
        yield f"def {member.name}({parameters(member, defaults=False)}){_returns(member)}: ...", ""
    elif isinstance(member, griffe.Attribute) and member.annotation is not None:
        if str(member.annotation).startswith("ClassVar"):
            return
        yield "@property", ""
        yield f"def {member.name}(self) -> {member.annotation}: ...", ""


def _callable(name: str, function: griffe.Function, *, skip_self: bool, returns: str = "") -> Iterator[tuple[str, str]]:
    """A Protocol of what can be called as a function could."""
    listed = parameters(function, defaults=False)
    yield f"class {name}(_Protocol):", ""
    yield from ((f"    @{decorator.value}", "") for decorator in function.decorators if not skip_self)
    first = "" if skip_self else "_self, "
    result = f" -> {returns}" if returns else _returns(function)
    yield f"    def __call__({first}{listed}){result}: ...", ""


def _returns(function: griffe.Function) -> str:
    return f" -> {function.returns}" if function.returns is not None else ""
