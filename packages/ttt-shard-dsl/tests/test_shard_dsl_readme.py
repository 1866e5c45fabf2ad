"""The README's examples run."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_readme() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    result = doctest.testfile(str(readme), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0
