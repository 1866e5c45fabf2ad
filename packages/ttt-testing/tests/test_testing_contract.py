"""Contracts: a file that says what modules took, and failures that name what has grown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ttnn

from ttt_core import Mode, SpecError, Tensor
from ttt_ffn import SwiGLU
from ttt_hw import OpTime
from ttt_testing import SuiteReport, TestSuite
from ttt_testing._contract import load, save


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "contracts" / "model.toml"


def held_to(file: Path, block: Any, *, rows: int = 32, tolerance: float = 0.05) -> SuiteReport:
    suite = TestSuite(block).expect_contract(file, tolerance=tolerance)
    suite.test(block, name="it").mode("decode").rows(decode=rows)
    return suite.run()


def record(file: Path, block: Any) -> None:
    suite = TestSuite(block)
    suite.test(block, name="it").mode("decode")
    suite.run()
    suite.record_contract(file)


def test_what_was_recorded_is_kept(blocks: Any, file: Path) -> None:
    record(file, blocks.ffn())
    text = file.read_text()
    assert "[n150.mock.it.decode]" in text
    assert 'gate_matmul = ["' in text
    item = held_to(file, blocks.ffn()).items[-1]
    assert (item.kind, item.status, item.wanted) == ("contract", "passed", "nothing grown by more than 5 %")


def test_a_file_keeps_what_others_have_recorded(blocks: Any, file: Path) -> None:
    record(file, blocks.ffn())
    key, before = next(iter(load(file).items()))
    other = ("t3k", "mock", "it", "prefill")
    save(file, {other: replace(before, rows=128, time_us=None)})
    assert load(file) == {key: before, other: replace(before, rows=128, time_us=None)}


def test_equal_modules_have_one_record(blocks: Any, file: Path) -> None:
    def suite(*dtypes: str) -> TestSuite:
        made = TestSuite([blocks.ffn(dtype) for dtype in dtypes])
        for ffn in made.model:
            made.test(ffn).mode("decode")
        return made

    first = suite("bfloat8_b", "bfloat8_b", "bfloat8_b")
    first.run()
    first.record_contract(file)
    assert [name for _, _, name, _ in load(file)] == ["0"]
    assert not suite("bfloat8_b", "bfloat8_b").expect_contract(file).run().failures
    (failure,) = suite("bfloat8_b", "bfloat4_b").expect_contract(file).run().failures
    assert (failure.case, failure.got) == ("1", "nothing recorded")


def test_an_operation_that_grew_is_named(blocks: Any, file: Path) -> None:
    class Slower(SwiGLU):
        def op_times(self, mode: Mode, rows: int, /, *, context: int = 0) -> tuple[OpTime, ...]:
            gate, *others = super().op_times(mode, rows, context=context)
            assert gate.time_us is not None
            return (replace(gate, pattern="RingMatmul", time_us=gate.time_us + 3), *others)

    record(file, blocks.ffn())
    (failure,) = held_to(file, blocks.ffn(kind=Slower)).failures
    text = str(failure)
    gate = blocks.ffn().op_times("decode", 32)[0]
    assert "Slower), decode: contract " in text
    assert f"most of it gate_matmul, was {gate.pattern} {gate.time_us:.2f}"[:-1] in text
    assert f"is RingMatmul {gate.time_us + 3:.2f}"[:-1] in text
    assert not held_to(file, blocks.ffn(kind=Slower), tolerance=0.5).failures


def test_memory_that_grew_is_named(blocks: Any, file: Path) -> None:
    class Keeping(SwiGLU):
        def decode_forward(self, x: Tensor, /) -> Tensor:
            self.kept = ttnn.zeros(
                [1, 1, 32, 32 * 400], dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=x.device()
            )
            return super().decode_forward(x)

    record(file, blocks.ffn())
    (failure,) = held_to(file, blocks.ffn(kind=Keeping)).failures
    assert failure.detail[0].startswith("DRAM ")
    assert "most of it activations 0 → 8" in failure.detail[0]


def test_a_wider_weight_is_named(blocks: Any, file: Path) -> None:
    record(file, blocks.ffn(dtype="bfloat4_b"))
    (failure,) = held_to(file, blocks.ffn(dtype="bfloat8_b")).failures
    assert any("most of it weights" in line for line in failure.detail)


def test_what_has_no_record_fails_and_says_how_to_make_one(blocks: Any, file: Path) -> None:
    (failure,) = held_to(file, blocks.ffn()).failures
    assert (failure.got, failure.detail) == ("nothing recorded", ("record it: suite.record_contract(file)",))


def test_another_number_of_rows_is_not_compared(blocks: Any, file: Path) -> None:
    record(file, blocks.ffn())
    (failure,) = held_to(file, blocks.ffn(), rows=8).failures
    assert failure.detail[0] == "it was recorded with 32 rows and context 128, this test has 8 and 128"


@pytest.mark.parametrize("text", ["n150 = 3", "[n150.mock.it.decode]\nrows = 3\n", "= ="])
def test_a_file_that_is_something_else_is_refused(text: str, blocks: Any, tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(text)
    with pytest.raises(SpecError, match=r"is no contract as suite\.record_contract writes it"):
        TestSuite(blocks.ffn()).expect_contract(tmp_path / "it.toml")


def test_nothing_is_recorded_before_a_run(blocks: Any, file: Path) -> None:
    with pytest.raises(SpecError, match="This suite has not run"):
        TestSuite(blocks.ffn()).record_contract(file)
