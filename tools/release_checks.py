"""Are a wheel and an sdist fit for a package index, and does the wheel install where there is nothing?"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from packaging.metadata import ExceptionGroup, Metadata
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from tools.history import ReleaseError
from tools.releases import Release, build, releases, sha256
from tools.wheels import CheckError, check_wheel, environment, run
from tools.workspace import ROOT, packages

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IN_SDIST = ("PKG-INFO", "pyproject.toml", "README.md", "LICENSE")


def check(release: Release, wheel: Path, sdist: Path) -> None:
    """The names, metadata and content of both files. Errors: ReleaseError."""
    try:
        check_wheel(wheel, module_of(wheel))
    except CheckError as error:
        raise ReleaseError(f"{release.package} {release.version}: {error}.") from error
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        in_wheel = archive.read(metadata)
    with tarfile.open(sdist) as archive_:
        names = {name.partition("/")[2] for name in archive_.getnames()}
        info = archive_.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        in_sdist = info.read() if info is not None else b""
    if missing := [name for name in IN_SDIST if name not in names]:
        raise ReleaseError(f"{sdist.name} lacks {', '.join(missing)}.")
    if in_wheel != in_sdist:
        raise ReleaseError(f"{sdist.name} and {wheel.name} have different metadata.")
    _check_metadata(release, in_wheel)
    version = Version(release.version)
    if parse_wheel_filename(wheel.name)[:2] != (*parse_sdist_filename(sdist.name)[:1], version):
        raise ReleaseError(f"{wheel.name} and {sdist.name} are not named as {release.package} {release.version}.")


def _check_metadata(release: Release, text: bytes) -> None:
    """What an index refuses: fields that are unknown or wrong, no description, one that it cannot render."""
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as error:
        raise ReleaseError(
            f"{release.package} {release.version}: an index refuses the metadata: {'; '.join(map(str, error.exceptions))}."
        ) from error
    found = {
        "name": metadata.name == release.package,
        "version": str(metadata.version) == release.version,
        "summary": bool(metadata.summary),
        "description": bool((metadata.description or "").strip()),
        "description content type": (metadata.description_content_type or "").startswith("text/markdown"),
        "requires-python": metadata.requires_python is not None,
        "licence file": bool(metadata.license_files),
    }
    if wrong := [name for name, good in found.items() if not good]:
        raise ReleaseError(f"{release.package} {release.version}: its metadata has no or a wrong {', '.join(wrong)}.")


def module_of(wheel: Path) -> str:
    """The package that a wheel installs."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    return min(tops, default="")


def install(release: Release, root: Path, passed: Path) -> None:
    """Install a release beside released siblings, and nothing else of the repository; import it bare.

    `passed` has an empty file for each combination of wheels that did, so that none is tried twice. Errors: ReleaseError.
    """
    with tempfile.TemporaryDirectory(prefix="ttt-install-") as temporary:
        folder = Path(temporary)
        wheels = [build(one, folder / "wheels", root) for one in (release, *_needed(release, root))]
        parts = [PYTHON, (ROOT / "constraints.txt").read_text(), *map(sha256, wheels)]
        stamp = passed / hashlib.sha256("\n".join(parts).encode()).hexdigest()
        if stamp.exists():
            return
        try:
            interpreter = environment(wheels, folder, PYTHON)
            run([interpreter, "-I", "-c", f"import {module_of(wheels[0])}"], cwd=folder)
        except CheckError as error:
            raise ReleaseError(
                f"{release.package} {release.version} does not install in an empty environment: {error}"
            ) from error
        passed.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _needed(release: Release, root: Path) -> list[Release]:
    """The newest released version of each sibling that it needs, and of what those need."""
    known, siblings = releases(root=root), packages(root)
    (own,) = (one for one in known if one.tree == release.tree and one.version == release.version)
    found: dict[str, Release] = {}
    pending = [own]
    while pending:
        one = pending.pop()
        for wanted in one.requirements:
            fit = [
                each
                for each in known
                if each.package == wanted.name and wanted.specifier.contains(each.version, prereleases=True)
            ]
            if not fit and wanted.name in siblings:
                raise ReleaseError(
                    f"{one.package} {one.version} wants {wanted}, and no such release is recorded: release {wanted.name} first."
                )
            if fit and wanted.name not in found:
                found[wanted.name] = max(fit, key=lambda each: Version(each.version))
                pending.append(found[wanted.name])
    return list(found.values())
