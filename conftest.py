"""Fixtures that the tests of all packages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    """A mock n150. Opening it again takes 2 ms, so each module has its own and none is in the way of tests that open one."""
    from ttt_hw import open_mesh

    with open_mesh("n150", backend="mock") as device:
        yield device
