"""The pytest plugin, in a pytest of its own each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import numpy as np
import pytest
from ttt_norm import NormSpec, RMSNorm
from ttt_testing import TestSuite

class Untimed:
    def __init__(self, norm):
        self.spec, self.weights = norm.spec, norm.weights
        self.prefill_forward, self.decode_forward = norm.prefill_forward, norm.decode_forward

def test_norm(mesh):
    norm = Untimed(RMSNorm(NormSpec(dim=64), np.ones(64, np.float32), device=mesh))
    with TestSuite(norm) as suite:
        suite.test(norm, name="norm").mode("decode").rows(decode=4).tolerance(1e-5).expect(pcc=1.1, latency_ms=1)

def test_without_a_device():
    assert True
"""
BOARDS = """
import os
from pathlib import Path
import pytest
from ttt_hw import board_of

def note(what):
    with open(Path(__file__).parent / "log", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

@pytest.mark.ttt_device("n150", "T3K")
def test_on_both(mesh):
    note(f"{board_of(mesh).name} {board_of(mesh).num_chips}")

def test_on_what_is_asked(mesh):
    note(board_of(mesh).name)

@pytest.mark.ttt_device("t3k")
def test_on_t3k(mesh):
    note(board_of(mesh).name)
"""
TROUBLE = """
@pytest.mark.ttt_device("t3k")
def test_that_fails(mesh):
    assert board_of(mesh).name == "galaxy"

@pytest.mark.ttt_device("t3k")
def test_that_crashes(mesh):
    print("the end", flush=True)
    os._exit(7)

@pytest.mark.ttt_device("t3k")
def test_after_it(mesh):
    pass
"""


def run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "ttt_testing.plugin", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [("-p", "no:xdist"), ("-n", "1")])
def test_each_expectation_is_an_item(tmp_path: Path, workers: tuple[str, str]) -> None:
    code, output = run(tmp_path, SUITE, "-rA", "--junitxml=it.xml", *workers)
    assert code == 1
    assert "2 failed, 3 passed, 1 skipped" in output
    assert "PASSED test_it.py::test_norm::norm/decode/runs" in output
    assert "PASSED test_it.py::test_norm::norm/decode/tolerance" in output
    assert "FAILED test_it.py::test_norm::norm/decode/pcc" in output
    assert "norm/decode/latency_ms: not available: time cannot be measured on a mock" in output
    failures = output.split("short test summary info")[0]  # which pytest does not cut short where CI is set
    assert failures.count("largest departure: ") == 1  # the test itself does not repeat what its items say
    assert "4 expectations on n150 (mock): 1 failed, 2 passed, 1 not available: each is reported as an item" in output
    assert 'again: pytest "test_it.py::test_norm"' in output
    assert 'name="norm/decode/pcc"' in (tmp_path / "it.xml").read_text()
    assert "[100%]" in output
    assert not re.search(r"\[1[0-9][1-9]%\]|\[[2-9]\d\d%\]", output)


@pytest.mark.parametrize(
    ("workers", "trouble"),
    [(("-p", "no:xdist"), ""), (("-p", "no:xdist"), TROUBLE), (("-n", "2"), "")],
    ids=["alone", "trouble", "xdist"],
)
def test_each_board_has_a_process_of_its_own(tmp_path: Path, workers: tuple[str, ...], trouble: str) -> None:
    code, output = run(tmp_path, BOARDS + trouble, "-v", "--ttt-backend=mock", *workers)
    lines = [line.rsplit(" ", 1) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(what for what, _ in lines) == ["n150", "n150 1", "t3k", "t3k 8"]
    of_t3k = {process for what, process in lines if what.startswith("t3k")}
    assert of_t3k.isdisjoint(process for what, process in lines if what.startswith("n150"))
    # One, and one after a crash; with xdist one for each worker that has some of its tests.
    assert len(of_t3k) <= (2 if trouble or "-n" in workers else 1)
    if not trouble:
        assert code == 0, output
        assert "4 passed" in output
        return
    assert code == 1
    assert "test_it.py::test_on_both[t3k] PASSED" in output
    assert "2 failed, 5 passed" in output
    assert "E       AssertionError: assert 't3k' == 'galaxy'" in output
    assert "The process for t3k ended in this test with exit code 7. It said last:" in output


def test_a_mesh_of_the_projects_own_does_not_pass_for_the_marked_board(tmp_path: Path) -> None:
    text = """
import pytest
from ttt_hw import open_mesh

@pytest.fixture
def mesh():
    with open_mesh("n300", backend="mock") as device:
        yield device

@pytest.mark.ttt_device("n150")
def test_marked(mesh): ...
"""
    code, output = run(tmp_path, text, "-p", "no:xdist")
    assert code == 1
    assert "The mark says n150, and the fixture `mesh` opened n300." in output


def test_tests_without_a_device_open_none_and_load_nothing(tmp_path: Path) -> None:
    text = "import sys\ndef test_it(): assert not {'ttnn', 'torch', 'numpy'} & sys.modules.keys()\n"
    code, output = run(tmp_path, text, "-p", "no:xdist")
    assert code == 0, output


def test_the_shadow_fixture_and_the_option(tmp_path: Path) -> None:
    text = """
import numpy as np
import pytest
import ttnn
from ttt_hw import board_of, upload

@pytest.mark.parametrize("shadow", ["none", "device"], indirect=True)
def test_it(mesh, shadow):
    assert board_of(mesh).name == "p150"
    x = upload(np.full((1, 1, 32, 32), 1 / 3, np.float32), mesh, dtype="bfloat16")
    exact = float(shadow.to_torch(ttnn.neg(x))[0, 0, 0, 0]) == -float(np.float32(1 / 3))
    assert exact == (shadow.rounding == "none")
"""
    code, output = run(tmp_path, text, "-p", "no:xdist", "--ttt-backend=mock", "--ttt-device=P150")
    assert code == 0, output
    assert "2 passed" in output
