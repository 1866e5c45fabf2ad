"""What only whole processes show: a first start with nothing cached, streams, leftovers, exits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ttt_hw.commands import devices
from ttt_hw.mesh import cards

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

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PREAMBLE + program, *arguments],
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
entered = open_mesh(sys.argv[1], backend="mock")
mesh = entered.__enter__()
x = ttnn.empty([1, 1, 32, 64], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
raise SystemExit(3)
"""


@pytest.mark.parametrize("name", ["n150", "n300"])
def test_a_mesh_left_open_does_not_abort_the_interpreter(name: str, sandbox: Sandbox) -> None:
    process = sandbox.start(FORGOTTEN, name)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (3, ""), stderr
    assert "Initial ttnn.CONFIG" in stderr  # ttnn's own, as it was imported first
    assert sandbox.leftovers() == []


def test_importing_ttt_hw_is_light(sandbox: Sandbox) -> None:
    program = "import ttt_hw; print(sorted({'ttnn', 'numpy', 'torch'} & {n for n, m in sys.modules.items() if m}))"
    stdout, stderr = sandbox.start(program).communicate(timeout=60)
    assert stdout == "[]\n", stderr


README = (Path(__file__).parent.parent / "README.md").read_text()
PLANNING = re.compile(r"^## Patterns.*?(?=^## One board)", re.MULTILINE | re.DOTALL)  # test_hw_readme.py has those
EXAMPLES = re.findall(r"```python\n(.*?)```", PLANNING.sub("", README), re.DOTALL)
PRINTED = (
    "Shape([1, 1, 32, 1024]) on (8, 8) cores\n",
    "Shape([1, 1, 32, 1024]) mesh\n",
    "n150 64\nt3k 512\np150 110\n",
    "output projection: The width of the first tensor must be equal to the height of the second tensor. "
    "Mismatch: width=4096 height=32. Check the shapes that go in.\n",
)


@pytest.mark.parametrize(("example", "printed"), list(zip(EXAMPLES, PRINTED, strict=True)), ids=range(len(PRINTED)))
def test_readme_examples_run(example: str, printed: str, sandbox: Sandbox, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(PREAMBLE + example)
    sandbox.environment["LOGURU_LEVEL"] = "WARNING"  # importing ttnn logs its configuration
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=sandbox.work,
        env=sandbox.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (printed, "")


def test_devices_lists_every_board_without_ttnn(sandbox: Sandbox) -> None:
    program = """
from ttt_hw.commands import app
app(sys.argv[1:], result_action="return_value")
assert not {"ttnn", "numpy"} & set(sys.modules)
"""
    processes = [sandbox.start(program, *arguments) for arguments in ((), ("--json",))]
    (table, errors), (document, _) = (process.communicate(timeout=60) for process in processes)
    assert (processes[0].returncode, errors) == (0, "")
    listed = json.loads(document)
    names = ["n150", "n300", "t3k", "tg", "p100", "p150", "p300", "p150x4", "p150x8", "bh-galaxy"]
    assert (
        [line.split()[0] for line in table.splitlines()[1:11]] == names == [entry["name"] for entry in listed["boards"]]
    )
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "t3k 8 1×8, 8×1, 2×4, 4×2 8×8 12.0 GiB 1361 KiB 1 × 12.5 GB/s" in " ".join(table.split())
    assert listed["boards"][2]["shapes"] == [[1, 8], [8, 1], [2, 4], [4, 2]]
    assert listed["cards"] == cards()
    assert ("No Tenstorrent card here" in table) == (cards() == [])
    assert sandbox.leftovers() == []


def test_devices_lists_the_cards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0").touch()
    monkeypatch.setattr("ttt_hw.mesh.CARDS", str(tmp_path))
    assert devices() == 0
    assert f"Cards here: 1 ({tmp_path}/0)" in capsys.readouterr().out.replace("\n", "")
