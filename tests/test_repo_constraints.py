"""One list of exact versions, in force everywhere."""

from importlib.metadata import distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.lock import HEADER, constraints, export, with_constraints
from tools.workspace import ROOT, read_toml

RERUN = "run `uv run nox -s lock`"
LINES = (ROOT / "constraints.txt").read_text().removeprefix(HEADER).splitlines()


def test_constraints_txt_and_pyproject_agree() -> None:
    assert read_toml(ROOT / "pyproject.toml")["tool"]["uv"]["constraint-dependencies"] == LINES, RERUN


def test_every_version_is_exact_and_names_no_source() -> None:
    for line in LINES:
        requirement = Requirement(line)
        assert requirement.url is None
        assert [bound.operator for bound in requirement.specifier] == ["=="]


def test_the_resolution_has_the_versions_of_the_list_and_no_others() -> None:
    assert constraints(export(ROOT)) == LINES, RERUN


def test_what_is_installed_is_what_is_listed() -> None:
    listed = [Requirement(line) for line in LINES]
    here = {one.name: one.specifier for one in listed if one.marker is None or one.marker.evaluate()}
    found = {str(canonicalize_name(one.name)): one.version for one in distributions()}
    assert {name: found[name] for name in here.keys() & found.keys() if not here[name].contains(found[name])} == {}
    assert found.keys() >= {"ttnn", "torch", "transformers"}


def test_a_distribution_with_two_versions_says_for_which_python() -> None:
    old, new = "a==1 ; python_full_version < '3.11'", "a==2 ; python_full_version >= '3.12'"
    written = ["a==1 ; python_version < '3.12'", "a==2 ; python_version >= '3.12'", "b==3"]
    assert constraints(f"{old}\n{new}\nb==3 ; os_name == 'posix'\n") == written


def test_writing_constraints_keeps_the_rest_of_pyproject() -> None:
    before = "[tool.uv]\npackage = false   # a workspace\nconstraint-dependencies = []\n\n[tool.ruff]\n"
    after = '[tool.uv]\npackage = false   # a workspace\nconstraint-dependencies = [\n    "a==1",\n]\n\n[tool.ruff]\n'
    assert with_constraints(before, ["a==1"]) == after
    assert with_constraints(after, []) == before
