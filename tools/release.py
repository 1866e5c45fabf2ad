"""Releases a package: `nox -s release -- ttt-norm`.

The version comes from the fragments, and the judges of the API must allow it. The fragments go to the changelog, ranges that
would leave dependants behind move, wheel and sdist are built and checked, and the wheel is installed in an empty environment.
Then the release is recorded in releases.toml, committed and tagged, and the command that uploads it is printed.

All of it happens in a work tree of its own: where a step fails nothing is left, and the branch has all of a release or none.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import tomlkit
from packaging.requirements import Requirement
from packaging.version import Version

from tools import api
from tools.changelog import fragments, with_release
from tools.history import ReleaseError, git, tree_of, working_tree
from tools.release_checks import check, install
from tools.releases import FOLDERS, RECORD, Release, build, folder_of, head, last_release, releases, sha256, uv_version
from tools.semver import declared_version, judge, outside, too_much
from tools.wheels import WORKERS
from tools.workspace import ROOT, Package, packages, read_toml, topological

HEADER = "# Every release, oldest first; written by `nox -s release`.\n"


def release(
    names: Sequence[str], root: Path = ROOT, *, again: bool = False, dry_run: bool = False, date: str | None = None
) -> list[Release]:
    """Release packages, those first that others need; what was released.

    `again` makes the last release anew, with the same version and changelog, for as long as it is uploaded nowhere.
    Errors: ReleaseError, with everything as it was before.
    """
    date = date or datetime.date.today().isoformat()
    if changes := git(root, "status", "--porcelain"):
        raise ReleaseError(
            f"There is work that is not committed: {_short(changes)}. Commit it or stash it: a release is history."
        )
    with _work_tree(root) as stage:
        if again:
            _forget(names, stage)
        _judge(names, stage)
        made: list[Release] = []
        for name in names:
            made.append(_one(name, stage, date, made))
        with tempfile.TemporaryDirectory(prefix="ttt-dist-") as temporary:
            dist = Path(temporary)
            made = [_built(one, stage, dist) for one in made]
            _record(made, stage)
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(lambda one: install(one, stage, root / "build" / "installed"), made))
            git(stage, "add", "--all")
            git(stage, "commit", "--quiet", "--message", _message(made))
            if not dry_run:
                _publish(made, git(stage, "rev-parse", "HEAD"), root, again=again)
                (root / "dist").mkdir(exist_ok=True)
                for file in dist.iterdir():
                    shutil.copyfile(file, root / "dist" / file.name)
    return made


@contextmanager
def _work_tree(root: Path) -> Iterator[Path]:
    """A checkout of HEAD beside the repository's own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ttt-stage-") as temporary:
        stage = Path(temporary) / "stage"
        git(root, "worktree", "add", "--quiet", "--detach", str(stage), "HEAD")
        try:
            yield stage
        finally:
            git(root, "worktree", "remove", "--force", str(stage))


def _forget(names: Sequence[str], stage: Path) -> None:
    """Take the last release of each package out of the record."""
    last = [last_release(name, stage) for name in names]
    _write_record([one for one in releases(root=stage) if one not in last], stage)


def _judge(names: Sequence[str], stage: Path) -> None:
    """Errors: ReleaseError where a change is not declared, an API file is old, or packages are outside each other's ranges."""
    among = packages(stage)
    wrong = outside(stage)
    for name, findings in judge([name for name in names if name in among], stage).items():
        wrong += too_much(name, findings, stage)
        file = among[name].folder / api.FILE
        if file.exists() and file.read_text() != api.snapshot(among[name]):
            wrong.append(f"{name}: {api.FILE} is not what the code has; run `nox -s api` and commit it.")
    if wrong:
        raise ReleaseError(" ".join(wrong))


def _one(name: str, stage: Path, date: str, before: Sequence[Release]) -> Release:
    """Write what the release of one package changes, after those of `before`, and say what it is."""
    folder = folder_of(name, stage)
    last = last_release(name, stage)
    pyproject = stage / folder / "pyproject.toml"
    package = Package(folder=stage / folder, project=read_toml(pyproject)["project"])
    version = package.project["version"]
    if last is not None:
        if head(name, stage) == last:
            raise ReleaseError(f"{name}: nothing changed since {last.version}, which is released.")
        version = declared_version(package, last)
    _check_pins(package, [*releases(root=stage), *before], stage)
    found = fragments(package.folder)
    changelog = package.folder / "CHANGELOG.md"
    changelog.write_text(with_release(changelog.read_text(), version, date, found))
    for fragment in found:
        fragment.file.unlink()
    _edit(pyproject, version=version)
    _move_ranges(name, version, stage)
    return Release(package=name, version=version, folder=folder, tree=working_tree(stage, folder), uv=uv_version())


def _check_pins(package: Package, released: Sequence[Release], stage: Path) -> None:
    """A model names one version of each package, and each must be released."""
    known = {(one.package, one.version) for one in released}
    names = packages(stage)
    for wanted in package.requirements:
        pins = [bound.version for bound in wanted.specifier if bound.operator == "=="]
        if wanted.name in names and pins and (wanted.name, pins[0]) not in known:
            raise ReleaseError(
                f"{package.name} wants {wanted}, which is not released: release it first, or pin one that is."
            )


