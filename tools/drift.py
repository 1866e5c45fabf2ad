"""Is every use of ttnn in the packages valid in every ttnn release that they declare? What does a new release break?

`tools/ttnn_releases/` has the signatures of each release: of the oldest all, of each later one what differs from the one
before. `nox -s drift` checks the packages against those in their declared range, in a second; `nox -s drift -- 0.82.0` first
fetches that release from the registry, adds its signatures, and says what it changes of the names in use and what breaks where.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tools.environments import install, interpreter_of, make, run
from tools.ttnn_calls import Arguments, Use, uses
from tools.workspace import ROOT, Package, needs, packages

FOLDER = Path(__file__).parent / "ttnn_releases"
Names = Mapping[str, list[str]]
"""Of a release: each name of ttnn with its overloads, as tools/signatures.py writes them."""


@cache
def snapshots(folder: Path = FOLDER) -> dict[Version, Names]:
    """The names of every known release, oldest first."""
    files = {Version(path.stem): path for path in folder.glob("*.json")}
    found: dict[Version, Names] = {}
    names: dict[str, list[str]] = {}
    for release in sorted(files):
        record = json.loads(files[release].read_text())
        names = {name: entry for name, entry in names.items() if name not in record["gone"]} | record["names"]
        found[release] = names
    return found


def write_snapshots(all_names: Mapping[Version, Names], folder: Path = FOLDER) -> None:
    """One file a release, one line a name, so that a release's file reads as what it changed."""
    before: Names = {}
    for release in sorted(all_names):
        names = all_names[release]
        changed = {name: entry for name, entry in sorted(names.items()) if before.get(name) != entry}
        gone = sorted(before.keys() - names.keys())
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in changed.items())
        (folder / f"{release}.json").write_text(f'{{"gone": {json.dumps(gone)}, "names": {{\n{lines}\n}}}}\n')
        before = names


def read_release(release: Version) -> Names:
    """The names of a release from the registry, installed into an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="ttt-drift-") as temporary:
        environment = make(Path(temporary), python="3.12")
        install(environment, [f"ttnn=={release}"])
        printed = run([interpreter_of(environment), "-I", Path(__file__).parent / "signatures.py"], Path(temporary))
    record = json.loads(printed)
    assert record["release"] == str(release)
    return dict(record["names"])


def declared(package: Package, among: dict[str, Package]) -> SpecifierSet | None:
    """The ttnn releases that a package can be installed with; None where it needs none."""
    ranges = [
        wanted.specifier for name in needs(package.name, among) for wanted in among[name].requirements
        if wanted.name == "ttnn"
    ]  # fmt: skip
    if not ranges:
        return None
    together = ranges[0]
    for each in ranges[1:]:
        together &= each
    return together


def problem(use: Use, names: Names) -> str | None:
    """What is wrong with a use in a release that has these names."""
    entry = names.get(use.name)
    if entry is None:
        if any(name.startswith(use.name + ".") for name in names):  # a module
            return None
        owner, _, member = use.name.rpartition(".")
        members = names.get(owner)
        if members is None or (members and members[0].startswith(".") and member not in members[0][1:].split(",")):
            return f"has no {use.name}"
        return None
    if use.arguments is None or not entry or entry[0].startswith((".", "...")):
        return None
    reasons = [_refusal(use.arguments, overload) for overload in entry]
    if None in reasons:
        return None
    unknown = [name for name in sorted(use.arguments.keywords) if all(name not in _names(each) for each in entry)]
    if unknown:
        return f"{use.name} has no argument {', '.join(unknown)}"
    return f"{use.name} {min((each for each in reasons if each), key=len)}"


def _names(overload: str) -> set[str]:
    return {part.rstrip("=") for part in overload.split(",")}


def _refusal(given: Arguments, overload: str) -> str | None:
    """Why an overload does not take the arguments; None if it does."""
    positional, keyword_only, nameless = list[str](), list[str](), list[str]()
    into, many, any_name = positional, False, False
    for part in overload.split(",") if overload else []:
        if part == "/":
            nameless, positional[:] = list(positional), []
        elif part.startswith("**"):
            any_name = True
        elif part.startswith("*"):
            into, many = keyword_only, many or len(part) > 1
        else:
            into.append(part)
    ordered = nameless + positional
    if given.positional > len(ordered) and not many:
        return f"takes {len(ordered)} arguments by position, {given.positional} are given"
    filled = {part.rstrip("=") for part in ordered[: given.positional]}
    taken = {part.rstrip("=") for part in positional + keyword_only} - filled
    if (wrong := sorted(given.keywords - taken)) and not any_name:
        twice = "is given twice" if wrong[0] in filled else "is no argument"
        return f"takes no {', '.join(wrong)} beside these arguments: it {twice}"
    required = [part for part in ordered[given.positional :] + keyword_only if not part.endswith("=")]
    if missing := [part for part in required if part not in given.keywords]:
        return None if given.starred else f"needs {', '.join(missing)}"
    return None


def check(
    among: Mapping[str, tuple[SpecifierSet | None, Iterable[Path]]], known: Mapping[Version, Names]
) -> Iterator[str]:
    """What is not valid: one line for each use, with the releases of the package's range that refuse it."""
    for range_, files in among.values():
        releases = [release for release in known if range_ is not None and range_.contains(release, prereleases=True)]
        for path in files:
            for use in uses(path):
                if use.arguments is not None and use.arguments.unseen:
                    yield (
                        f"{_shown(path)}:{use.line}: {use.name} is given a ** that cannot be followed to its names: "
                        "make the dict in this file"
                    )
                refused: dict[str, list[str]] = {}
                for release in releases:
                    if use.concerns(release) and (what := problem(use, known[release])):
                        refused.setdefault(what, []).append(str(release))
                for what, where in refused.items():
                    yield f"{_shown(path)}:{use.line}: ttnn {', '.join(where)}: {what}"


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def sources(root: Path = ROOT) -> dict[str, tuple[SpecifierSet | None, list[Path]]]:
    """Each package with its range of ttnn and its files."""
    among = packages(root)
    return {name: (declared(package, among), sorted(package.source.rglob("*.py"))) for name, package in among.items()}


