"""The releases that were made, and how each is built again from history, byte by byte, without a registry.

`releases.toml` has for each the tree id of its folder, which names the content whatever happens to tags and commits, the
uv that built it, and what came out. Nothing here knows this repository: `root` is any that has such a file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tomlkit
from packaging.requirements import Requirement
from packaging.version import Version

from tools.changelog import bump_of_fragments, fragments, next_version
from tools.history import ReleaseError, extract, git, has_tree, read, tree_of, trees_of, working_tree
from tools.workspace import ROOT, read_toml

UV = os.environ.get("UV", "uv")
RECORD = "releases.toml"
HEADER = "# Every release, oldest first; written by `nox -s release`.\n"
EPOCH = "1577836800"  # 2020-01-01: zip files have no time before 1980, and every build must have the same
FOLDERS = ("packages", "models")


@dataclass(frozen=True, kw_only=True)
class Release:
    """One version of one package. `uv`, `wheel` and `sdist` (sha256) are empty for what is not released: HEAD."""

    package: str
    version: str
    folder: str  # packages/ttt-norm
    tree: str  # git's id of the content of the folder
    uv: str = ""
    wheel: str = ""
    sdist: str = ""
    requires_python: str = ""
    dependencies: tuple[str, ...] = ()
    extras: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def requirements(self) -> list[Requirement]:
        """What it needs, without extras."""
        return [Requirement(text) for text in self.dependencies]

    @property
    def line(self) -> str:
        """The versions that are compatible with one another: 0.1, or 1 where the first number is not 0."""
        version = Version(self.version)
        return f"0.{version.minor}" if version.major == 0 else str(version.major)

    @property
    def tag(self) -> str:
        return f"{self.package}-v{self.version}"


def releases(package: str | None = None, root: Path = ROOT) -> list[Release]:
    """Those of one package, or all, oldest first. Errors: ReleaseError for a record that this history does not have."""
    file = root / RECORD
    if not file.exists():
        return []
    rows = read_toml(file).get("release", [])
    return [_with_metadata(root, row) for row in rows if package in (None, row["package"])]


def _with_metadata(root: Path, row: dict[str, Any]) -> Release:
    metadata = _metadata(root, row["tree"], f"{row['package']} {row['version']}")
    return Release(**metadata, **row)


@cache
def _metadata(root: Path, tree: str, name: str) -> dict[str, Any]:
    if not has_tree(root, tree):
        raise ReleaseError(
            f"{name} is recorded in {RECORD} with the tree {tree[:12]}, which this clone does not have. A shallow clone lacks "
            "old commits: run `git fetch --unshallow`. If it is complete, the record was written on commits that were "
            f"rewritten since: make it again with `nox -s release -- {name.split()[0]} --again`."
        )
    project = tomlkit.parse(read(root, tree, "pyproject.toml")).unwrap()["project"]
    return {
        "requires_python": project.get("requires-python", ""),
        "dependencies": tuple(project.get("dependencies", ())),
        "extras": tuple((extra, tuple(texts)) for extra, texts in project.get("optional-dependencies", {}).items()),
    }


def last_release(package: str, root: Path = ROOT) -> Release | None:
    """The newest version of a package that is recorded."""
    return max(releases(package, root), key=lambda release: Version(release.version), default=None)


def folder_of(package: str, root: Path = ROOT) -> str:
    """Where a package is. Errors: ReleaseError for a name that no folder has."""
    found = {}
    for kind in FOLDERS:
        for file in sorted(root.glob(f"{kind}/*/pyproject.toml")):
            found[read_toml(file)["project"]["name"]] = f"{kind}/{file.parent.name}"
    if package not in found:
        raise ReleaseError(f"no package is named {package!r}; there are {', '.join(found)}.")
    return str(found[package])


def head(package: str, root: Path = ROOT) -> Release:
    """A package as it is on disk: its last release where nothing changed since, else the version it would be released as.

    Such a version ends in the content's id, `0.1.1+g5f0c…`: two states never have wheels of the same name, which an
    installer would take for each other.
    """
    folder = folder_of(package, root)
    tree = working_tree(root, folder)
    last = last_release(package, root)
    if last is not None and last.tree == tree:
        return last
    project = read_toml(root / folder / "pyproject.toml")["project"]
    version = project["version"]
    if last is not None and Version(version) <= Version(last.version):
        version = next_version(last.version, bump_of_fragments(fragments(root / folder)))
    metadata = _metadata(root, tree, package)
    return Release(package=package, version=f"{version}+g{tree[:12]}", folder=folder, tree=tree, **metadata)


def build(release: Release, out: Path, root: Path = ROOT) -> Path:
    """The wheel of a release in `out`, with the sdist beside it: the same bytes each time and on each machine.

    Errors: ReleaseError where the bytes are not the recorded ones.
    """
    name = release.package.replace("-", "_")
    store = root / "build" / "releases" / f"{release.tree}-{release.version}-{release.uv or uv_version()}"
    wheel = store / f"{name}-{release.version}-py3-none-any.whl"
    sdist = store / f"{name}-{release.version}.tar.gz"
    if not (wheel.exists() and sdist.exists()):
        _build(release, store, root)
    for file, recorded in ((wheel, release.wheel), (sdist, release.sdist)):
        if recorded and (found := sha256(file)) != recorded:
            shutil.rmtree(store)
            raise ReleaseError(
                f"{file.name}, built from tree {release.tree[:12]} with uv {release.uv}, has the sha256 {found}, and {RECORD} "
                f"has {recorded}. A file that was changed after it was built is gone now: try again. If it comes back, the "
                "record was edited, or the build depends on the machine."
            )
    out.mkdir(parents=True, exist_ok=True)
    for file in (sdist, wheel):
        shutil.copyfile(file, out / file.name)
    return out / wheel.name


def build_head(package: str, out: Path, root: Path = ROOT) -> Path:
    """The wheel of a package as it is on disk, committed or not; its version says so, see `head`."""
    return build(head(package, root), out, root)


def _build(release: Release, store: Path, root: Path) -> None:
    """Build beside `store`, then move: two at a time are in nobody's way, and what is there is whole."""
    with tempfile.TemporaryDirectory(prefix="ttt-release-") as temporary:
        source, dist = Path(temporary) / "source", Path(temporary) / "dist"
        extract(root, release.tree, source)
        _set_version(source / "pyproject.toml", release.version)
        command = [UV, "build", "--quiet", "--no-sources", "--out-dir", str(dist), str(source)]
        if release.uv and release.uv != uv_version():
            (Path(temporary) / "constraints.txt").write_text(f"uv_build=={release.uv}\n")
            command += ["--force-pep517", "--build-constraints", str(Path(temporary) / "constraints.txt")]
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment | {"SOURCE_DATE_EPOCH": EPOCH}, capture_output=True, text=True
        )
        if done.returncode:
            raise ReleaseError(f"{release.package} {release.version} does not build: {done.stderr.strip()[-2000:]}")
        store.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=store.parent))
        for file in [*dist.glob("*.whl"), *dist.glob("*.tar.gz")]:
            shutil.copyfile(file, new / file.name)
        try:
            new.rename(store)
        except OSError:  # somebody else was first
            shutil.rmtree(new)


def _set_version(pyproject: Path, version: str) -> None:
    if read_toml(pyproject)["project"]["version"] != version:
        document = tomlkit.parse(pyproject.read_text())
        document["project"]["version"] = version
        pyproject.write_text(tomlkit.dumps(document))


@cache
def uv_version() -> str:
    """The version of the uv that builds here; its name is in every wheel."""
    done = subprocess.run([UV, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+\S*", done.stdout)
    assert found is not None
    return found[0]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong with the record: a tree that HEAD's history has nowhere, a tag that was moved."""
    found = []
    tags = set(git(root, "tag", "--list").split())
    for release in releases(root=root):
        name = f"{release.package} {release.version}"
        if release.tree not in trees_of(root, release.folder):
            found.append(
                f"{name}: no commit before HEAD has the recorded tree {release.tree[:12]} as {release.folder}."
            )
        if release.tag in tags and (tagged := tree_of(root, release.tag, release.folder)) != release.tree:
            found.append(
                f"{name}: the tag {release.tag} has {str(tagged)[:12]} as {release.folder}, and was released as "
                f"{release.tree[:12]}: the tag was moved."
            )
    return found
