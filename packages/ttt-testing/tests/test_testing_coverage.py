"""Coverage of configurations: what is recorded, merged over models and runs, and reported as missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ttt_attention import AttentionSpec, RopeSpec
from ttt_core import SpecError
from ttt_testing import Configuration, Coverage, Exercised, TestSuite
from ttt_testing.coverage import spec_fields
from ttt_testing.coverage_report import coverage_report

SPEC = AttentionSpec(hidden_dim=4096, num_heads=32, num_kv_heads=8, head_dim=128, max_context=256, rope=RopeSpec())
BLOCK = "attention.GroupedQueryAttention"


def configuration(device: str = "n150", mode: Any = "decode", **changes: Any) -> Configuration:
    return Configuration.of(BLOCK, replace(SPEC, **changes), device=device, mode=mode)


def exercised(model: str = "one", *, passed: bool = True, values: bool = True, **of: Any) -> Exercised:
    return Exercised(configuration=configuration(**of), model=model, backend="mock", values=values, passed=passed)


def test_a_suite_records_what_it_ran(blocks: Any) -> None:
    model = blocks.model()
    with TestSuite(model, track_coverage=True, name="tiny") as suite:
        for layer in model.layers:
            suite.test(layer.attention).mode("decode").rows(decode=4).tolerance(1e-3)
        suite.test(model.layers[0].ffn).expect(l1_kb=500)
    found = {(t.configuration.block, t.configuration.mode, t.values, t.passed) for t in suite.coverage.tested}
    assert found == {
        (BLOCK, "decode", True, True), ("ffn.SwiGLU", "prefill", False, True), ("ffn.SwiGLU", "decode", False, True),
    }  # fmt: skip
    text = str(suite.get_coverage_report())
    assert f"{BLOCK} tested with hidden_dim [96], num_heads [4], num_kv_heads [2], head_dim [32]" in text
    assert "rope.theta [10000.0]" in text
    assert "ffn.SwiGLU tested with hidden_dim [96], intermediate_dim [160], activation [silu]" in text
    assert "mode [decode, prefill]\n    by the tests of tiny" in text


def test_what_fails_is_not_covered(blocks: Any) -> None:
    norm = blocks.norm()
    suite = TestSuite(norm, track_coverage=True)
    suite.test(norm).against(lambda x: 2 * x).tolerance(1e-6)
    suite.run()
    assert {record.passed for record in suite.coverage.tested} == {False}
    assert str(suite.get_coverage_report()) == "Nothing has been tested."


def test_missing_values_and_pairs_are_those_that_models_want() -> None:
    coverage = Coverage(
        [exercised(hidden_dim=4096, num_heads=32), exercised("two", hidden_dim=8192, num_heads=64, device="t3k")]
    )
    wanted = [
        configuration(hidden_dim=4096, num_heads=32),
        configuration(hidden_dim=1024, num_heads=8),
        configuration(hidden_dim=2048, num_heads=16),
        configuration(hidden_dim=8192, num_heads=64),
    ]
    report = coverage_report(coverage, wanted)
    text = str(report)
    assert text.startswith(
        f"{BLOCK} tested with hidden_dim [4096, 8192] (missing: 1024, 2048), num_heads [32, 64] (missing: 8, 16), "
        "num_kv_heads [8]"
    )
    assert "never together: hidden_dim=8192 and device=n150" in text
    assert "never together: hidden_dim=8192 and num_heads=64" not in text
    assert "never together: hidden_dim=1024" not in text  # which is missing by itself
    assert "by the tests of one, two" in text
    assert "1 of 4 wanted configurations are covered." in text
    assert [dict(gap.spec)["hidden_dim"] for gap in report.uncovered] == [1024, 2048, 8192]
    data = json.loads(json.dumps(report.to_json()))
    assert data["blocks"][0]["parameters"]["num_heads"] == {"tested": [32, 64], "missing": [8, 16]}
    assert {"num_heads": 64, "device": "n150"} in data["blocks"][0]["untested_pairs"]
    html = report.to_html()
    assert "<td>4096, 8192</td><td class=missing>1024, 2048</td>" in html
    assert "1 of 4 wanted configurations are covered." in html


def test_a_block_that_no_test_ran_is_named() -> None:
    text = str(coverage_report(Coverage(), [configuration()]))
    assert text.startswith(f"{BLOCK} not tested (missing: hidden_dim 4096, num_heads 32,")
    assert "uncovered: attention.GroupedQueryAttention(hidden_dim=4096" in text


def test_files_merge_over_models_and_runs(tmp_path: Path) -> None:
    file = tmp_path / "results" / "coverage.json"
    assert Coverage.load(file) == Coverage()
    Coverage([exercised("one", passed=False)]).save(file)
    Coverage([exercised("two", mode="prefill")]).save(file)
    merged = Coverage([exercised("one")]).save(file)  # mended since
    assert merged == Coverage.load(file) == Coverage([exercised("one"), exercised("two", mode="prefill")])
    first = file.read_text()
    merged.save(file)
    assert file.read_text() == first
    assert [path.name for path in file.parent.iterdir()] == ["coverage.json"]


def test_another_schema_is_refused() -> None:
    with pytest.raises(SpecError, match=r"has schema 7, and 1 is read here\. Delete it"):
        Coverage.from_json({"schema": 7})


def test_specs_flatten_to_plain_values() -> None:
    @dataclass(frozen=True)
    class Odd:
        factors: tuple[float, ...] = (1.0, 2.0)
        inner: Any = None

    assert spec_fields(Odd(inner=Odd())) == {
        "factors": "(1.0, 2.0)", "inner": "Odd", "inner.factors": "(1.0, 2.0)", "inner.inner": None,
    }  # fmt: skip
    assert spec_fields(None) == {}


def test_coverage_is_asked_for_after_the_run(blocks: Any) -> None:
    norm = blocks.norm()
    for suite in (TestSuite(norm, track_coverage=True), TestSuite(norm)):
        with pytest.raises(SpecError, match=r"make it with TestSuite\(model, track_coverage=True\)"):
            suite.get_coverage_report()
