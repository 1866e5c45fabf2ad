"""What is quick to start, and what it must not load.

Measured in processor time, the least of several runs: tests beside this one, on the same cores, are not to fail it.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ttnn", "transformers", "numpy")
IMPORT = """
import sys, time
start = time.process_time()
import {module}
print(time.process_time() - start, *({heavy} & sys.modules.keys()))
"""


@pytest.mark.parametrize("module", ["ttt_core", "ttt_shard_dsl"])
def test_the_roots_import_in_30_ms_and_load_nothing_heavy(module: str) -> None:
    seconds = []
    for _ in range(7):
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
    for _ in range(7):  # the first one compiles
        start = _seconds_of_children()
        done = subprocess.run([command, "--help"], capture_output=True, text=True, env=environment | {"NO_COLOR": "1"})
        seconds.append(_seconds_of_children() - start)
        assert done.returncode == 0, done.stderr
        assert "run" in done.stdout
    assert min(seconds) < 0.5


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
