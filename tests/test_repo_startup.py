"""What is quick to start, and what it must not load."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "ttnn", "transformers", "numpy")
IMPORT = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *({heavy} & sys.modules.keys()))
"""


@pytest.mark.parametrize("module", ["ttt_core", "ttt_shard_dsl"])
def test_the_roots_import_in_30_ms_and_load_nothing_heavy(module: str) -> None:
    seconds = []
    for _ in range(7):   # the quickest of several: others use these cores too
        code = IMPORT.format(module=module, heavy=set(HEAVY))
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
        took, *loaded = done.stdout.split()
        assert loaded == []
        seconds.append(float(took))
    assert min(seconds) < 0.030


def test_ttt_hw_imports_without_ttnn() -> None:
    code = IMPORT.format(module="ttt_hw", heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == []


def test_help_is_there_in_half_a_second() -> None:
    command = Path(sys.executable).with_name("ttt")
    assert command.exists(), "ttt-cli declares no command `ttt`"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(7):   # the first one compiles
        start = time.perf_counter()
        done = subprocess.run([command, "--help"], capture_output=True, text=True, env=environment | {"NO_COLOR": "1"})
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert "run" in done.stdout
    assert min(seconds) < 0.5
