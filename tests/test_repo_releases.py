"""Released versions come back from history, byte by byte; what is not as recorded is noticed."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from tools import releases as releases_module
from tools.changelog import Bump, bump_of_fragments, fragments, next_version, with_release
from tools.fixture_repository import Repository, small_packages
from tools.history import ReleaseError, git, trees_of, working_tree
from tools.releases import build, build_head, head, last_release, problems, releases, sha256, uv_version
from tools.workspace import ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return small_packages(tmp_path / "repository")


def record(repository: Repository, package: str, version: str) -> None:
    """As `nox -s release` does it, and nothing else."""
    file = repository.root / "releases.toml"
    folder = f"packages/{package}"
    row = f'package = "{package}"\nversion = "{version}"\nfolder = "{folder}"\n'
    row += f'tree = "{working_tree(repository.root, folder)}"\nuv = "{uv_version()}"\n'
    file.write_text((file.read_text() if file.exists() else "") + f"[[release]]\n{row}\n")
    repository.commit(f"Release {package} {version}")
    git(repository.root, "tag", f"{package}-v{version}")


def test_the_same_bytes_whatever_time_place_and_umask(repository: Repository, tmp_path: Path) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    (release,) = releases("ttt-alpha", repository.root)
    first = build(release, tmp_path / "a", repository.root)
    clone = tmp_path / "elsewhere" / "clone"
    git(tmp_path, "clone", "--quiet", "--no-tags", str(repository.root), str(clone))
    os.utime(clone / "packages/ttt-alpha/README.md", (0, 0))
    before = os.umask(0o077)
    try:
        second = build(releases("ttt-alpha", clone)[0], tmp_path / "b", clone)
    finally:
        os.umask(before)
    for suffix in ("-py3-none-any.whl", ".tar.gz"):
        names = [folder / f"ttt_alpha-0.1.0{suffix}" for folder in (first.parent, second.parent)]
        assert sha256(names[0]) == sha256(names[1])


def test_an_old_release_comes_back_after_the_package_changed(repository: Repository, tmp_path: Path) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    old = build(last(repository), tmp_path / "old", repository.root)
    before = sha256(old)
    shutil.rmtree(repository.root / "build")
    repository.replace(repository.source("ttt-alpha"), "def scale(", "def rescale(")
    repository.replace("packages/ttt-alpha/pyproject.toml", '"0.1.0"', '"0.2.0"')
    record(repository, "ttt-alpha", "0.2.0")
    assert [release.version for release in releases("ttt-alpha", repository.root)] == ["0.1.0", "0.2.0"]
    again = build(releases("ttt-alpha", repository.root)[0], tmp_path / "again", repository.root)
    assert sha256(again) == before
    assert "def scale(" in source_of(again)
    assert "def rescale(" in source_of(build(last(repository), tmp_path / "new", repository.root))


def last(repository: Repository) -> releases_module.Release:
    release = last_release("ttt-alpha", repository.root)
    assert release is not None
    return release


def source_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("ttt_alpha/__init__.py").decode()


def test_a_release_knows_its_ranges(repository: Repository) -> None:
    record(repository, "ttt-beta", "0.1.0")
    (release,) = releases(root=repository.root)
    assert [str(wanted) for wanted in release.requirements] == ["ttt-core<2,>=1.0.0", "ttt-alpha<0.2,>=0.1.0"]
    assert (release.line, release.requires_python, release.tag) == ("0.1", ">=3.10", "ttt-beta-v0.1.0")


def test_head_is_the_release_until_something_changes(repository: Repository, tmp_path: Path) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    assert head("ttt-alpha", repository.root).version == "0.1.0"
    repository.fragment("ttt-alpha", "fix", "A fix.")
    assert head("ttt-alpha", repository.root).version.startswith("0.1.1+g")
    repository.fragment("ttt-alpha", "breaking", "A break.")
    assert head("ttt-alpha", repository.root).version.startswith("0.2.0+g")


def test_a_stale_wheel_cannot_be_taken_for_a_new_one(repository: Repository, tmp_path: Path) -> None:
    """Planted: code changes and the version does not. An installer would serve the wheel it had under that name."""
    record(repository, "ttt-alpha", "0.1.0")
    wheels = [build_head("ttt-alpha", tmp_path, repository.root)]
    for factor in ("3.0", "4.0"):
        repository.replace(repository.source("ttt-alpha"), "= 2.0" if factor == "3.0" else "= 3.0", f"= {factor}")
        wheels.append(build_head("ttt-alpha", tmp_path, repository.root))
        assert f"factor: float = {factor}" in source_of(wheels[-1])
    assert len({wheel.name for wheel in wheels}) == 3


def test_a_wheel_that_was_changed_after_it_was_built_is_refused(repository: Repository, tmp_path: Path) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    wheel = build(last(repository), tmp_path, repository.root)
    file = repository.root / "releases.toml"
    file.write_text(file.read_text().rstrip() + f'\nwheel = "{sha256(wheel)}"\n')
    (stored,) = (repository.root / "build/releases").glob("*/*.whl")
    stored.write_bytes(stored.read_bytes() + b"x")
    with pytest.raises(ReleaseError, match="was changed after it was built is gone now: try again"):
        build(last(repository), tmp_path, repository.root)
    assert sha256(build(last(repository), tmp_path, repository.root)) == sha256(wheel)


def test_a_moved_tag_and_a_lost_tree_are_noticed(repository: Repository) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    assert problems(repository.root) == []
    repository.replace(repository.source("ttt-alpha"), "= 2.0", "= 3.0")
    repository.commit()
    git(repository.root, "tag", "--force", "ttt-alpha-v0.1.0")
    (moved,) = problems(repository.root)
    assert moved.endswith("the tag was moved.")
    git(repository.root, "tag", "--delete", "ttt-alpha-v0.1.0")
    assert problems(repository.root) == []
    git(repository.root, "checkout", "--quiet", "--orphan", "rewritten")
    repository.commit()
    (lost,) = problems(repository.root)
    assert lost.startswith("ttt-alpha 0.1.0: no commit before HEAD has the recorded tree")


def test_a_shallow_clone_is_told_what_to_do(repository: Repository, tmp_path: Path) -> None:
    record(repository, "ttt-alpha", "0.1.0")
    repository.replace(repository.source("ttt-alpha"), "= 2.0", "= 3.0")
    repository.commit()
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository.root}", str(clone))
    with pytest.raises(ReleaseError, match="git fetch --unshallow"):
        releases(root=clone)


def test_uncommitted_work_has_a_tree_and_the_index_is_left_alone(repository: Repository) -> None:
    folder = "packages/ttt-alpha"
    repository.write(f"{folder}/new.txt", "new\n")
    tree = working_tree(repository.root, folder)
    assert git(repository.root, "status", "--short") == f"?? {folder}/new.txt"
    repository.commit()
    assert tree in trees_of(repository.root, folder)


def test_versions_follow_the_kinds_of_fragments(repository: Repository) -> None:
    assert [next_version("0.3.4", bump) for bump in Bump] == ["0.3.5", "0.3.5", "0.4.0"]
    assert [next_version("1.3.4", bump) for bump in Bump] == ["1.3.5", "1.4.0", "2.0.0"]
    folder = repository.root / "packages/ttt-alpha"
    assert bump_of_fragments(fragments(folder)) is Bump.PATCH
    repository.fragment("ttt-alpha", "feature", "More.")
    repository.fragment("ttt-alpha", "fix", "Two\nlines.")
    assert bump_of_fragments(fragments(folder)) is Bump.MINOR
    section = "## 0.1.1 (2026-01-02)\n\n### Added\n\n* More.\n\n### Fixed\n\n* Two\n  lines.\n"
    first = with_release("# C\n\nText.\n", "0.1.1", "2026-01-02", fragments(folder))
    assert first == f"# C\n\nText.\n\n{section}"
    nothing = "## 0.1.2 (2026-01-03)\n\nNo changes of its own.\n"
    assert with_release(first, "0.1.2", "2026-01-03", []) == f"# C\n\nText.\n\n{nothing}\n{section}"
    again = with_release(first, "0.1.1", "2026-01-04", fragments(folder)[:1])
    assert again == first.replace("* More.\n", "* More.\n* More.\n")
    assert with_release("# C\n\n## 0.1.1\n\n* By hand.\n", "0.1.1", "", []) == "# C\n\n## 0.1.1\n\n* By hand.\n"
    repository.write("packages/ttt-alpha/changes/x.feat.md", "x")
    with pytest.raises(ReleaseError, match=r"x\.feat\.md is no fragment"):
        fragments(folder)


def test_the_record_of_this_repository_is_true() -> None:
    assert problems(ROOT) == []


def test_first_releases_are_0_1_0_and_that_of_ttt_core_1_0_0() -> None:
    first = {one.package: one.version for one in reversed(releases())}
    assert first.pop("ttt-core") == "1.0.0"
    assert {"ttt-norm", "ttt-testing", "ttt-llama3", "tiny-llama"} <= first.keys()
    assert set(first.values()) == {"0.1.0"}


def test_every_fragment_of_this_repository_has_a_kind() -> None:
    for file in [*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("models/*/pyproject.toml")]:
        fragments(file.parent)


def test_every_package_builds_from_its_tree_alone(tmp_path: Path) -> None:
    """The smallest one here; all of them in `nox -s wheels`."""
    wheel = build_head("ttt-core", tmp_path)
    done = subprocess.run(["git", "status", "--porcelain", "build"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == ""
    assert zipfile.ZipFile(wheel).testzip() is None
