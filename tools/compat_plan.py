"""Which combinations of versions to try: few enough to run, and every declared bound is at the edge of one.

The product of all versions is astronomical, so a plan covers what can break by itself: the newest of each package with
everything lowest and with everything highest, both ends of each range it declares, and the newest of each package under each
released line of its users. One cell covers many of these at once, and the number of cells grows with the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

Tier = Literal["changed", "boundary", "pairwise", "full"]
Direction = Literal["lowest", "highest"]
Pins = Mapping[str, str]
NO_PINS: Pins = {}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One version of one package, and what it says that it goes with."""

    name: str
    version: str
    requirements: tuple[Requirement, ...] = ()
    requires_python: str = ""

    @cached_property
    def parsed(self) -> Version:
        return Version(self.version)

    @property
    def line(self) -> str:
        """The versions that are compatible with one another: 0.1, or 1 where the first number is not 0."""
        return f"0.{self.parsed.minor}" if self.parsed.major == 0 else str(self.parsed.major)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One environment: versions of packages and of ttnn, a Python, and `third_party` at which end of its ranges.

    `subject` is the package that is tried, with what it needs; in a `whole` cell all of it is. `why` says what the cell is in
    the plan for.
    """

    subject: str
    versions: tuple[tuple[str, str], ...]
    python: str
    third_party: Direction
    whole: bool = False
    why: str = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.subject} {dict(self.versions)[self.subject]} on Python {self.python}, {self.shown_ttnn}"

    @property
    def ttnn(self) -> str | None:
        return dict(self.versions).get("ttnn")

    @property
    def shown_ttnn(self) -> str:
        return f"ttnn {self.ttnn}" if self.ttnn else "no ttnn"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`impossible`: what nobody can install although ranges say so, a line each."""

    cells: tuple[Cell, ...]
    impossible: tuple[str, ...] = ()


