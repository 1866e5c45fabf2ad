"""The packages of this repository, read from their pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from packaging.requirements import Requirement

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
