"""The checks of imports and dependencies see what they are there for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools.workspace import ROOT, packages

BIN = Path(sys.executable).parent
PLANTED = {  # (module that imports, what it imports): the contract that forbids it
    ("ttt_core", "ttt_hw"): "imports point down",
    ("ttt_ffn", "ttt_attention"): "imports point down",
    ("ttt_hw", "ttt_weights"): "imports point down",
    ("ttt_cli", "ttt_shard_dsl"): "ttt_cli knows no other package than ttt_core",
    ("ttt_norm", "ttt_cli"): "ttt_cli is imported by commands only",
    ("ttt_testing", "ttt_norm"): "ttt_testing knows devices and layouts, never blocks",
    ("ttt_embedding", "ttt_testing"): "ttt_testing is imported by a run with values only",
    ("ttt_weights", "torch"): "torch is imported where values are compared only",
    ("ttt_factory", "transformers"): "transformers is imported as the reference only",
    ("ttt_shard_dsl", "ttnn"): "ttt_core, ttt_cli and the layout language run without ttnn",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says of a copy of the packages with all these imports in it."""
    folder = tmp_path_factory.mktemp("planted")
    for package in packages().values():
        shutil.copytree(package.source, folder / package.module)
    for module, imported in PLANTED:
        (folder / module / "planted.py").write_text(f"import {imported}\n")
    command = [str(BIN / "lint-imports"), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    environment = os.environ | {"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("module", "imported"), PLANTED)
def test_a_forbidden_import_breaks_its_contract(report: str, module: str, imported: str) -> None:
    contract = PLANTED[module, imported]
    assert f"{contract} BROKEN" in report
    explained = report.split("Broken contracts", 1)[1].split(f"{contract}\n", 1)[1]
    assert f"{module}.planted -> {imported}" in explained


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    package = packages()["ttt-core"]
    shutil.copytree(package.folder, tmp_path / "ttt-core")
    (tmp_path / "ttt-core/src/ttt_core/planted.py").write_text("import numpy\n")
    done = subprocess.run(
        [BIN / "deptry", "--no-ansi", "--config", "pyproject.toml", "src"],
        cwd=tmp_path / "ttt-core",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "'numpy' imported but" in done.stdout + done.stderr
