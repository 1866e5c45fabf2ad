"""`nox -s release` cuts what it says, or leaves everything as it was."""

import sys
from pathlib import Path

import pytest
from tools import release as release_module
from tools.fixture_repository import Repository, small_packages
from tools.history import ReleaseError, git
from tools.release import changed, main, release
from tools.releases import build, last_release, problems, releases, sha256
from tools.semver import outside
from tools.workspace import packages, read_toml, topological

NAMES = ["ttt-core", "ttt-alpha", "ttt-beta"]
DAY = "2026-01-02"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small packages with first releases of all, cut in one go; tests copy it."""
    repository = small_packages(tmp_path_factory.mktemp("first") / "repository")
    repository.fragment("ttt-alpha", "feature", "First release.")
    repository.commit()
    release(NAMES, repository.root, date=DAY)
    return repository.root


@pytest.fixture
def repository(first: Path, tmp_path: Path) -> Repository:
    git(tmp_path, "clone", "--quiet", str(first), "repository")
    found = Repository.__new__(Repository)
    found.root = tmp_path / "repository"
    git(found.root, "config", "user.name", "tests")
    git(found.root, "config", "user.email", "tests@localhost")
    return found


def state(root: Path) -> tuple[str, ...]:
    """All that a release changes."""
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain"], ["tag", "--list"], ["worktree", "list"], ["branch"])
    return tuple(git(root, *command) for command in commands)


def test_first_releases_are_recorded_tagged_and_true(first: Path) -> None:
    assert [(one.package, one.version) for one in releases(root=first)] == [
        ("ttt-core", "1.0.0"),
        ("ttt-alpha", "0.1.0"),
        ("ttt-beta", "0.1.0"),
    ]
    assert git(first, "tag", "--list").split() == ["ttt-alpha-v0.1.0", "ttt-beta-v0.1.0", "ttt-core-v1.0.0"]
    assert problems(first) == []
    assert git(first, "status", "--porcelain") == ""
    assert git(first, "log", "-1", "--format=%B").splitlines()[0] == "Release 3 packages"
    assert sorted(file.name for file in (first / "dist").iterdir())[:2] == [
        "ttt_alpha-0.1.0-py3-none-any.whl",
        "ttt_alpha-0.1.0.tar.gz",
    ]
    alpha = first / "packages/ttt-alpha"
    assert list(alpha.glob("changes/*")) == []
    changelog = (alpha / "CHANGELOG.md").read_text()
    assert changelog.endswith(f"\n\n## 0.1.0 ({DAY})\n\n### Added\n\n* First release.\n")
    assert changed(first, again=False) == []


def test_a_released_wheel_comes_back_with_the_recorded_bytes(first: Path, tmp_path: Path) -> None:
    for one in releases(root=first):
        wheel = build(one, tmp_path / "again", first)
        assert sha256(wheel) == one.wheel
        assert wheel.read_bytes() == (first / "dist" / wheel.name).read_bytes()


def test_a_fix_is_a_patch_and_moves_nobody(repository: Repository) -> None:
    repository.replace(repository.source("ttt-alpha"), "return x * factor", "return factor * x")
    repository.fragment("ttt-alpha", "fix", "Faster.")
    repository.commit()
    (made,) = release(["ttt-alpha"], repository.root, date=DAY)
    assert (made.version, repository.last("ttt-alpha")) == ("0.1.1", "0.1.1")
    assert read_toml(repository.root / "packages/ttt-alpha/pyproject.toml")["project"]["version"] == "0.1.1"
    assert changed(repository.root, again=False) == []
    assert problems(repository.root) == []


def test_a_break_moves_the_ranges_of_dependants_who_then_change(repository: Repository) -> None:
    repository.replace(repository.source("ttt-alpha"), "factor", "by")
    repository.replace(repository.source("ttt-beta"), "factor=2.0", "by=2.0")
    repository.fragment("ttt-alpha", "breaking", "`scale` takes `by`.")
    repository.commit()
    (made,) = release(["ttt-alpha"], repository.root, date=DAY)
    assert made.version == "0.2.0"
    beta = packages(repository.root)["ttt-beta"]
    assert [str(wanted) for wanted in beta.requirements] == ["ttt-core<2,>=1.0.0", "ttt-alpha<0.3,>=0.2.0"]
    assert (beta.folder / "changes/ttt-alpha-0.2.0.dependency.md").read_text() == "Needs ttt-alpha 0.2.0.\n"
    assert outside(repository.root) == []
    assert changed(repository.root, again=False) == ["ttt-beta"]
    (made,) = release(["ttt-beta"], repository.root, date=DAY)
    assert made.version == "0.1.1"
    assert "### Dependencies\n\n* Needs ttt-alpha 0.2.0.\n" in (beta.folder / "CHANGELOG.md").read_text()


def test_again_makes_the_last_release_anew(repository: Repository) -> None:
    before = last_release("ttt-alpha", repository.root)
    repository.replace(repository.source("ttt-alpha"), "factor", "by")  # a break, which nobody has
    repository.replace(repository.source("ttt-beta"), "factor=2.0", "by=2.0")
    repository.fragment("ttt-alpha", "feature", "More.")
    repository.commit()
    made = release(["ttt-alpha", "ttt-beta"], repository.root, again=True, date="2026-03-04")
    assert [one.version for one in made] == ["0.1.0", "0.1.0"]
    assert len(releases(root=repository.root)) == 3
    assert before is not None
    assert made[0].tree != before.tree
    assert problems(repository.root) == []
    changelog = (repository.root / "packages/ttt-alpha/CHANGELOG.md").read_text()
    assert changelog.endswith(f"\n\n## 0.1.0 ({DAY})\n\n### Added\n\n* First release.\n* More.\n")


def test_a_dry_run_leaves_nothing(repository: Repository) -> None:
    repository.fragment("ttt-alpha", "fix", "A fix.")
    repository.commit()
    before = state(repository.root)
    (made,) = release(["ttt-alpha"], repository.root, dry_run=True)
    assert made.version == "0.1.1"
    assert state(repository.root) == before
    assert not (repository.root / "dist").exists()


def break_the_api(repository: Repository) -> None:
    repository.replace(repository.source("ttt-alpha"), "factor", "by")
    repository.fragment("ttt-alpha", "fix", "A fix, it says.")


def break_the_import(repository: Repository) -> None:
    repository.replace(
        repository.source("ttt-alpha"), "from ttt_core import Tensor", "import numpy\nfrom ttt_core import Tensor"
    )
    repository.fragment("ttt-alpha", "fix", "Needs numpy.")


def add_tests(repository: Repository) -> None:
    repository.write("packages/ttt-alpha/src/ttt_alpha/tests/test_a.py", "")
    repository.fragment("ttt-alpha", "fix", "Tests.")


def empty_the_readme(repository: Repository) -> None:
    repository.write("packages/ttt-alpha/README.md", "")
    repository.fragment("ttt-alpha", "fix", "No README.")


def break_the_build(repository: Repository) -> None:
    repository.replace(
        "packages/ttt-alpha/pyproject.toml", 'license-files = ["LICENSE"]', 'license-files = ["../LICENSE"]'
    )
    repository.fragment("ttt-alpha", "fix", "A licence.")


def take_the_tag(repository: Repository) -> None:
    repository.fragment("ttt-alpha", "fix", "A fix.")
    git(repository.root, "tag", "ttt-alpha-v0.1.1")


def nothing(repository: Repository) -> None: ...


def ask_for_what_is_not_released(repository: Repository) -> None:
    repository.replace("packages/ttt-core/pyproject.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    repository.replace("packages/ttt-alpha/pyproject.toml", "ttt-core>=1.0.0,<2", "ttt-core>=1.1.0,<2")
    repository.fragment("ttt-alpha", "fix", "Needs what is to come.")


STOPPED = [
    (
        break_the_api,
        "ttt-alpha 0.1.0 → 0.1.1: ttt_alpha/__init__.py:29: ttt_alpha.scale(factor): parameter was removed",
    ),
    (
        break_the_import,
        "ttt-alpha 0.1.1 does not install in an empty environment: python -I -c import ttt_alpha failed",
    ),
    (
        add_tests,
        "ttt-alpha 0.1.1: ttt_alpha-0.1.1-py3-none-any.whl has tests: ttt_alpha/tests/, ttt_alpha/tests/test_a.py.",
    ),
    (empty_the_readme, "ttt-alpha 0.1.1: its metadata has no or a wrong description."),
    (break_the_build, "ttt-alpha 0.1.1 does not build: "),
    (take_the_tag, "tag 'ttt-alpha-v0.1.1' already exists"),
    (nothing, "ttt-alpha: nothing changed since 0.1.0, which is released."),
    (
        ask_for_what_is_not_released,
        "wants ttt-core<2,>=1.1.0, and no such release is recorded: release ttt-core first.",
    ),
]


@pytest.mark.parametrize(("plant", "message"), STOPPED, ids=[plant.__name__ for plant, _ in STOPPED])
def test_a_step_that_fails_leaves_everything_as_it_was(repository: Repository, plant: object, message: str) -> None:
    assert callable(plant)
    plant(repository)
    repository.commit()
    before = state(repository.root)
    with pytest.raises(ReleaseError) as caught:
        release(["ttt-alpha"], repository.root)
    assert message in str(caught.value)
    assert state(repository.root) == before


def test_work_that_is_not_committed_is_no_release(repository: Repository) -> None:
    repository.fragment("ttt-alpha", "fix", "A fix.")
    with pytest.raises(
        ReleaseError, match=r"^There is work that is not committed: packages/ttt-alpha/changes/\. Commit"
    ):
        release(["ttt-alpha"], repository.root)


def test_errors_are_one_paragraph_and_exit_code_2(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["release", "ttt-alphabet"])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("no package is named ttt-alphabet; there are ttt-attention, ")
    assert error.count("\n") == 1


def test_packages_come_behind_what_they_need(repository: Repository) -> None:
    assert topological(["ttt-beta", "ttt-core", "ttt-alpha"], repository.root) == NAMES
    assert topological(["ttt-beta", "ttt-core"], repository.root) == ["ttt-core", "ttt-beta"]


def test_the_upload_command_is_printed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = releases("ttt-alpha", repository.root)
    monkeypatch.setattr(release_module, "release", lambda *names, **options: made)
    monkeypatch.setattr(sys, "argv", ["release", "ttt-norm"])
    assert main() == 0
    assert "  uv publish dist/ttt_alpha-0.1.0*\n" in capsys.readouterr().out
