"""What is public is said, documented, and all that other packages use; CONTRIBUTING.md has the rule."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.workspace import ROOT, packages

PACKAGES = packages()
RULE = "a module without a leading underscore lists its public names in __all__; one that has none is called _name.py"


def module_name(file: Path) -> str:
    """`packages/ttt-x/src/ttt_x/a/b.py` → `ttt_x.a.b`."""
    parts = file.relative_to(ROOT).parts[3:]
    return ".".join(parts).removesuffix(".py").removesuffix(".__init__")


TREES = {
    module_name(file): ast.parse(file.read_text())
    for package in PACKAGES.values()
    for file in sorted(package.source.rglob("*.py"))
}
PUBLIC = [name for name in TREES if not any(part.startswith("_") for part in name.split("."))]


def listed(tree: ast.Module) -> list[str] | None:
    """The names in a module's `__all__`."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names: list[str] = ast.literal_eval(value)
                return names
    return None


def undocumented(name: str, source: str) -> list[str]:
    """Public names that the module defines and does not explain.

    A class or function has a docstring; a value has a string below it, or a comment beside or above it; that of a module
    with nothing else is what the module's docstring is about.
    """
    tree, lines = ast.parse(source), source.splitlines()
    documented: dict[str, bool] = {}
    for statement, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match statement:
            case ast.ClassDef(name=defined) | ast.FunctionDef(name=defined):
                documented[defined] = documented.get(defined, False) or ast.get_docstring(statement) is not None
            case ast.Assign(targets=[ast.Name(id=defined)]) | ast.AnnAssign(target=ast.Name(id=defined)):
                below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                around = lines[statement.lineno - 2 : statement.end_lineno]
                alone = listed(tree) == [defined] and ast.get_docstring(tree) is not None
                documented[defined] = below or alone or any("# " in line for line in around)
    return [f"{name}.{public}" for public in listed(tree) or () if not documented.get(public, True)]


def private_imports(tree: ast.Module, own: str) -> Iterator[str]:
    """What a module imports of another package that is not public there."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=aliases) if module.split(".")[0] in MODULES - {own}:
                public = listed(TREES[module]) or () if module in PUBLIC else ()
                for alias in aliases:
                    if alias.name not in public and f"{module}.{alias.name}" not in PUBLIC:
                        yield f"{module}.{alias.name}"
            case ast.Import(names=aliases):
                for alias in aliases:
                    if alias.name.split(".")[0] in MODULES - {own} and alias.name not in PUBLIC:
                        yield alias.name


MODULES = {package.module for package in PACKAGES.values()}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_what_it_defines(name: str) -> None:
    names = listed(TREES[name])
    assert names, f"{name}: {RULE}"
    assert [one for one in names if one.startswith("_")] == []
    bound = {
        node.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
    assert set(names) <= bound


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_exports_from_public_modules_what_they_list(name: str) -> None:
    """So that there is no public name in a private module, whose path types and tracebacks would show."""
    module = PACKAGES[name].module
    for node in ast.walk(TREES[module]):
        match node:
            case ast.ImportFrom(module=str(home), names=aliases) if home.startswith(f"{module}."):
                names = {alias.name for alias in aliases if not alias.name.startswith("_")}
                assert home in PUBLIC, f"{home} has public names: call it without the underscore"
                assert names <= set(listed(TREES[home]) or ()), f"{home}: {RULE}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name: str) -> None:
    package = PACKAGES[name.split(".")[0].replace("_", "-")]
    file = package.folder / "src" / Path(*name.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"
    assert undocumented(name, file.read_text()) == []


def test_nothing_private_is_imported_across_packages() -> None:
    """Tests are free: they plant mistakes."""
    found = []
    patterns = ("packages/*/src", "packages/*/examples", "packages/*/benchmarks", "models/*/src", "tools")
    files = [file for pattern in patterns for folder in ROOT.glob(pattern) for file in folder.rglob("*.py")]
    for file in files:
        parts = file.relative_to(ROOT).parts
        own = parts[1].replace("-", "_") if parts[0] == "packages" else ""
        found += [f"{file.relative_to(ROOT)}: {one}" for one in private_imports(ast.parse(file.read_text()), own)]
    assert len(files) > 200
    assert found == []


@pytest.mark.parametrize("name", PACKAGES)
def test_a_star_import_gives_exactly_the_public_names(name: str) -> None:
    """Also where names are imported on demand."""
    namespace: dict[str, object] = {}
    exec(f"from {PACKAGES[name].module} import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == sorted(listed(TREES[PACKAGES[name].module]) or ())


def test_these_checks_see_what_they_are_there_for() -> None:
    source = '"""M."""\n__all__ = ["A", "B", "C", "f"]\nA = 1\nB = 2  # two\n\nC = 3\n"""Three."""\ndef f(): ...\n'
    assert undocumented("m", source) == ["m.A", "m.f"]
    planted = "from ttt_hw import BOARDS, _process\nfrom ttt_hw._mock import elf\nimport ttt_hw._mock\n"
    planted += "from ttt_hw.verify import verify, log\nfrom ttt_norm import _rms\nimport ttt_hw\n"
    expected = ["ttt_hw._process", "ttt_hw._mock.elf", "ttt_hw._mock", "ttt_hw.verify.log"]
    assert list(private_imports(ast.parse(planted), "ttt_norm")) == expected
