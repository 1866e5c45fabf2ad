"""mypy checks every ttnn call against the installed ttnn."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tools.workspace import ROOT

PLANTED = {
    "right": """
        y = ttnn.linear(x, w, bias=None, dtype=ttnn.bfloat8_b, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        y = ttnn.experimental.nlp_concat_heads(ttnn.add(y, x), memory_config=ttnn.L1_MEMORY_CONFIG)
        y = ttnn.reshape(y, (1, 1, *x.shape))
        block: Tensor = ttnn.transformer.scaled_dot_product_attention(y, y, y, is_causal=True)
        grid = ttnn.CoreRange((0, 0), ttnn.CoreCoord(7, 7))
    """,
    "wrong_keyword": "y = ttnn.linear(x, w, out_dtype=ttnn.bfloat16)  # call-arg",
    "wrong_type": 'y = ttnn.linear(x, w, dtype="bfloat16")  # arg-type',
    "removed_argument": "y = ttnn.concat([x, w], dim=-1, queue_id=0)  # call-arg",  # earlier releases had it
    "missing_argument": "y = ttnn.linear(x)  # call-arg",
    "no_tensor": "y = ttnn.rms_norm([1.0, 2.0], epsilon=1e-5)  # arg-type",
    "array": "y = ttnn.linear(x, numpy.ones((2, 2)))  # arg-type",
    "weight_without_its_tensor": "y = ttnn.linear(x, weight)  # arg-type",
    "wrong_result": "y = ttnn.linear(x, w).nonsense  # attr-defined",
    "wrong_overload": 'y = ttnn.add(x, "w")  # call-overload',
    "wrong_enum": "y = ttnn.to_layout(x, ttnn.bfloat16)  # arg-type",
    "no_such_operation": "y = ttnn.experimental.rotary_embedding_hg(x, w, w)  # attr-defined",
    "no_such_constant": "y = ttnn.to_layout(x, ttnn.TILED_LAYOUT)  # attr-defined",
    "python_operation": "y = ttnn.from_torch(None, layouts=ttnn.TILE_LAYOUT)  # call-arg",
    "program_config": "c = ttnn.SDPAProgramConfig(compute_with_storage_grid_size=(8, 8), chunk=32)  # call-arg",
}
HEAD = """\
import numpy
import ttnn
from ttt_core import Tensor
from ttt_weights import LazyWeight

def planted(x: Tensor, w: ttnn.Tensor, weight: LazyWeight) -> None:
"""
EXPECTED = {name: body.partition("  # ")[2] for name, body in PLANTED.items()}
ERROR = re.compile(r"(\w+)\.py:(\d+): error: .* +\[([a-z-]+)\]$", re.MULTILINE)


def test_mypy_finds_what_is_wrong_in_each_call(tmp_path: Path) -> None:
    """One run for all files: it reads the stubs first, which takes longer than the rest."""
    for name, body in PLANTED.items():
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n")
    subprocess.run([sys.executable, "-m", "tools.stubs"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    command: list[str | Path] = [sys.executable, "-m", "mypy", "--cache-dir", ".mypy_cache/planted", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"checked {len(PLANTED)} source files" in done.stdout, done.stdout + done.stderr

    found: dict[str, list[tuple[int, str]]] = {name: [] for name in PLANTED}
    for match in ERROR.finditer(done.stdout):
        found[match[1]].append((int(match[2]), match[3]))
    line = HEAD.count("\n") + 1
    assert found == {name: [(line, code)] if code else [] for name, code in EXPECTED.items()}


def test_stubs_are_made_once(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, "-m", "tools.stubs", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    made = run()
    stub = tmp_path / "current" / "ttnn" / "__init__.pyi"
    written = stub.stat().st_mtime_ns
    assert "made" in made
    assert "ttnn.uniform" in made
    assert "are current" in run()
    assert stub.stat().st_mtime_ns == written
