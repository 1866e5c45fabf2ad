"""Fragments of changes, what they say about the next version, and the changelog that is made of them.

A fragment is a file `changes/NAME.KIND.md` of a package, with one entry. Its kind says how much the change breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from packaging.version import Version

from tools.history import ReleaseError


class Bump(IntEnum):
    """How much a release breaks: nothing, nothing but adds, something."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


KINDS = {
    "breaking": (Bump.MAJOR, "Breaking"),
    "feature": (Bump.MINOR, "Added"),
    "bugfix": (Bump.PATCH, "Fixed"),
    "doc": (Bump.PATCH, "Documentation"),
}
"""The kinds of fragments: what each asks for, and the heading it is collected under, in this order."""


@dataclass(frozen=True, kw_only=True)
class Fragment:
    file: Path
    kind: str
    text: str


def fragments(folder: Path) -> list[Fragment]:
    """Those of a package, by name. Errors: ReleaseError for one whose name says no kind, or that is empty."""
    found = []
    for file in sorted(folder.glob("changes/*")):
        if file.name.startswith("."):
            continue
        kind = file.name.removesuffix(".md").rpartition(".")[2]
        if kind not in KINDS or not file.name.endswith(f".{kind}.md"):
            raise ReleaseError(
                f"{folder.name}/changes/{file.name} is no fragment: it must be called NAME.KIND.md "
                f"with a kind of {', '.join(KINDS)}."
            )
        text = file.read_text().strip()
        if not text:
            raise ReleaseError(f"{folder.name}/changes/{file.name} is empty: it must say what changed, for users.")
        found.append(Fragment(file=file, kind=kind, text=text))
    return found


def bump_of_fragments(found: Sequence[Fragment]) -> Bump:
    """The most that a fragment asks for."""
    return max((KINDS[fragment.kind][0] for fragment in found), default=Bump.PATCH)


def next_version(version: str, bump: Bump) -> str:
    """0.N.p: N breaks, p does not; from 1.0 major breaks, minor adds, patch is a drop-in."""
    old = Version(version)
    if old.major == 0:
        return f"0.{old.minor + 1}.0" if bump is Bump.MAJOR else f"0.{old.minor}.{old.micro + 1}"
    return {
        Bump.MAJOR: f"{old.major + 1}.0.0",
        Bump.MINOR: f"{old.major}.{old.minor + 1}.0",
        Bump.PATCH: f"{old.major}.{old.minor}.{old.micro + 1}",
    }[bump]


def allowed(old: str, new: str) -> Bump:
    """How much a release with the version `new` may break of `old`."""
    before, after = Version(old), Version(new)
    if after.major != before.major or (before.major == 0 and after.minor != before.minor):
        return Bump.MAJOR
    return Bump.MINOR if after.major == 0 or after.minor != before.minor else Bump.PATCH


def entry(version: str, date: str, found: Sequence[Fragment]) -> str:
    """The section of a changelog for one release."""
    lines = [f"## {version} ({date})", ""]
    for kind, (_, title) in KINDS.items():
        texts = [fragment.text for fragment in found if fragment.kind == kind]
        if texts:
            lines += [f"### {title}", "", *(_bullet(text) for text in texts), ""]
    if not found:
        lines += ["No changes of its own.", ""]
    return "\n".join(lines)


def _bullet(text: str) -> str:
    return "* " + "\n  ".join(text.splitlines())


def with_entry(changelog: str, section: str) -> str:
    """A changelog with a section before those of older releases."""
    start = changelog.find("\n## ")
    introduction, older = (changelog, "") if start < 0 else (changelog[: start + 1], changelog[start + 1 :])
    return f"{introduction.rstrip()}\n\n{section.rstrip()}\n" + (f"\n{older}" if older else "")
