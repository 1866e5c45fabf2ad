"""Every family on single-chip boards and, tensor-parallel, on several chips, against transformers.

Tolerance as in test_factory_huggingface: float32 sums in another order, also across chips.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("check_families.py")
CHIPS = {"n150": 1, "p150": 1, "n300": 2, "t3k": 8, "t3k/2x4:hidden": 8}


def cases() -> Iterator[Any]:
    """(name, device), each device in one process of xdist."""
    spec = importlib.util.spec_from_file_location("check_families", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for device in CHIPS:
        for name in module.cases_on(device):
            yield pytest.param(name, device, marks=pytest.mark.xdist_group(device))


@cache
def results(device: str) -> dict[str, Any]:
    """All cases on one board, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), device], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("name", "device"), list(cases()))
def test_family(name: str, device: str) -> None:
    found = results(device)[name]
    assert found["chips"] == CHIPS[device]
    assert found["difference"] < 1e-4
    assert found["tokens"]
