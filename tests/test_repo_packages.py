"""Every package has the same shape, and ranges that follow the version rule."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tools.workspace import ROOT, Package, packages, read_toml

PACKAGES = packages()
EACH_PACKAGE = pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
SIBLINGS = [
    pytest.param(package, wanted, id=f"{package.name}-{wanted.name}")
    for package in PACKAGES.values()
    for wanted in package.requirements
    if wanted.name in PACKAGES
]


def public_names(module: Path) -> set[str]:
    """What a module binds at its top level and does not mark as private; of one that imports on demand, what it declares."""
    names: set[str] = set()
    body = ast.parse(module.read_text()).body
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            body = [*(own for own in body if _is_own(own, module.parent.name)), *statement.body]
    for statement in body:
        match statement:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.asname or alias.name.split(".")[0] for alias in aliases}
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def _is_own(statement: ast.stmt, package: str) -> bool:
    """Whether it imports from the package itself."""
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == package


def all_of(module: Path) -> list[str] | None:
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


@EACH_PACKAGE
@pytest.mark.parametrize("wanted", ["README.md", "CHANGELOG.md", "src/{module}/py.typed", "tests/test_*.py"])
def test_a_package_has(package: Package, wanted: str) -> None:
    assert list(package.folder.glob(wanted.format(module=package.module))), f"{package.name} has no {wanted}"


@EACH_PACKAGE
def test_the_folder_is_named_as_the_package(package: Package) -> None:
    assert package.folder.name == package.name


@EACH_PACKAGE
def test_all_is_what_the_package_makes_public(package: Package) -> None:
    module = package.source / "__init__.py"
    listed = all_of(module)
    assert listed is not None, f"{package.module} has no __all__"
    assert Counter(listed) == Counter(public_names(module))


@EACH_PACKAGE
def test_the_version_is_0_n_p_or_that_of_ttt_core(package: Package) -> None:
    first = "1" if package.name == "ttt-core" else "0"
    assert re.fullmatch(rf"{first}\.\d+\.\d+", package.project["version"])


@pytest.mark.parametrize(("package", "wanted"), SIBLINGS)
def test_a_sibling_is_wanted_by_range(package: Package, wanted: Requirement) -> None:
    """0.N breaks with N; ttt-core started at 1.0 and breaks with the next whole number."""
    bounds = {bound.operator: Version(bound.version) for bound in wanted.specifier}
    assert bounds.keys() == {">=", "<"}, f"{package.name} wants {wanted}"
    low = bounds[">="]
    end = Version(f"{low.major + 1}") if wanted.name == "ttt-core" else Version(f"0.{low.minor + 1}")
    assert bounds["<"] == end, f"{package.name} wants {wanted}"


def test_the_workspace_installs_every_package() -> None:
    root = read_toml(ROOT / "pyproject.toml")
    wanted = {Requirement(text).name for text in root["project"]["dependencies"]}
    assert wanted >= PACKAGES.keys()
    assert root["tool"]["uv"]["sources"].keys() == PACKAGES.keys()


def test_the_import_rules_cover_every_package() -> None:
    root = read_toml(ROOT / "pyproject.toml")
    assert set(root["tool"]["importlinter"]["root_packages"]) == {package.module for package in PACKAGES.values()}


def test_no_two_test_files_have_the_same_name() -> None:
    files = [path.name for folder in ("packages", "models", "tests") for path in (ROOT / folder).rglob("test_*.py")]
    assert [name for name, count in Counter(files).items() if count > 1] == []
