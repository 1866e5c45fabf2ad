"""TestSuite: what it finds out by itself, what it shares, what it says, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from ttt_core import Mode, SpecError, UnsupportedOnDevice
from ttt_norm import RMSNorm
from ttt_testing import SuiteFailed, TestSuite
from ttt_testing._finding import block_name, parts, role_of, sizes_of
from ttt_testing._sameness import fingerprint
from ttt_weights import NoValues


@pytest.fixture
def model(blocks: Any) -> Any:
    return blocks.model()


def test_every_module_is_found_by_what_it_can_do(model: Any) -> None:
    found = {
        path: role_of(module) for path, module in parts(model) if "attention." not in path and "output_norm" not in path
    }
    of_layer = {
        "": "attention",
        ".attention": "attention",
        ".ffn": "rows",
        ".attention_norm": "rows",
        ".ffn_norm": "rows",
    }
    layers = {f"layers.{n}{path}": role for n in (0, 1) for path, role in of_layer.items()}
    rest = {"": "model", "embedding": "embedding", "final_norm": "rows", "head": "head"}
    assert found.items() >= (layers | rest).items()  # besides what stands where a part is left out
    assert sizes_of(model.layers[0]).width == 96  # which has no spec of its own
    assert sizes_of(model.head).vocabulary == 256
    assert block_name(model.head) == "embedding.LMHead"


def test_every_role_runs_in_both_modes(model: Any) -> None:
    suite = TestSuite(model)
    for module in (model, model.layers[0], model.embedding, model.head, model.final_norm):
        suite.test(module).rows(prefill=40, decode=5).tolerance(1e-4)
    report = suite.run()
    assert [item.status for item in report.items] == ["passed"] * 20
    assert report.to_json()["counts"] == {"passed": 20}
    assert (report.device, report.backend, report.values) == ("n150", "mock", "golden")
    assert "against its own decode of the first 8 rows" in report.items[1].basis


def test_layers_that_differ_in_weights_alone_run_once(blocks: Any) -> None:
    model = blocks.model(num_layers=6)
    suite = TestSuite(model)
    for number, layer in enumerate(model.layers):
        suite.test(layer.attention, name=f"layer_{number}_attn").expect(l1_kb=500)
        suite.test(layer.ffn)
    report = suite.run()
    assert report.runs == 4
    assert {item.shared_with for item in report.items if item.case == "layers.5.ffn"} == {"layers.0.ffn"}
    assert report.items[-1].name == "layers.5.ffn/decode/runs"


def test_a_module_with_another_setting_runs_by_itself(blocks: Any) -> None:
    one, other, narrow = blocks.attention(), blocks.attention(), blocks.attention(dtype="bfloat4_b")
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(narrow)
    other.spec = replace(other.spec, score_scale=0.1)
    assert fingerprint(one) != fingerprint(other)


def test_references_of_their_own_are_not_shared(blocks: Any) -> None:
    one, other = blocks.norm(), blocks.norm()
    suite = TestSuite([one, other])
    for norm in (one, other):
        suite.test(norm).mode("decode").rows(decode=4).against(blocks.of(norm)).tolerance(1e-5)
    assert suite.run().runs == 2


def test_a_failure_is_one_error_with_the_whole_report(blocks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ttt_testing.suite.announce", lambda item: None
    )  # where the plugin is loaded it would report it
    norm = blocks.norm()
    with pytest.raises(SuiteFailed) as caught, TestSuite(norm) as suite:
        suite.test(norm, name="the norm").mode("decode").rows(decode=4).against(
            lambda x: 2 * blocks.of(norm)(x)
        ).tolerance(1e-5)
    first, *rest = str(caught.value).splitlines()
    assert first == "2 expectations on n150 (mock): 1 failed, 1 passed"
    assert rest[0].startswith("the norm (norm.RMSNorm), decode: tolerance max difference ")
    assert rest[0].endswith("expected ≤ 1e-05 [golden values in float32, against <lambda>]")
    assert rest[1].startswith("    first beyond it: [0, 0] (row 0): got ")
    assert rest[2] == "    All of it is 0.5 times what is expected: a scale."
    assert rest[3].endswith('test_testing_suite.py::test_a_failure_is_one_error_with_the_whole_report"')
    assert isinstance(caught.value, AssertionError)


def test_an_error_inside_the_context_is_not_hidden(blocks: Any) -> None:
    norm = blocks.norm()
    with pytest.raises(ZeroDivisionError), TestSuite(norm) as suite:  # noqa: PT012
        suite.test(norm).against(lambda x: 2 * x).tolerance(1e-5)
        _ = 1 / 0
    assert suite.report is None


def test_time_on_a_mock_is_the_planners_estimate_and_says_so(blocks: Any) -> None:
    ffn = blocks.ffn()
    suite = TestSuite(ffn)
    suite.test(ffn).mode("decode").expect(latency_ms=1.0, tokens_per_second=1e6)
    latency, throughput = suite.run().items[1:]
    found = ffn.estimate_us("decode", 32)
    assert (latency.status, latency.got) == ("passed", f"{found / 1e3:.4g}")
    assert (throughput.status, throughput.got) == ("passed", f"{32 / found * 1e6:.5g}")
    assert latency.basis == "the planner's estimate, mock"


def test_a_forward_that_takes_too_long_names_the_plans_slowest_operations(model: Any) -> None:
    suite = TestSuite(model)
    suite.test(model).mode("decode").expect(latency_ms=0.01, tokens_per_second=1e9)
    latency, throughput = suite.run().failures
    both = model.layers[0].attention.op_times("decode", 32, context=128)
    slowest = max(both, key=lambda op: op.time_us)
    assert latency.detail == throughput.detail
    assert latency.detail[0].startswith(
        f"the plan's slowest: layers.*.attention.{slowest.name} ({slowest.pattern}) × 2 {2 * slowest.time_us:.4g} µs, "
    )
    assert latency.basis == "the planner's estimate, mock without attention_residual, ffn_residual, not planned"


def test_a_module_may_estimate_by_itself_and_without_any_time_is_not_available(blocks: Any) -> None:
    class Guessed:
        def __init__(self, inner: Any) -> None:
            self.inner, self.weights, self.spec = inner, inner.weights, inner.spec
            self.prefill_forward, self.decode_forward = inner.prefill_forward, inner.decode_forward

    class Planned(Guessed):
        def estimate_us(self, mode: Mode, rows: int, /) -> float:
            return 100.0 if mode == "decode" else 10.0 * rows

    suite = TestSuite([guessed := Guessed(blocks.ffn()), planned := Planned(blocks.ffn())])
    suite.test(guessed).mode("decode").expect(latency_ms=1.0)
    suite.test(planned).rows(prefill=64, decode=32).expect(latency_ms=0.5, tokens_per_second=300_000)
    items = {item.name: item for item in suite.run().items}
    assert items["0/decode/latency_ms"].status == "not available"
    assert "Guessed has no estimate_us(mode, rows)" in items["0/decode/latency_ms"].got
    assert items["1/decode/latency_ms"].status == "passed"
    assert items["1/decode/tokens_per_second"].got == "3.2e+05"
    assert items["1/prefill/latency_ms"].status == "failed"
    assert items["1/prefill/tokens_per_second"].status == "failed"


def test_weights_without_values_leave_values_unknown_and_memory_known(mesh: Any, blocks: Any) -> None:
    norm = RMSNorm(blocks.norm().spec, NoValues("w"), device=mesh)
    for suite in (TestSuite(norm), TestSuite(norm)):  # the second finds the weight on the device already
        suite.test(norm).mode("decode").tolerance(1e-5).expect(pcc=0.9, memory_mb=1)
        statuses = {item.kind: item.status for item in suite.run().items}
        assert statuses == {
            "runs": "passed",
            "tolerance": "not available",
            "pcc": "not available",
            "memory_mb": "passed",
        }
    assert suite.report is not None
    assert "w has a shape and no values" in suite.report.items[1].got


def test_memory_is_weights_cache_and_activations(blocks: Any) -> None:
    attention = blocks.attention()
    suite = TestSuite(attention)
    suite.test(attention).mode("decode").rows(decode=4, context=64).expect(memory_mb=0.0)
    suite.test(attention, name="longer").mode("decode").rows(decode=4, context=256).expect(memory_mb=0.0)
    short, longer = (item.detail[0] for item in suite.run().failures)
    page = 1088  # a tile of bfp8
    assert f"cache {2 * 4 * 2 * 2 * page:,}" in short
    assert f"cache {2 * 4 * 2 * 8 * page:,}" in longer
    qkv, output, tables = 3 * 8 * page, 4 * 3 * page, 2 * 256 * 64
    assert f"weights {qkv + output + tables:,}" in short


def test_a_refused_operation_is_a_failure_with_its_name(blocks: Any) -> None:
    class Refusing(RMSNorm):
        def decode_forward(self, x: Any, /) -> Any:
            raise UnsupportedOnDevice("ttnn.rms_norm: not on Sundays.")

    norm = blocks.norm(kind=Refusing)
    suite = TestSuite(norm)
    suite.test(norm).mode("decode").expect(memory_mb=1)
    runs, memory = suite.run().items
    assert (runs.status, runs.detail) == ("failed", ("ttnn.rms_norm: not on Sundays.",))
    assert memory.status == "not available"


def test_a_reference_of_another_shape_is_said(blocks: Any) -> None:
    norm = blocks.norm()
    suite = TestSuite(norm)
    suite.test(norm).mode("decode").rows(decode=4).against(lambda x: x[..., :5]).tolerance(1e-5)
    assert suite.run().failures[0].got == "rows [4, 96], the reference made [4, 5]"


def test_a_torch_module_is_a_reference(blocks: Any) -> None:
    norm = blocks.norm()
    theirs = torch.nn.RMSNorm(96, eps=1e-5)
    theirs.weight.data = torch.from_numpy(norm.weight.host()).flatten()
    with TestSuite(norm) as suite:
        suite.test(norm).against(theirs).tolerance(1e-5, rtol=1e-6, pcc=0.999)
    assert suite.report is not None
    assert suite.report.items[1].basis == "golden values in float32, against RMSNorm"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda suite, norm: suite.test(norm).mode("train"), "give 'prefill', 'decode' or 'both'"),
        (lambda suite, norm: suite.test(norm).tolerance(), "give an absolute tolerance, rtol or pcc"),
        (lambda suite, norm: suite.test(norm).against(3), "was given a int; give a torch module or a function"),
        (lambda suite, norm: suite.test(norm).expect(top1=0.9), "it makes rows, not logits"),
        (lambda suite, norm: suite.test(norm).rows(decode=0), "0 rows cannot be computed"),
        (lambda suite, norm: suite.test(norm.spec), "NormSpec has no prefill_forward and decode_forward"),
        (lambda suite, norm: suite.test(torch), "module has no prefill_forward"),
        (lambda suite, norm: suite.run(), "This suite tests nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Any, message: str, blocks: Any) -> None:
    norm = blocks.norm()
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        ask(TestSuite(norm), norm)


def test_a_module_of_another_model_is_refused(blocks: Any) -> None:
    with pytest.raises(SpecError, match="RMSNorm is no part of this SwiGLU"):
        TestSuite(blocks.ffn()).test(blocks.norm())


def test_importing_the_package_loads_neither_torch_nor_ttnn() -> None:
    code = "import sys, ttt_testing; print({'torch', 'ttnn', 'numpy', 'pytest'} & sys.modules.keys(), ttt_testing.TestSuite)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set() <class 'ttt_testing.suite.TestSuite'>"
