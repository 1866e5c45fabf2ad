"""What only whole processes show: a first start with nothing cached, streams, leftovers, exits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# ttnn imports torch where it is installed, which takes seconds and is not needed here.
PREAMBLE = "import sys; sys.modules['torch'] = None\n"


class Sandbox:
    """Own home, cache, temp and working folders for the processes started in it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.cache, self.temp, self.work = (folder / name for name in ("home", "cache", "temp", "work"))
        for made in (self.home, self.temp, self.work):
            made.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TT_", "TTNN_", "LOGURU_"))}
        self.environment = kept | {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "TMPDIR": str(self.temp),
        }

    def start(self, program: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PREAMBLE + program],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def leftovers(self) -> list[Path]:
        return [path for folder in (self.home, self.temp, self.work) for path in folder.rglob("*")]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


FIRST_START = """
import os
from ttt_hw.mesh import open_mesh
before = dict(os.environ)
for _ in range(2):
    with open_mesh("n150") as mesh:
        import ttnn
        x = ttnn.empty([1, 1, 32, 64], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
        print(tuple(ttnn.linear(x, x, transpose_b=True).shape), tuple(ttnn.rms_norm(x).shape))
        try:
            ttnn.linear(x, x)
        except RuntimeError:
            print("refused")
assert dict(os.environ) == before
with open("/proc/self/maps") as maps:
    assert "/dev/shm/sm_segment" not in maps.read()  # shared memory that would outlive the process
"""


@pytest.mark.skipif(os.path.isdir("/dev/tenstorrent"), reason="with no card only is a mock opened unasked")
def test_two_first_starts_at_once(sandbox: Sandbox) -> None:
    """Both work on one empty cache, print what they should and nothing else, and leave nothing behind."""
    processes = [sandbox.start(FIRST_START) for _ in range(2)]
    streams = [process.communicate(timeout=60) for process in processes]
    for process, (stdout, stderr) in zip(processes, streams, strict=True):
        assert (process.returncode, stdout) == (0, "(1, 1, 32, 32) (1, 1, 32, 64)\nrefused\n" * 2), stderr
        assert stderr == "ttt: no Tenstorrent card here; n150 is a mock (ops are checked, not run)\n"
    assert sandbox.leftovers() == []
    assert len(list((sandbox.cache / "ttt" / "mock").iterdir())) == 1
    assert [path.name for path in sandbox.cache.iterdir()] == ["ttt"]


FORGOTTEN = """
import ttnn
from ttt_hw.mesh import open_mesh
entered = open_mesh("n150", backend="mock")
mesh = entered.__enter__()
x = ttnn.empty([1, 1, 32, 64], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
raise SystemExit(3)
"""


def test_a_mesh_left_open_does_not_abort_the_interpreter(sandbox: Sandbox) -> None:
    process = sandbox.start(FORGOTTEN)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (3, ""), stderr
    assert "Initial ttnn.CONFIG" in stderr  # ttnn's own, as it was imported first
    assert sandbox.leftovers() == []


def test_importing_ttt_hw_is_light(sandbox: Sandbox) -> None:
    program = "import ttt_hw; print(sorted({'ttnn', 'numpy', 'torch'} & {n for n, m in sys.modules.items() if m}))"
    stdout, stderr = sandbox.start(program).communicate(timeout=60)
    assert stdout == "[]\n", stderr


def test_readme_examples_run(sandbox: Sandbox) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    examples = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.DOTALL))
    stdout, stderr = sandbox.start("import loguru; loguru.logger.disable('ttnn')\n" + examples).communicate(timeout=60)
    assert stdout.splitlines() == [
        "Shape([1, 1, 32, 1024]) on (8, 8) cores",
        "output projection: The width of the first tensor must be equal to the height of the second tensor. "
        "Mismatch: width=4096 height=32. Check the shapes that go in.",
    ], stderr
    assert stderr == ""