def _move_ranges(name: str, version: str, stage: Path) -> None:
    """Let dependants have the new version where their range ends before it, and say so in a fragment of theirs."""
    new = Version(version)
    end = f"0.{new.minor + 1}" if new.major == 0 else f"{new.major + 1}"
    for package in packages(stage).values():
        texts = [str(wanted) for wanted in package.requirements if wanted.name == name]
        if any(not Requirement(text).specifier.contains(version, prereleases=True) for text in texts):
            _edit(package.folder / "pyproject.toml", ranges={name: f">={version},<{end}"})
            fragment = package.folder / "changes" / f"{name}-{version}.dependency.md"
            fragment.parent.mkdir(exist_ok=True)
            fragment.write_text(f"Needs {name} {version}.\n")


def _edit(pyproject: Path, *, version: str | None = None, ranges: dict[str, str] | None = None) -> None:
    """Change the version of a package, or the ranges it wants, and leave the rest as it is written."""
    text = pyproject.read_text()
    if version is not None:
        text = re.sub(r'^version = ".*"$', f'version = "{version}"', text, count=1, flags=re.MULTILINE)
    for name, bounds in (ranges or {}).items():
        text = re.sub(rf'"({re.escape(name)}(?:\[[^\]]*\])?)[<>=~!][^";]*((?:;[^"]*)?)"', rf'"\1{bounds}\2"', text)
    tomlkit.parse(text)
    pyproject.write_text(text)


def _built(one: Release, stage: Path, dist: Path) -> Release:
    """The release with what its files are; they are checked, and in `dist`."""
    wheel = build(one, dist, stage)
    sdist = wheel.with_name(f"{one.package.replace('-', '_')}-{one.version}.tar.gz")
    check(one, wheel, sdist)
    return replace(one, wheel=sha256(wheel), sdist=sha256(sdist))


def _record(made: Sequence[Release], stage: Path) -> None:
    _write_record([*releases(root=stage), *made], stage)


def _write_record(listed: Sequence[Release], stage: Path) -> None:
    fields = ("package", "version", "folder", "tree", "uv", "wheel", "sdist")
    rows = ["".join(f'{field} = "{getattr(one, field)}"\n' for field in fields) for one in listed]
    (stage / RECORD).write_text("\n".join([HEADER, *(f"[[release]]\n{row}" for row in rows)]))


def _message(made: Sequence[Release]) -> str:
    named = [f"{one.package} {one.version}" for one in made]
    return f"Release {named[0]}" if len(named) == 1 else f"Release {len(named)} packages\n\n" + "\n".join(named)


def _publish(made: Sequence[Release], commit: str, root: Path, *, again: bool) -> None:
    """Tags first, which come off again where the branch cannot be moved."""
    before = {one.tag: _tagged(root, one.tag) for one in made}
    try:
        for one in made:
            message = ["--annotate", "--message", f"{one.package} {one.version}"]
            git(root, "tag", *message, *(["--force"] if again else []), one.tag, commit)
        git(root, "merge", "--quiet", "--ff-only", commit)
    except ReleaseError:
        for tag, old in before.items():
            with suppress(ReleaseError):
                git(root, "tag", *(["--force", tag, old] if old else ["--delete", tag]))
        raise


def _tagged(root: Path, tag: str) -> str:
    return git(root, "rev-parse", tag) if tag in git(root, "tag", "--list", tag).split() else ""


def _short(status: str) -> str:
    lines = [line.split()[-1] for line in status.splitlines()]
    return ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="nox -s release --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="PACKAGE")
    parser.add_argument(
        "--all", action="store_true", help="every package and model that changed since its last release"
    )
    parser.add_argument(
        "--again", action="store_true", help="make the last release anew; only while it is not uploaded"
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything but write to the repository")
    options = parser.parse_args()
    if bool(options.names) == options.all:
        parser.error("name the packages to release, or give --all")
    try:
        names = topological(changed(again=options.again) if options.all else options.names)
        made = release(names, again=options.again, dry_run=options.dry_run)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 2
    for one in made:
        print(f"{one.package} {one.version}: tree {one.tree[:12]}, wheel sha256 {one.wheel[:12]}")
    if options.dry_run:
        print("nothing was written")
        return 0
    files = " ".join(f"dist/{one.package.replace('-', '_')}-{one.version}*" for one in made)
    print(f"Upload, once the commit and its tags are pushed:\n  uv publish {files}\n  git push --follow-tags")
    return 0


def changed(root: Path = ROOT, *, again: bool) -> list[str]:
    """Packages and models that are not as they were last released; `again` those that are released too."""
    names = [
        read_toml(file)["project"]["name"] for kind in FOLDERS for file in sorted(root.glob(f"{kind}/*/pyproject.toml"))
    ]
    found = []
    for name in names:
        last = last_release(name, root)
        if last is None or again or tree_of(root, "HEAD", last.folder) != last.tree:
            found.append(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
