"""Planted changes of an API are found, with the line; what only adds is not taken for a break."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from tools import api
from tools.changelog import Bump
from tools.fixture_repository import ALPHA, CORE, Repository, small_packages
from tools.history import working_tree
from tools.releases import uv_version
from tools.semver import judge, outside, problems
from tools.workspace import ROOT, packages

NAMES = ("ttt-core", "ttt-alpha", "ttt-beta")


def record(repository: Repository, names: Iterable[str]) -> None:
    """Packages are released as they are."""
    rows = []
    for package in names:
        version = packages(repository.root)[package].project["version"]
        tree = working_tree(repository.root, f"packages/{package}")
        rows.append(f'[[release]]\npackage = "{package}"\nversion = "{version}"\nfolder = "packages/{package}"\n')
        rows.append(f'tree = "{tree}"\nuv = "{uv_version()}"\n\n')
    repository.write("releases.toml", "".join(rows))
    repository.commit("Release")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = small_packages(tmp_path / "repository")
    record(repository, NAMES)
    return repository


PLANTED = {  # (what it is planted in, fragment, old, new): what is said
    "a Protocol member added in a patch release": (
        (CORE, "fix", "    def forward(self, x", "    dim: int\n\n    def forward(self, x"),
        ":23: {module}.Norm: asks more of those who implement it than they have: Incompatible return value type (got "
        '"_Old_Norm", expected "Norm") "_Old_Norm" is missing following "Norm" protocol member: dim',
    ),
    "an optional keyword added to a Protocol": (
        (CORE, "feature", "x: Tensor, /) ->", "x: Tensor, /, *, residual: Tensor | None = None) ->"),
        ":23: {module}.Norm: asks more of those who implement it than they have",
    ),
    "a member of a Protocol that went": (
        (CORE, "feature", "    def forward(self, x: Tensor, /) -> Tensor: ...", "    ..."),
        ":26: {module}.Norm.forward: public object was removed",
    ),
    "an error that is no ValueError any more": (
        (CORE, "fix", "SizeError(CoreError, ValueError)", "SizeError(CoreError, TypeError)"),
        ":12: {module}.SizeError: is no longer what it is caught or passed as",
    ),
    "a renamed parameter": (
        (ALPHA, "fix", "factor: float = 2.0", "by: float = 2.0"),
        ":29: {module}.scale(factor): parameter was removed",
    ),
    "a type-only break of a parameter": (
        (ALPHA, "feature", "factor: float = 2.0", "factor: int = 2.0"),
        ":29: {module}.scale: is not what callers had: Incompatible return value type",
    ),
    "a type-only break of a result": (
        (ALPHA, "fix", "= 2.0) -> float:", "= 2.0) -> float | None:"),
        ":29: {module}.scale: is not what callers had: Incompatible return value type",
    ),
    "a field of a spec that went": (
        (ALPHA, "fix", "    eps: float = 1e-5\n", ""),
        ":15: {module}.AlphaSpec.eps: public object was removed",
    ),
    "a field of a spec that must be given": (
        (ALPHA, "feature", "    dim: int\n", "    dim: int\n    bias: bool\n"),
        ":10: {module}.AlphaSpec(bias): parameter was added as required",
    ),
    "another type of a field": (
        (ALPHA, "feature", "    dim: int\n", "    dim: str\n"),
        ":10: {module}.AlphaSpec: is not what those who use one had",
    ),
    "another default": (
        (ALPHA, "feature", "eps: float = 1e-5", "eps: float = 1e-6"),
        ":10: {module}.AlphaSpec(eps): parameter default was changed: 1e-05 → 1e-06",
    ),
    "a name that went": (
        (ALPHA, "fix", "def scale(", "def rescale("),
        ":29: {module}.scale: public object was removed",
    ),
    "a name that went from __all__": (
        (ALPHA, "fix", '"AlphaSpec", "scale"]', '"AlphaSpec"]'),
        ":29: {module}.scale: is not in __all__ any more",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is found where each change is planted in a package of its own, ttt-planted-0, 1, …."""
    repository = small_packages(tmp_path_factory.mktemp("planted"))
    names = [f"ttt-planted-{number}" for number in range(len(PLANTED))]
    for name, ((source, _, _, _), _) in zip(names, PLANTED.values(), strict=True):
        repository.package(name, "1.0.0" if source is CORE else "0.1.0", source)
    record(repository, names)
    for name, ((_, fragment, old, new), _) in zip(names, PLANTED.values(), strict=True):
        repository.replace(repository.source(name), old, new)
        repository.fragment(name, fragment, "A change.")
    return problems(repository.root)


@pytest.mark.parametrize(("number", "name"), list(enumerate(PLANTED)))
def test_a_planted_break_is_found_with_its_line(said: list[str], number: int, name: str) -> None:
    (source, fragment, _, _), expected = PLANTED[name]
    next_one = {CORE: {"fix": "1.0.0 → 1.0.1", "feature": "1.0.0 → 1.1.0"}}.get(source, {}).get(
        fragment, "0.1.0 → 0.1.1"
    )
    module = f"ttt_planted_{number}"
    expected = f"ttt-planted-{number} {next_one}: {module}/__init__.py{expected.format(module=module)}"
    found = [problem for problem in said if problem.startswith(expected)]
    assert len(found) == 1, "\n".join(problem for problem in said if module in problem)
    assert found[0].endswith("This breaks those who use it: say so in changes/NAME.breaking.md, or do without.")


