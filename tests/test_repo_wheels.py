"""The wheel checks see what they are there for."""

import zipfile
from pathlib import Path

import pytest
from tools.wheels import CheckError, check_wheel
from tools.workspace import needs, packages

GOOD = {"ttt_x/__init__.py": "", "ttt_x/py.typed": "", "ttt_x-1.dist-info/METADATA": "License-Expression: Apache-2.0\n"}


def wheel(folder: Path, files: dict[str, str]) -> Path:
    path = folder / "ttt_x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_good_wheel(tmp_path: Path) -> None:
    check_wheel(wheel(tmp_path, GOOD), "ttt_x")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({name: text for name, text in GOOD.items() if name != "ttt_x/py.typed"}, "has no ttt_x/py.typed"),
        (GOOD | {"ttt_x-1.dist-info/METADATA": "Name: ttt-x\n"}, "has the licence None, not Apache-2.0"),
        (GOOD | {"ttt_x/tests/test_a.py": ""}, "has tests: ttt_x/tests/test_a.py"),
        (GOOD | {"tools/a.py": ""}, "has tools beside ttt_x"),
    ],
)
def test_a_bad_wheel_is_told_from_a_good_one(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(CheckError) as caught:
        check_wheel(wheel(tmp_path, files), "ttt_x")
    assert str(caught.value) == f"ttt_x-1-py3-none-any.whl {message}"


def test_a_package_needs_what_its_dependencies_need() -> None:
    among = packages()
    assert needs("ttt-core", among) == ["ttt-core"]
    assert {"ttt-core", "ttt-hw", "ttt-shard-dsl", "ttt-norm"} <= set(needs("ttt-norm", among))
