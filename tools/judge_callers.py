"""What a change of a package does to those who call it: griffe on the source before and after, and what griffe leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import griffe

from tools.api import Document, documents, load, own_names, public_modules
from tools.changelog import Bump


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One change of an API: how much it breaks, and the line that did."""

    bump: Bump
    where: str  # ttt_norm/spec.py:12
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def callers(old: Path, new: Path) -> Iterator[Finding]:
    """Changes between two sources of a package, e.g. old/src/ttt_norm and packages/ttt-norm/src/ttt_norm."""
    before, after = load(old), load(new)
    for breakage in griffe.find_breaking_changes(before, after):
        yield Finding(bump=Bump.MAJOR, where=_place(breakage, new), what=_explained(breakage))
    yield from _hidden(before, after)
    yield from _values(before, after)
    yield from _added(before, after)
    yield from _json(documents(old), documents(new))


def _place(breakage: griffe.Breakage, new: Path) -> str:
    """In the new source where the thing is still there, else where it was."""
    found = breakage.obj
    line = found.lineno or (
        found.parent.lineno if found.parent is not None else None
    )  # the __init__ of a dataclass has none
    path = Path(str(found.filepath))
    name = path.parts[len(path.parts) - path.parts[::-1].index(new.name) - 1 :]
    return f"{'/'.join(name)}:{line or 0}"


def _explained(breakage: griffe.Breakage) -> str:
    """griffe's words, without its colours and places: `scale(factor): parameter was removed`."""
    subject = breakage.obj.path.removesuffix(".__init__")
    match breakage.kind:
        case griffe.BreakageKind.PARAMETER_ADDED_REQUIRED:
            subject += f"({breakage.new_value.name})"
        case (
            griffe.BreakageKind.PARAMETER_REMOVED
            | griffe.BreakageKind.PARAMETER_MOVED
            | griffe.BreakageKind.PARAMETER_CHANGED_KIND
            | griffe.BreakageKind.PARAMETER_CHANGED_REQUIRED
            | griffe.BreakageKind.PARAMETER_CHANGED_DEFAULT
        ):
            subject += f"({breakage.old_value.name})"
    change = ""
    if breakage.kind is griffe.BreakageKind.PARAMETER_CHANGED_DEFAULT:
        change = f": {breakage.old_value.default} → {breakage.new_value.default}"
    said = breakage.kind.value
    return f"{subject}: {said[0].lower()}{said[1:]}{change}"


def _public(module: griffe.Module) -> dict[str, griffe.Object]:
    """Everything public by path: names of modules, and members of classes."""
    found: dict[str, griffe.Object] = {}
    for each in public_modules(module):
        for member in own_names(each):
            found[member.path] = member
            if isinstance(member, griffe.Class):
                inner = {name: one for name, one in member.members.items() if not name.startswith("_")}
                found |= {one.path: one for one in inner.values() if isinstance(one, griffe.Object)}
    return found


def _hidden(before: griffe.Module, after: griffe.Module) -> Iterator[Finding]:
    """What is still there, and listed in `__all__` no more."""
    for old, new in _pairs(before, after):
        for gone in sorted({str(name) for name in old.exports or ()} - {str(name) for name in new.exports or ()}):
            if (member := new.members.get(gone)) is not None:
                where = f"{new.relative_package_filepath.as_posix()}:{member.lineno or 0}"
                yield Finding(bump=Bump.MAJOR, where=where, what=f"{new.path}.{gone}: is not in __all__ any more")


def _pairs(before: griffe.Module, after: griffe.Module) -> Iterator[tuple[griffe.Module, griffe.Module]]:
    """The public modules that are in both."""
    now = {module.path: module for module in public_modules(after)}
    yield from ((module, now[module.path]) for module in public_modules(before) if module.path in now)


def _added(before: griffe.Module, after: griffe.Module) -> Iterator[Finding]:
    """New names and new optional parameters: no break, but more than a patch has."""
    known = _public(before)
    for path, member in _public(after).items():
        where = f"{member.relative_package_filepath.as_posix()}:{member.lineno or 0}"
        old = known.get(path)
        if old is None:
            yield Finding(bump=Bump.MINOR, where=where, what=f"{path}: was added")
        elif isinstance(member, griffe.Function) and isinstance(old, griffe.Function):
            names = {parameter.name for parameter in old.parameters}
            for parameter in member.parameters:
                if parameter.name not in names and not parameter.required:
                    yield Finding(bump=Bump.MINOR, where=where, what=f"{path}({parameter.name}): was added")


def _values(before: griffe.Module, after: griffe.Module) -> Iterator[Finding]:
    """Enum members are data: they are in files, and compared."""
    known, now = _public(before), _public(after)
    for path, member in known.items():
        other = now.get(path)
        enum = isinstance(member.parent, griffe.Class) and any("Enum" in str(base) for base in member.parent.bases)
        if not (enum and isinstance(member, griffe.Attribute) and isinstance(other, griffe.Attribute)):
            continue
        if str(member.value) != str(other.value):
            where = f"{other.relative_package_filepath.as_posix()}:{other.lineno or 0}"
            yield Finding(bump=Bump.MAJOR, where=where, what=f"{path}: {member.value} became {other.value}")


def _json(before: list[Document], after: list[Document]) -> Iterator[Finding]:
    """Keys of JSON documents. One that goes breaks readers, also of a new schema number, which they refuse.

    A document is known by the function that writes it, or, where that has another name now, by having all its keys.
    """
    known = {each.name for each in before}
    for name in sorted(known):
        old = [each for each in before if each.name == name]
        was = frozenset[str]().union(*(each.keys for each in old))
        new = [each for each in after if each.name == name]
        new = new or [each for each in after if each.name not in known and each.keys >= was][:1]
        keys = frozenset[str]().union(*(each.keys for each in new))
        where = new[0].where if new else old[0].where
        for key in sorted(was - keys):
            yield Finding(bump=Bump.MAJOR, where=where, what=f"JSON of {name}: the key {key!r} was removed")
        if new and (schemas := {each.schema for each in old}) != (now := {each.schema for each in new}):
            change = f"{', '.join(sorted(schemas))} became {', '.join(sorted(now))}"
            yield Finding(bump=Bump.MAJOR, where=where, what=f"JSON of {name}: schema {change}")
        for key in sorted(keys - was):
            yield Finding(bump=Bump.MINOR, where=where, what=f"JSON of {name}: the key {key!r} was added")
