"""Expectations for a release line are run against that line alone."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from ttt_core import SpecError
from ttt_norm import RMSNorm
from ttt_testing import TestSuite
from ttt_testing._lines import line_of


class Own:
    """A module of nobody's package, with one of ttt-norm."""

    def __init__(self, mesh: Any) -> None:
        self.norm = RMSNorm(dim=64, device=mesh)

    def prefill_forward(self, x: Any, /) -> Any:
        return self.norm.prefill_forward(x)

    def decode_forward(self, x: Any, /) -> Any:
        return self.norm.decode_forward(x)


def test_the_installed_line_runs(mesh: Any) -> None:
    model = Own(mesh)
    suite = TestSuite(model, device=mesh, version=line_of(version("ttt-norm")))
    suite.test(model.norm).mode("prefill")
    assert not suite.run().failures


@pytest.mark.parametrize("line", ["0.93", "7"])
def test_another_line_is_refused_before_anything_runs(mesh: Any, line: str) -> None:
    said = rf"^These expectations are for the release line {line}, and ttt-norm \S+ is installed\. "
    said += rf".* pip install 'ttt-norm=={line}\.\*'\.$"
    with pytest.raises(SpecError, match=said):
        TestSuite(Own(mesh), device=mesh, version=line)
    with pytest.raises(SpecError, match=said):
        TestSuite(Own(mesh), device=mesh).expect_compatible_with(line)


@pytest.mark.parametrize("line", ["0.2.1", "0", "latest", "", "1.2"])
def test_what_is_no_line(mesh: Any, line: str) -> None:
    with pytest.raises(SpecError, match=r"is no release line\. Give one as '0\.2', or from 1\.0 on as '1'\.$"):
        TestSuite(Own(mesh), device=mesh, version=line)
