"""Every configuration in models/ is covered: each of its blocks is tested, in both modes, on each of its boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tools import coverage

from ttt_testing import Coverage
from ttt_testing.coverage_report import coverage_report


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coverage") / "coverage.json"


@pytest.fixture(scope="module")
def report(file: Path) -> Any:
    return coverage.measure(file)


def test_every_configuration_in_models_is_covered(report: Any) -> None:
    assert report.wanted >= 60
    assert not report.uncovered, str(report)


def test_one_that_is_not_is_named(report: Any, file: Path) -> None:
    tested = Coverage.load(file)
    few = Coverage(
        each
        for each in tested.tested
        if (each.configuration.block, each.configuration.device) != ("attention.GroupedQueryAttention", "t3k")
    )
    uncovered = [str(configuration) for configuration in coverage_report(few, coverage.wanted(few)).uncovered]
    assert len(uncovered) == 3 * 2  # configurations, modes
    assert all(text.startswith("attention.GroupedQueryAttention(hidden_dim=") for text in uncovered)
    assert all(text.endswith(" on t3k") for text in uncovered)


def test_a_model_without_a_known_configuration_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "models/new-model/src/new_model"
    source.mkdir(parents=True)
    (tmp_path / "models/new-model/pyproject.toml").touch()
    (source / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(source.parent))
    monkeypatch.setattr(coverage, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"models/new-model has no configuration that tools/coverage.py finds"):
        coverage.used()