class Universe:
    """All versions there are, `ttnn` among them; `models` are tried at their pins, and nothing needs them."""

    def __init__(
        self, candidates: Iterable[Candidate], pythons: Sequence[str], *, models: Iterable[Candidate] = ()
    ) -> None:
        self.pythons = sorted(pythons, key=Version)
        self.models = {model.name: model for model in models}
        self.versions: dict[str, list[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda each: each.parsed):
            self.versions.setdefault(candidate.name, []).append(candidate)
        self.packages = sorted(self.versions.keys() - {"ttnn"})
        self._needed: dict[str, frozenset[str]] = {}

    def newest(self, name: str) -> Candidate:
        return self.models.get(name) or self.versions[name][-1]

    def lines(self, name: str) -> list[Candidate]:
        """The newest version of each line, oldest line first."""
        return list({candidate.line: candidate for candidate in self.versions[name]}.values())

    def needs(self, candidate: Candidate) -> list[Requirement]:
        """What it needs of the packages here."""
        return [each for each in candidate.requirements if each.name in self.versions]

    def needed(self, name: str) -> frozenset[str]:
        """A package and all that any of its versions needs."""
        if name in self._needed:
            return self._needed[name]
        seen: set[str] = set()
        pending = [name]
        while pending:
            each = pending.pop()
            if each not in seen:
                seen.add(each)
                known = [self.models[each]] if each in self.models else self.versions[each]
                pending += [wanted.name for version in known for wanted in self.needs(version)]
        return self._needed.setdefault(name, frozenset(seen))

    def choose(
        self, subject: Candidate, direction: Direction, python: str, pins: Pins = NO_PINS
    ) -> dict[str, str] | None:
        """Versions of all that the subject needs, each as low or as high as the ranges let it be; None if there are none."""

        def fits(candidate: Candidate, wanted: Iterable[SpecifierSet]) -> bool:
            return (
                pins.get(candidate.name, candidate.version) == candidate.version
                and SpecifierSet(candidate.requires_python).contains(python)
                and all(range_.contains(candidate.version, prereleases=True) for range_ in wanted)
            )

        def extend(chosen: dict[str, Candidate]) -> dict[str, Candidate] | None:
            wanted: dict[str, list[SpecifierSet]] = {}
            for candidate in chosen.values():
                for requirement in self.needs(candidate):
                    wanted.setdefault(requirement.name, []).append(requirement.specifier)
            if any(not fits(chosen[name], ranges) for name, ranges in wanted.items() if name in chosen):
                return None
            # A package whose users are all chosen comes first: its version is then decided by all who want it.
            open_ = sorted(wanted.keys() - chosen.keys(), key=lambda name: (-len(self.needed(name)), name))
            if not open_:
                return chosen
            known = self.versions[open_[0]]
            for candidate in known if direction == "lowest" else reversed(known):
                if fits(candidate, wanted[open_[0]]) and (found := extend(chosen | {candidate.name: candidate})):
                    return found
            return None

        found = extend({subject.name: subject}) if fits(subject, ()) else None
        return None if found is None else {name: found[name].version for name in sorted(found)}


def plan(universe: Universe, tier: Tier, *, changed: Iterable[str] = (), all_ttnn: bool = False) -> Plan:
    """The cells of a tier. `changed` names packages; their tier tries them and those that need them directly."""
    maker = _Maker(universe)
    if tier == "changed":
        changed = set(changed)
        users = {
            name
            for name in [*universe.packages, *universe.models]
            if any(wanted.name in changed for wanted in universe.needs(universe.newest(name)))
        }
        for name in sorted(changed | users):
            maker.end(name, "highest", "changed" if name in changed else "needs what changed")
        return maker.plan()
    for name in universe.packages:
        maker.end(name, "lowest", "newest with everything lowest")
        maker.end(name, "highest", "newest with everything highest")
    for name in universe.models:
        maker.end(name, "highest", "at its pins")
    maker.edges()
    maker.lines()
    if tier in ("pairwise", "full"):
        maker.pairs()
    if tier == "full":
        maker.every_version()
    if all_ttnn or tier == "full":
        maker.every_ttnn()
    return maker.plan()


def together(universe: Universe) -> Plan:
    """The newest of everything in as few cells as hold it: what a known-good set is written from."""
    maker = _Maker(universe)
    needed = {wanted for name in universe.packages for wanted in universe.needed(name) - {name}}
    for name in universe.packages:
        if name not in needed:
            maker.end(name, "highest", "newest releases together")
    made = maker.plan()
    return Plan(cells=tuple(replace(cell, whole=True) for cell in made.cells), impossible=made.impossible)


class _Maker:
    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.cells: dict[Cell, None] = {}
        self.impossible: list[str] = []
        self.covered: set[tuple[tuple[str, str], tuple[str, str]]] = set()

    def plan(self) -> Plan:
        return Plan(cells=tuple(self.cells), impossible=tuple(dict.fromkeys(self.impossible)))

    def add(
        self, subject: Candidate, direction: Direction, why: str, pins: Pins = NO_PINS, python: str | None = None
    ) -> bool:
        """A cell, unless no versions fit; whether there is one."""
        pythons = [python] if python else self.universe.pythons
        for each in pythons if direction == "lowest" else reversed(pythons):
            versions = self.universe.choose(subject, direction, each, pins)
            if versions is not None:
                cell = Cell(
                    subject=subject.name,
                    versions=tuple(versions.items()),
                    python=each,
                    third_party=direction,
                    why=why,
                )
                self.cells.setdefault(cell)
                self.covered |= set(combinations(sorted(versions.items()), 2))
                return True
        return False

    def end(self, name: str, direction: Direction, why: str) -> None:
        subject = self.universe.newest(name)
        if not self.add(subject, direction, why):
            self.impossible.append(f"{name} {subject.version} cannot be installed: {self._reason(subject)}")

    def edges(self) -> None:
        """Both ends of each range that the newest of each package declares."""
        for name in self.universe.packages:
            subject = self.universe.newest(name)
            for wanted in self.universe.needs(subject):
                allowed = [
                    each.version
                    for each in self.universe.versions[wanted.name]
                    if wanted.specifier.contains(each.version, prereleases=True)
                ]
                for version, direction in zip(allowed[:1] + allowed[-1:], _directions(), strict=False):
                    self._cover((name, subject.version), (wanted.name, version), direction, "an end of a range")

    def lines(self) -> None:
        """The newest of each package under each line of the packages that need it, as far as their ranges take it."""
        for name in self.universe.packages:
            newest = self.universe.newest(name)
            for user in self.universe.packages:
                for line in self.universe.lines(user)[:-1]:
                    if any(
                        wanted.name == name and wanted.specifier.contains(newest.version, prereleases=True)
                        for wanted in line.requirements
                    ):
                        self._cover(
                            (user, line.version), (name, newest.version), "highest", "newest under an older line"
                        )

    def pairs(self) -> None:
        """Every two versions, each the newest of its line, that can be installed together."""
        for first, second in combinations(self.universe.packages, 2):
            for one in self.universe.lines(first):
                for other in self.universe.lines(second):
                    pair = (first, one.version), (second, other.version)
                    self._cover(*pair, "highest", "a pair of lines", report=False)

    def every_version(self) -> None:
        for name in self.universe.packages:
            for subject in self.universe.versions[name]:
                for python in self.universe.pythons:
                    for direction in _directions():
                        self.add(subject, direction, "every version", python=python)

    def every_ttnn(self) -> None:
        for name in [*self.universe.packages, *self.universe.models]:
            if "ttnn" in self.universe.needed(name):
                for release in self.universe.versions["ttnn"]:
                    self.add(self.universe.newest(name), "highest", "every ttnn", {"ttnn": release.version})

    def _cover(
        self,
        one: tuple[str, str],
        other: tuple[str, str],
        direction: Direction,
        why: str,
        *,
        report: bool = True,
    ) -> None:
        """A cell that has both versions, of the package that needs most: it covers other pairs too."""
        pair = min(one, other), max(one, other)
        if pair in self.covered:
            return
        tops = [name for name in self.universe.packages if {one[0], other[0]} <= self.universe.needed(name)]
        for top in sorted(tops, key=lambda name: (-len(self.universe.needed(name)), name)):
            for subject in reversed(self.universe.versions[top]):
                if self.add(subject, direction, why, dict(pair)) and pair in self.covered:
                    return
        if report:
            self.impossible.append(
                f"{one[0]} {one[1]} is never installed with {other[0]} {other[1]}, which its range holds"
            )

    def _reason(self, subject: Candidate) -> str:
        for wanted in self.universe.needs(subject):
            known = self.universe.versions[wanted.name]
            if not any(wanted.specifier.contains(each.version, prereleases=True) for each in known):
                return f"it needs {wanted}, and there are {', '.join(each.version for each in known)}"
        return "the ranges of what it needs exclude one another"


def _directions() -> tuple[Direction, Direction]:
    return "lowest", "highest"
