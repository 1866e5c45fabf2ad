"""`ttt compare`: what it prints, and what it exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def compare(*options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ttt")), "compare", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_tiny_model_is_close_block_by_block() -> None:
    done = compare("--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["device"], document["backend"], document["values"]) == ("n150", "mock", "golden")
    assert document["first_departure"] is None
    assert len(document["blocks"]) == 1 + 4 * 5 + 3


def test_the_first_block_that_departs_is_named() -> None:
    done = compare("--rounding", "device", "--weights", "bfp4", "--pcc", "0.999")
    assert done.returncode == 1, done.stderr
    assert "The first that departs is layers.0." in done.stdout.splitlines()[-1]
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80


def test_a_checkpoint_that_is_none_is_an_error_in_words(tmp_path: Path) -> None:
    done = compare(str(tmp_path), "--prompt", "a")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    missing = tmp_path / "missing"
    done = compare(str(missing))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{missing} is not a directory.")
