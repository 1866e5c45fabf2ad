"""Fixtures that the tests of all packages share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# Tensors in tests are small, and on a busy machine torch's threads wait for one another far longer than they compute.
# Set before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Converted weights are not kept in the user's cache; tests of that have folders of their own.
os.environ["TTT_WEIGHTS_CACHE"] = "off"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """A mock n150. Opening it again takes 2 ms, so each module has its own and none is in the way of tests that open one."""
    from ttt_hw import open_mesh

    with open_mesh("n150", backend="mock") as device:
        yield device
