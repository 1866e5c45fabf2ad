"""The modules that installed packages offer, by category: for people to find, never needed to run.

A package lists its own by entry points of the group `ttt.modules`, each a list of dicts:
`{"path": "my_package.MyAttention", "category": "attention", "tier": "core", "features": ["sliding window", "gqa"]}`.
Where that is a literal, neither it nor the package is imported: both are read from source. What a module does, and where it
is from, its docstring says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ttt_core._unimported import docstring_of, literal_of, loaded
from ttt_core.errors import SpecError

__all__ = ["ModuleRecord", "ModuleTier", "modules"]

GROUP = "ttt.modules"


class ModuleTier(Enum):
    """What may be expected of a module."""

    CORE = "core"
    """What most models are made of: it runs on every mesh, and its conformance variants on every board pass."""
    EXTENDED = "extended"
    """What some models need: it is tested as well, and may be confined to some meshes or modes, as its docstring says."""
    EXPERIMENTAL = "experimental"
    """It may change or go with any release, whatever its version says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleRecord:
    """One module: `path` is where it is imported from, `features` what people may look for, `package` and `version` the
    distribution that it came with. `summary` and `source` are its docstring's first sentence and what follows `Source:`."""

    path: str
    category: str
    tier: ModuleTier
    features: tuple[str, ...] = ()
    summary: str = ""
    source: str = ""
    package: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def home(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def import_line(self) -> str:
        """As in `from ttt_attention import FlashAttention`."""
        return f"from {self.home} import {self.name}"

    def load(self) -> Any:
        """The class itself, imported now."""
        return loaded(self.path)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "category": self.category,
            "tier": self.tier.value,
            "summary": self.summary,
            "features": list(self.features),
            "source": self.source,
            "import": self.import_line,
            "path": self.path,
            "package": self.package,
            "version": self.version,
        }


def modules(category: str | None = None, tier: ModuleTier | str | None = None) -> tuple[ModuleRecord, ...]:
    """Those of a category and a tier, or all, by category and path; nothing of them is imported.

    Errors: SpecError for a category or tier that there is not, and for a package whose entry is none.
    """
    found = sorted(
        (record for entry in entry_points(group=GROUP) for record in _records(entry)),
        key=lambda record: (record.category, record.path),
    )
    if category is not None:
        known = sorted({record.category for record in found})
        if category not in known:
            those = f"those are {', '.join(known)}" if known else "no installed package lists modules"
            raise SpecError(f"There are no modules of the category {category!r}; {those}.")
        found = [record for record in found if record.category == category]
    if tier is not None:
        wanted = _tier(tier, "There are no modules of the tier")
        found = [record for record in found if record.tier is wanted]
    return tuple(found)


def _records(entry: EntryPoint) -> Iterable[ModuleRecord]:
    """Those that an entry point lists."""
    what = f"The modules {entry.name} ({entry.value})"
    try:
        listed = literal_of(entry.module, entry.attr)
        listed = entry.load() if listed is None else listed
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{what} cannot be loaded: {error}. Mend that package, or uninstall it.") from error
    if not isinstance(listed, (list, tuple)) or not all(isinstance(each, Mapping) for each in listed):
        raise SpecError(f"{what} is a {type(listed).__name__}; it must be a list of dicts with path, category, tier.")
    package, version = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("", "")
    for each in listed:
        allowed = {"path", "category", "tier", "features"}
        if wrong := sorted({"path", "category"} - each.keys()) or sorted(map(str, each.keys() - allowed)):
            raise SpecError(
                f"{what} has {each!r}, in which {', '.join(wrong)} is "
                f"{'missing' if wrong[0] in allowed else 'unknown'}. A module has path, category, and maybe tier and features."
            )
        text = docstring_of(each["path"])
        yield ModuleRecord(
            path=each["path"],
            category=each["category"],
            tier=_tier(each.get("tier", ModuleTier.EXTENDED), f"{what}: {each['path']} has the tier"),
            features=tuple(each.get("features", ())),
            summary=_summary(text),
            source=_source(text),
            package=package,
            version=version,
        )


def _tier(given: ModuleTier | str, what: str) -> ModuleTier:
    try:
        return ModuleTier(given)
    except ValueError:
        raise SpecError(f"{what} {given!r}; tiers are {', '.join(tier.value for tier in ModuleTier)}.") from None


def _summary(docstring: str) -> str:
    """The first sentence of the first paragraph; a full stop in a formula ends none."""
    first = " ".join(docstring.strip().partition("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")


def _source(docstring: str) -> str:
    """What follows `Source:`, to the end of its paragraph."""
    after = docstring.partition("Source:")[2].partition("\n\n")[0]
    return " ".join(after.split()).rstrip(".")