def test_a_declared_break_passes_until_a_range_excludes_it(repository: Repository) -> None:
    """Planted: a range that excludes the sibling it stands beside."""
    repository.replace(repository.source("ttt-alpha"), "factor: float = 2.0", "by: float = 2.0")
    repository.replace(repository.source("ttt-alpha"), "x * factor", "x * by")
    repository.fragment("ttt-alpha", "breaking", "`scale` takes `by`.")
    assert problems(repository.root) == []
    repository.replace("packages/ttt-alpha/pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    (problem,) = problems(repository.root)
    assert problem == (
        "ttt-beta wants ttt-alpha<0.2,>=0.1.0, and ttt-alpha is 0.2.0: what is here is never installed together. Change the "
        "range in ttt-beta/pyproject.toml, and test with both ends."
    )
    repository.replace("packages/ttt-beta/pyproject.toml", ">=0.1.0,<0.2", ">=0.2.0,<0.3")
    assert outside(repository.root) == []


def test_what_only_adds_is_a_feature_and_no_patch_of_1_x(repository: Repository) -> None:
    repository.replace(repository.source("ttt-core"), '"Tensor"]', '"Tensor", "Twice"]')
    file = repository.root / repository.source("ttt-core")
    file.write_text(file.read_text() + '\n\nclass Twice(Norm, Protocol):\n    """A norm of two."""\n')
    file = repository.root / repository.source("ttt-alpha")
    file.write_text(file.read_text().replace("factor: float = 2.0", "factor: float = 2.0, offset: float = 0.0"))
    found = judge(NAMES, repository.root)
    assert {finding.bump for findings in found.values() for finding in findings} == {Bump.MINOR}
    (problem,) = problems(repository.root)
    assert "ttt_core.Twice: was added. This adds to the API: say so in changes/NAME.feature.md" in problem
    repository.fragment("ttt-core", "feature", "`Twice`.")
    assert problems(repository.root) == []


def test_what_is_inside_may_change(repository: Repository) -> None:
    repository.replace(repository.source("ttt-alpha"), "return x * factor", "return factor * x")
    repository.write("packages/ttt-alpha/src/ttt_alpha/_inside.py", "def private(a: int) -> int:\n    return a\n")
    assert problems(repository.root) == []
    assert judge(NAMES, repository.root)["ttt-alpha"] == []


def test_json_keys_and_enum_values_are_part_of_the_api(tmp_path: Path) -> None:
    repository = small_packages(tmp_path / "repository")
    source = repository.root / repository.source("ttt-alpha")
    extra = '\n\nclass Kind(str, Enum):\n    """Kinds."""\n\n    A = "a"\n\n\n'
    extra += 'def report() -> dict[str, object]:\n    """A document."""\n'
    extra += '    return {"schema": 1, "fits": True, "use": {"dram": 1}}\n'
    extra += '\n\ndef _write() -> dict[str, object]:\n    return {"schema": 2, "a": {"b": 1}}\n'
    text = source.read_text().replace("from dataclasses", "from enum import Enum\nfrom dataclasses")
    source.write_text(text.replace('"scale"]', '"scale", "Kind", "report"]') + extra)
    record(repository, ["ttt-alpha"])
    repository.replace(repository.source("ttt-alpha"), "_write", "_writes")  # the same document
    repository.replace(repository.source("ttt-alpha"), '"dram": 1', '"l1": 1')
    repository.replace(repository.source("ttt-alpha"), 'A = "a"', 'A = "b"')
    found = [
        str(finding) for finding in judge(["ttt-alpha"], repository.root)["ttt-alpha"] if finding.bump is Bump.MAJOR
    ]
    assert found == [
        "ttt_alpha/__init__.py:38: ttt_alpha.Kind.A: 'a' became 'b'",
        "ttt_alpha/__init__.py:43: JSON of report: the key 'use.dram' was removed",
    ]


def test_a_wrong_typed_tensor_passed_to_a_protocol_is_seen_by_mypy(repository: Repository) -> None:
    """Planted: a list goes where ttt_core.Tensor is wanted; mypy over the sources says where."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "-p", "ttt_beta"]
    path = ":".join(str(repository.root / f"packages/{name}/src") for name in NAMES)
    cache = str(repository.root / ".mypy_cache")

    def check() -> str:
        done = subprocess.run(
            [*command, "--cache-dir", cache],
            cwd=repository.root,
            env={"MYPYPATH": path},
            capture_output=True,
            text=True,
        )
        return done.stdout

    assert check() == ""
    repository.replace(repository.source("ttt-beta"), "self.norm.forward(x)", "self.norm.forward([1.0])")
    assert (
        'ttt_beta/__init__.py:17: error: Argument 1 to "forward" of "Norm" has incompatible type "list[float]"'
        in check()
    )


def test_the_committed_api_of_each_package_is_the_code() -> None:
    """So that a review sees what changes."""
    for package in packages().values():
        text = (package.folder / api.FILE).read_text()
        assert text == api.snapshot(package), f"{package.name}: the API changed; run `nox -s api` and look at the diff"


def test_a_snapshot_has_what_a_reviewer_wants(tmp_path: Path) -> None:
    repository = small_packages(tmp_path / "repository")
    text = api.snapshot(packages(repository.root)["ttt-core"])
    assert text.splitlines()[2:] == [
        "ttt_core",
        "    class CoreError(Exception)",
        "    class Norm(Protocol)",
        "        def forward(self, x: Tensor, /) -> Tensor",
        "    class SizeError(CoreError, ValueError)",
        "    class Tensor(Protocol)",
        "        @property shape: tuple[int, ...]",
    ]


def test_the_packages_of_this_repository_are_within_their_ranges() -> None:
    """What broke more than it declares is for `nox -s semver` to say."""
    assert outside(ROOT) == []
