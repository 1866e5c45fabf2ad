"""Every board of the catalogue, opened as a mock in a process of its own; and what such processes answer."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ttt_core import DeviceError
from ttt_hw._semaphores import GAP_BYTES
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.errors import OutOfMemory
from ttt_hw.isolation import ChildTraceback, run_in_process


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `board_probe`, importable here and in the processes that tests start."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import board_probe

    return board_probe


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_opens_in_every_shape_and_is_as_recorded(name: str, probe: Any) -> None:
    record = board(name)
    seen = run_in_process(probe.every_shape, name, device=name)
    assert list(seen) == list(record.shapes)
    for shape, facts in seen.items():
        chips = shape[0] * shape[1]
        axes = [size for size in shape if size > 1]
        width = 32 * max(shape)
        assert facts["shape"] == shape
        assert (facts["arch"], facts["system"], facts["chips"]) == (record.chip.arch, record.system, record.num_chips)
        assert facts["grid"] == record.grid
        cores = record.grid[0] * record.grid[1]
        assert facts["l1"] == (cores, record.l1_bytes_per_core, record.l1_alignment)
        assert facts["dram"] == (record.dram_banks, record.dram_bytes_per_bank, record.dram_alignment)
        assert facts["links"] == [record.links] * len(axes)
        assert facts["asked twice"]
        opened = facts["record"]
        assert (opened.name, opened.mesh, opened.chip, opened.links) == (name, shape, record.chip, record.links)

        assert facts["linear"] == (1, 1, 32, 64)
        assert facts["rms_norm"] == (1, 1, 32, width)
        assert facts["all_gather"] == [(1, 1, 32, width * size) for size in axes]
        assert facts["reduce_scatter"] == [(1, 1, 32, width // size) for size in axes]

        rows, columns = record.wiring.chips
        assert sorted(facts["nodes"]) == list(range(chips))
        lines = [facts["nodes"]] if len(axes) == 1 else []
        for line in lines:  # neighbours in the line have a cable, and so do its ends where it is a ring
            closed = [*line, line[0]] if opened.topology == "ring" else line
            for one, other in itertools.pairwise(closed):
                there, here = divmod(one, columns), divmod(other, columns)
                assert abs(there[0] - here[0]) + abs(there[1] - here[1]) == 1, line
        assert opened.topology == ("mesh" if len(axes) == 2 else "ring" if chips > 2 else "linear")
        assert rows * columns == chips


@pytest.mark.parametrize("name", ["n150", "p150"])
def test_the_l1_that_a_program_may_fill(name: str, probe: Any) -> None:
    assert run_in_process(probe.l1_ceiling, name, device=name) == board(name).chip.l1_program_bytes


def test_the_fabric_is_put_back_whatever_happens(probe: Any) -> None:
    states = run_in_process(probe.fabric_after_errors, "n300", device="n300")
    assert states == ["FABRIC_1D", "DISABLED", "DISABLED", "FABRIC_1D_RING"]


def test_part_of_a_board_opened_by_ttnn_is_recognised_and_reserved_regions_are_taken_off(probe: Any) -> None:
    record = run_in_process(probe.opened_by_ttnn, "t3k", (1, 2), device="t3k")
    assert (record.name, record.mesh, record.grid) == ("t3k", (1, 2), (8, 8))
    assert record.l1_bytes_per_core == board("t3k").l1_bytes_per_core - 32768
    assert record.dram_bytes_per_bank < board("t3k").dram_bytes_per_bank


def test_a_function_runs_in_another_process(probe: Any) -> None:
    assert run_in_process(probe.process_id, device="N150") != os.getpid()


def test_errors_of_ttt_come_back_as_they_were(probe: Any) -> None:
    with pytest.raises(OutOfMemory, match=r"^too large$") as caught:
        run_in_process(probe.out_of_memory, device="n150")
    assert (caught.value.memory, caught.value.wanted, caught.value.available) == ("DRAM", 2, 1)
    with pytest.raises(DeviceError, match=r"^no such cable$") as stubborn:
        run_in_process(probe.stubborn, device="n150")
    assert type(stubborn.value) is DeviceError


def test_a_bug_comes_back_with_its_traceback(probe: Any) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^a bug$") as caught:
        run_in_process(probe.bug, device="n150")
    assert isinstance(caught.value.__cause__, ChildTraceback)
    assert 'raise ZeroDivisionError("a bug")' in str(caught.value.__cause__)


def test_a_crash_is_an_error_that_names_board_and_signal(probe: Any) -> None:
    message = rf"that ran crash for t3k crashed with signal {int(signal.SIGABRT)} \(SIGABRT\) before it had a result"
    with pytest.raises(DeviceError, match=message):
        run_in_process(probe.crash, device="T3K")
    with pytest.raises(DeviceError, match="that ran leave for n150 ended with exit code 3 before"):
        run_in_process(probe.leave, device="n150")


def test_what_cannot_be_sent_is_refused(probe: Any) -> None:
    with pytest.raises(TypeError, match=r"<lambda> cannot be called in another process: .*top level of a module"):
        run_in_process(lambda: None, device="n150")
    with pytest.raises(TypeError, match=r"The result of unpicklable cannot be sent back from its process: .*lambda"):
        run_in_process(probe.unpicklable, device="n150")


def test_an_unknown_device_starts_no_process(probe: Any) -> None:
    with pytest.raises(DeviceError, match=r"Unknown device 't3j': .* Did you mean 't3k'\?"):
        run_in_process(probe.process_id, device="t3j")


def test_a_recorder_counts_what_operations_take(probe: Any) -> None:
    found = run_in_process(probe.recorded, "n300", device="n300")
    operations, dram = found["linear"]
    assert [(op.name, op.cores, op.error) for op in operations] == [("linear", 64, None)]
    assert operations[0].inputs == ("[1, 1, 256, 1024] bfloat16", "[1, 1, 1024, 2048] bfloat16")
    assert operations[0].l1_bytes > 0
    output = 256 * 2048 * 2
    assert output <= dram < output * 1.02
    operations, dram = found["all_reduce"]
    part = 256 * 1024 * 2
    assert dram > 2 * part  # what the chips send each other, besides the sum
    operations, dram = found["too large"]
    assert [(op.name, op.fits) for op in operations] == [("repeat", False)]
    assert dram >= 1024 * 2**24 * 2  # what was asked for in vain
    operations, dram = found["refused"]
    assert [(op.name, op.fits, dram) for op in operations] == [("linear", True, 0)]
    assert "Mismatch: width=1024 height=512" in operations[0].error


def test_semaphores_of_collectives_lie_below_the_first_tensor_and_split_nothing(probe: Any) -> None:
    x = 16384 // 32 // 64 * 2048  # bytes on a core: 512 tiles over 64 cores
    free, beside, after, beside_again, after_again = run_in_process(probe.semaphores, "n300", device="n300")
    assert free - x - GAP_BYTES - 1024 < after < free - x
    assert (beside, after) == (beside_again, after_again)  # the next forward makes none