def changes(old: Names, new: Names, used: Iterable[str]) -> Iterator[str]:
    """How the names in use differ between two releases."""
    for name in sorted(set(used)):
        if old.get(name) == new.get(name):
            continue
        if name not in new:
            yield f"{name}: gone" if name in old else ""
        elif name not in old:
            yield f"{name}: new"
        else:
            before, after = ({part for each in entry for part in each.split(",")} for entry in (old[name], new[name]))
            signs = [f"-{part}" for part in sorted(before - after)] + [f"+{part}" for part in sorted(after - before)]
            yield f"{name}: {' '.join(signs) or 'another order'}"


def add(release: Version) -> list[str]:
    """Adds the signatures of a release; the changes to names in use since the one before."""
    known = dict(snapshots()) | {release: read_release(release)}
    write_snapshots(known)
    snapshots.cache_clear()
    earlier = [each for each in sorted(known) if each < release]
    used = {use.name for _, files in sources().values() for path in files for use in uses(path)}
    return [line for line in changes(known[earlier[-1]], known[release], used) if line] if earlier else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", type=Version, metavar="RELEASE", help="of ttnn, to be fetched and added")
    arguments = parser.parse_args()
    among = sources()
    for release in sorted(arguments.releases):
        print(f"ttnn {release}: names in use that changed since the release before")
        print("\n".join(f"  {line}" for line in add(release)) or "  none")
    known = snapshots()
    anew = {release: known[release] for release in arguments.releases}
    broken = list(check({name: (SpecifierSet(), files) for name, (_, files) in among.items()}, anew)) if anew else []
    broken += [line for line in check(among, known) if line not in broken]
    for line in broken:
        print(line)
    covered = {release for release in known if any(each and each.contains(release) for each, _ in among.values())}
    shown = ", ".join(str(release) for release in sorted(covered | anew.keys()))
    print(f"{len(broken)} uses of ttnn are not valid in ttnn {shown}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
