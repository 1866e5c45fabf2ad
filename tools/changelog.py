"""Fragments of changes, what they say about the next version, and the changelog that is made of them.

A fragment is a file `changes/NAME.KIND.md` of a package, with one entry. Its kind says how much the change breaks.
"""

from __future__ import annotations

import re
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
    "fix": (Bump.PATCH, "Fixed"),
    "dependency": (Bump.PATCH, "Dependencies"),
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


def with_release(changelog: str, version: str, date: str, found: Sequence[Fragment]) -> str:
    """A changelog with a section for a release, before those of older ones; a section that is there gets what is new."""
    texts = {
        title: "\n".join(_bullet(fragment.text) for fragment in found if fragment.kind == kind)
        for kind, (_, title) in KINDS.items()
    }
    texts = {title: bullets for title, bullets in texts.items() if bullets}
    before, section, older = _split(changelog, version)
    if not section:
        section = f"## {version} ({date})\n" + ("" if texts else "\nNo changes of its own.\n")
    parts = [part.rstrip() for part in re.split(r"^(?=### )", section, flags=re.MULTILINE)]
    for title, bullets in texts.items():
        place = next((number for number, part in enumerate(parts) if part.startswith(f"### {title}\n")), None)
        if place is None:
            parts.append(f"### {title}\n\n{bullets}")
        else:
            parts[place] += f"\n{bullets}"
    section = "\n\n".join(parts)
    return f"{before.rstrip()}\n\n{section.rstrip()}\n" + (f"\n{older}" if older else "")


def _split(changelog: str, version: str) -> tuple[str, str, str]:
    """What is before the sections of releases, the section of this one (or ""), and the sections of older ones."""
    parts = re.split(r"^(?=## )", changelog, flags=re.MULTILINE)
    introduction, sections = (parts[0], parts[1:]) if not parts[0].startswith("## ") else ("", parts)
    mine = [text for text in sections if re.match(rf"## {re.escape(version)}(?:\s|$)", text)]
    return introduction, "".join(mine), "".join(text for text in sections if text not in mine)


def _bullet(text: str) -> str:
    return "* " + "\n  ".join(text.splitlines())
