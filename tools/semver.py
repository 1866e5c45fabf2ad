"""Does every package declare, with its fragments, at least what its changes since the last release break? `nox -s semver`.

Judged are callers (griffe, enum values, JSON keys) and types (mypy, both ways), see tools/judge_*.py; and whether the
packages, as they are, are within each other's ranges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tools.changelog import Bump, allowed, bump_of_fragments, fragments, next_version
from tools.history import ReleaseError, extract, working_tree
from tools.judge_callers import Finding, callers
from tools.judge_types import types
from tools.releases import Release, last_release
from tools.workspace import ROOT, Package, packages

CACHE = ROOT / ".mypy_cache" / "judge"
DECLARES = {Bump.MAJOR: "breaking", Bump.MINOR: "feature"}
SAYS = {Bump.MAJOR: "breaks those who use it", Bump.MINOR: "adds to the API"}


def judge(names: Iterable[str], root: Path = ROOT) -> dict[str, list[Finding]]:
    """What changed in the API of each package since its last release; nothing for one that has none."""
    among = packages(root)
    changed: dict[Path, Path] = {}
    found: dict[str, list[Finding]] = {}
    for name in names:
        found[name] = []
        last = last_release(name, root)
        if last is not None and last.tree != working_tree(root, last.folder):
            old = old_source(last, among[name], root)
            found[name] = list(callers(old, among[name].source))
            changed[old] = among[name].source
    for finding in types(
        changed, [package.folder / "src" for package in among.values()], root / ".mypy_cache" / "judge"
    ):
        module = finding.where.split("/")[0]
        found[module.replace("_", "-")].append(finding)
    return found


def old_source(release: Release, package: Package, root: Path) -> Path:
    """The source of a release, unpacked once."""
    folder = root / "build" / "sources" / release.tree
    if not folder.exists():
        extract(root, release.tree, folder)
    return folder / "src" / package.module


def too_much(name: str, findings: Iterable[Finding], root: Path = ROOT) -> list[str]:
    """The findings that the declared version does not allow, as sentences that say what would."""
    last = last_release(name, root)
    if last is None:
        return []
    version = declared_version(packages(root)[name], last)
    limit = allowed(last.version, version)
    return [
        f"{name} {last.version} → {version}: {finding}. This {SAYS[finding.bump]}: say so in "
        f"changes/NAME.{DECLARES[finding.bump]}.md, or do without."
        for finding in findings
        if finding.bump > limit
    ]


def declared_version(package: Package, last: Release) -> str:
    """The version that a package would be released as: its own where that is newer, else what its fragments ask for."""
    if Version(package.project["version"]) > Version(last.version):
        return str(package.project["version"])
    return next_version(last.version, bump_of_fragments(fragments(package.folder)))


def outside(root: Path = ROOT) -> list[str]:
    """Packages that want a sibling which is not what the sibling is: neither its version nor the next it declares."""
    among = packages(root)
    found = []
    for package in among.values():
        for wanted in package.requirements:
            if (sibling := among.get(wanted.name)) is not None and not _within(wanted, sibling, root):
                found.append(
                    f"{package.name} wants {wanted}, and {sibling.name} is {sibling.project['version']}: what is here is never "
                    f"installed together. Change the range in {package.folder.name}/pyproject.toml, and test with both ends."
                )
    return found


def _within(wanted: Requirement, sibling: Package, root: Path) -> bool:
    versions = [str(sibling.project["version"])]
    last = last_release(sibling.name, root)
    if last is not None:
        versions.append(declared_version(sibling, last))
    return any(wanted.specifier.contains(version, prereleases=True) for version in versions)


def problems(root: Path = ROOT) -> list[str]:
    """All that is wrong with the versions of a repository as it is."""
    found = judge(packages(root), root)
    return [text for name, findings in found.items() for text in too_much(name, findings, root)] + outside(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list what is allowed, too")
    everything = parser.parse_args().all
    try:
        found = judge(packages())
        wrong = [text for name, findings in found.items() for text in too_much(name, findings)] + outside()
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 2
    for name, findings in found.items():
        counts = [sum(finding.bump is bump for finding in findings) for bump in (Bump.MAJOR, Bump.MINOR)]
        if any(counts):
            print(f"{name}: {counts[0]} breaking, {counts[1]} new since the last release")
        if everything:
            print("".join(f"    {finding}\n" for finding in findings), end="")
    print("\n".join(wrong) if wrong else "nothing breaks more than is declared")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
