"""A repository of three tiny packages with a history of its own, in which tests plant defects and cut releases.

ttt-core has Protocols, ttt-alpha is a leaf that keeps one, ttt-beta composes what keeps it. All are pure Python without
dependencies from a registry, so that a cell of the matrix is an installation of three wheels.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from tools.history import git
from tools.releases import last_release

PYPROJECT = """\
[project]
name = "{name}"
version = "{version}"
description = "A package of a test"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.10"
dependencies = [
{dependencies}]

[build-system]
requires = ["uv_build>=0.9,<0.14"]
build-backend = "uv_build"
"""

CORE = '''\
"""What packages know of one another."""

from typing import Protocol

__all__ = ["CoreError", "Norm", "SizeError", "Tensor"]


class CoreError(Exception):
    """Anything a user can mend."""


class SizeError(CoreError, ValueError):
    """Sizes that do not go together."""


class Tensor(Protocol):
    """A tensor."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class Norm(Protocol):
    """x → the same shape."""

    def forward(self, x: Tensor, /) -> Tensor: ...
'''

ALPHA = '''\
"""A leaf."""

from dataclasses import dataclass

from ttt_core import Tensor

__all__ = ["Alpha", "AlphaSpec", "scale"]


@dataclass(frozen=True, kw_only=True)
class AlphaSpec:
    """Sizes of an Alpha."""

    dim: int
    eps: float = 1e-5


class Alpha:
    """A norm."""

    def __init__(self, spec: AlphaSpec) -> None:
        self.spec = spec

    def forward(self, x: Tensor, /) -> Tensor:
        """x → the same shape."""
        return x


def scale(x: float, factor: float = 2.0) -> float:
    """x times a factor."""
    return x * factor
'''

BETA = '''\
"""A composer: takes any Norm."""

from ttt_alpha import scale
from ttt_core import Norm, Tensor

__all__ = ["Beta", "doubled"]


class Beta:
    """A norm, then nothing."""

    def __init__(self, norm: Norm) -> None:
        self.norm = norm

    def forward(self, x: Tensor, /) -> Tensor:
        """x → the same shape."""
        return self.norm.forward(x)


def doubled(x: float) -> float:
    """Twice x."""
    return scale(x, factor=2.0)
'''


class Repository:
    """A git repository below `root`. `write`, `replace` and `fragment` change files; `commit` makes them history."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        git(root, "init", "--quiet", "--initial-branch", "main")
        for key, value in (("user.name", "tests"), ("user.email", "tests@localhost"), ("commit.gpgsign", "false")):
            git(root, "config", key, value)
        self.write(".gitignore", "build/\ndist/\n__pycache__/\n.mypy_cache/\n")

    def package(self, name: str, version: str, source: str, *, needs: Iterable[str] = ()) -> None:
        """A package with one module of code; `needs` are requirements."""
        folder, module = f"packages/{name}", name.replace("-", "_")
        dependencies = "".join(f'    "{text}",\n' for text in needs)
        pyproject = PYPROJECT.format(name=name, version=version, dependencies=dependencies)
        self.write(f"{folder}/pyproject.toml", pyproject)
        self.write(f"{folder}/README.md", f"# {name}\n")
        self.write(f"{folder}/LICENSE", "Apache-2.0\n")
        self.write(f"{folder}/CHANGELOG.md", f"# Changelog of {name}\n\nFragments in `changes/`.\n")
        self.write(f"{folder}/src/{module}/__init__.py", source)
        self.write(f"{folder}/src/{module}/py.typed", "")

    def source(self, package: str) -> str:
        """The path of the module of a package."""
        return f"packages/{package}/src/{package.replace('-', '_')}/__init__.py"

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a text that must be in a file."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        (self.root / path).write_text(text.replace(old, new))

    def fragment(self, package: str, kind: str, text: str) -> None:
        name = re.sub(r"\W+", "-", text.lower())[:40]
        self.write(f"packages/{package}/changes/{name}.{kind}.md", text + "\n")

    def commit(self, message: str = "Change") -> str:
        """The id of a commit with all changes."""
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "--message", message)
        return git(self.root, "rev-parse", "HEAD")

    def last(self, package: str) -> str:
        """The version of a package that is released."""
        release = last_release(package, self.root)
        assert release is not None
        return release.version


def small_packages(root: Path) -> Repository:
    """A repository with ttt-core 1.0.0, ttt-alpha 0.1.0 and ttt-beta 0.1.0, committed and not released."""
    repository = Repository(root)
    repository.package("ttt-core", "1.0.0", CORE)
    repository.package("ttt-alpha", "0.1.0", ALPHA, needs=["ttt-core>=1.0.0,<2"])
    repository.package("ttt-beta", "0.1.0", BETA, needs=["ttt-core>=1.0.0,<2", "ttt-alpha>=0.1.0,<0.2"])
    repository.commit("First")
    return repository
