"""The packages of this repository, read from their pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import tomlkit
from packaging.requirements import Requirement

from tools.history import ReleaseError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Package:
    folder: Path
    project: dict[str, Any]  # the [project] table

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    @property
    def requirements(self) -> list[Requirement]:
        """Those of the package and of its extras."""
        tables = [self.project["dependencies"], *self.project.get("optional-dependencies", {}).values()]
        return [Requirement(text) for table in tables for text in table]


def read_toml(path: Path) -> dict[str, Any]:
    return tomlkit.parse(path.read_text()).unwrap()


def packages(root: Path = ROOT) -> dict[str, Package]:
    """Every package below packages/, by name."""
    folders = sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))
    found = [Package(folder=folder, project=read_toml(folder / "pyproject.toml")["project"]) for folder in folders]
    return {package.name: package for package in found}


def needs(name: str, among: dict[str, Package]) -> list[str]:
    """A package and all packages of the repository that it cannot be installed without, sorted."""
    seen: set[str] = set()
    pending = [name]
    while pending:
        package = among[pending.pop()]
        if package.name not in seen:
            seen.add(package.name)
            direct = (Requirement(text).name for text in package.project["dependencies"])
            pending += [wanted for wanted in direct if wanted in among]
    return sorted(seen)


def topological(names: Iterable[str], root: Path = ROOT) -> list[str]:
    """Packages and models in an order in which each is behind what it needs, extras too."""
    chosen = set(names)
    files = [file for kind in ("packages", "models") for file in sorted(root.glob(f"{kind}/*/pyproject.toml"))]
    among = [Package(folder=file.parent, project=read_toml(file)["project"]) for file in files]
    graph = {
        package.name: {wanted.name for wanted in package.requirements} & {one.name for one in among}
        for package in among
    }
    if unknown := sorted(chosen - graph.keys()):
        raise ReleaseError(f"no package is named {', '.join(unknown)}; there are {', '.join(graph)}.")
    return [name for name in TopologicalSorter(graph).static_order() if name in chosen]
