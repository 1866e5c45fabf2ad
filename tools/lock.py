"""Resolves the workspace and writes the version of every distribution to constraints.txt and pyproject.toml.

uv cannot read a constraints file for a project, so the same lines stand in both. The resolution starts from the
versions in force; `--upgrade`, `--upgrade-package NAME` and the other options of `uv lock` change them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomlkit
from packaging.requirements import Requirement

from tools.workspace import ROOT

UV = os.environ.get("UV", "uv")
EXPORT = "export --quiet --frozen --no-hashes --no-annotate --no-header --no-emit-workspace"
EVERYTHING = "--all-packages --all-extras --all-groups"
HEADER = "# Every distribution of the development environment; written by `nox -s lock`.\n"
SPLIT = "3.12"  # ttnn has wheels for CPython 3.10 and 3.12; what 3.10 cannot have newest has two lines
LINUX = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}


def resolve(root: Path, arguments: Sequence[str]) -> str:
    """What `uv export` says of a copy of the workspace that has no constraints; `root` stays as it is."""
    with tempfile.TemporaryDirectory(prefix="ttt-lock-") as folder:
        copy = Path(folder)
        for path in [root / ".python-version", root / "uv.lock", *root.glob("packages/*/pyproject.toml")]:
            if path.exists():
                target = copy / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        (copy / "pyproject.toml").write_text(with_constraints((root / "pyproject.toml").read_text(), []))
        subprocess.run([UV, "lock", *arguments], cwd=copy, check=True)
        return export(copy)


def export(root: Path) -> str:
    """The versions in `root`'s uv.lock as requirements."""
    command = [UV, *EXPORT.split(), *EVERYTHING.split()]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def constraints(exported: str) -> list[str]:
    """`name==version` lines; one that is not for every Python says for which."""
    old, new = (_versions(exported, python) for python in ("3.10", SPLIT))
    lines: list[str] = []
    for name in sorted(old | new):
        if old.get(name) == new.get(name):
            lines.append(f"{name}=={old[name]}")
            continue
        if name in old:
            lines.append(f"{name}=={old[name]} ; python_version < '{SPLIT}'")
        if name in new:
            lines.append(f"{name}=={new[name]} ; python_version >= '{SPLIT}'")
    return lines


def with_constraints(pyproject: str, lines: Sequence[str]) -> str:
    """The text of a pyproject.toml with these lines as uv's constraint-dependencies."""
    document = tomlkit.parse(pyproject)
    array = tomlkit.array()
    array.extend(lines)
    tool = document["tool"]
    assert isinstance(tool, Mapping)
    tool["uv"]["constraint-dependencies"] = array.multiline(bool(lines))
    return tomlkit.dumps(document)


def _versions(exported: str, python: str) -> dict[str, str]:
    environment = LINUX | {"python_version": python, "python_full_version": f"{python}.0"}
    requirements = [Requirement(line) for line in exported.splitlines() if line.strip()]
    return {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def main() -> None:
    lines = constraints(resolve(ROOT, sys.argv[1:]))
    pyproject = ROOT / "pyproject.toml"
    pyproject.write_text(with_constraints(pyproject.read_text(), lines))
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"{len(lines)} constraints in constraints.txt and pyproject.toml")


if __name__ == "__main__":
    main()
