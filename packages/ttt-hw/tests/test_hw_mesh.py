"""Opening and closing a mock device, and what its record says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ttnn

from ttt_core import DeviceError
from ttt_hw import catalogue, mesh as mesh_module
from ttt_hw._process import Process
from ttt_hw.catalogue import N150, board, board_of
from ttt_hw.mesh import current_backend, open_mesh


@pytest.fixture
def mesh() -> Iterator[Any]:
    with open_mesh("n150", backend="mock") as device:
        yield device


def empty(device: Any, *shape: int) -> Any:
    return ttnn.empty(list(shape), ttnn.bfloat16, ttnn.TILE_LAYOUT, device, ttnn.DRAM_MEMORY_CONFIG)


def test_record_is_what_the_device_reports(mesh: Any) -> None:
    record = board_of(mesh)
    assert record == board("n150")
    assert record.mesh == tuple(mesh.shape)
    grid, banks = mesh.compute_with_storage_grid_size(), mesh.dram_grid_size()
    l1, dram = (ttnn.get_memory_view(mesh, kind) for kind in (ttnn.BufferType.L1, ttnn.BufferType.DRAM))
    assert record.chip.arch == mesh.arch().name.lower()
    assert record.grid == (grid.x, grid.y)
    assert record.grid[0] * record.grid[1] == l1.num_banks
    assert record.l1_bytes_per_core == l1.total_bytes_per_bank
    assert record.dram_banks == dram.num_banks == banks.x * banks.y
    assert record.dram_bytes_per_bank == dram.total_bytes_per_bank
    assert (record.dram_alignment, record.l1_alignment) == (ttnn.get_dram_alignment(), ttnn.get_l1_alignment())


def test_ops_are_checked_on_the_device(mesh: Any) -> None:
    x, w = empty(mesh, 1, 1, 32, 128), empty(mesh, 1, 1, 128, 64)
    assert x.device() is mesh
    assert tuple(ttnn.linear(x, w).shape) == (1, 1, 32, 64)
    assert tuple(ttnn.rms_norm(x, epsilon=1e-5).shape) == (1, 1, 32, 128)
    with pytest.raises(RuntimeError, match="must be equal to the height") as caught:
        ttnn.linear(x, x)
    assert "backtrace" not in str(caught.value)


def test_backend_is_known(mesh: Any) -> None:
    assert current_backend(mesh) == "mock"


def test_opens_again_and_again_whatever_the_case() -> None:
    for name in ("n150", "N150", "n150"):
        with open_mesh(name, shape=(1, 1), backend="mock") as device:
            assert tuple(empty(device, 1, 1, 32, 32).shape) == (1, 1, 32, 32)


def test_an_error_in_the_body_passes_and_the_device_closes() -> None:
    mistake = KeyError("body")
    with pytest.raises(KeyError) as caught, open_mesh("n150", backend="mock"):
        raise mistake
    assert caught.value is mistake
    with open_mesh("n150", backend="mock") as device:
        assert device.get_num_devices() == 1


def test_environment_is_as_it_was() -> None:
    before = dict(os.environ)
    with open_mesh("n150", backend="mock"):
        pass
    assert dict(os.environ) == before


def test_a_second_mesh_at_the_same_time_is_refused(mesh: Any) -> None:
    with pytest.raises(DeviceError, match="leave its `with` block"), open_mesh("n150", backend="mock"):
        pass
    assert ttnn.rms_norm(empty(mesh, 1, 1, 32, 32)) is not None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("n105", {}, r"Unknown device 'n105': ttt-hw knows n150, n300, .*, bh-galaxy\. Did you mean 'n150'\?"),
        ("banana", {}, r"Unknown device 'banana': ttt-hw knows n150, n300, .*, bh-galaxy\.$"),
        (
            "t3k",
            {"shape": (3, 3)},
            r"t3k does not open as a \(3, 3\) mesh: it opens as \(1, 8\), .*, \(4, 2\) \(rows, col",
        ),
        ("n150", {"backend": "Mock"}, "Unknown backend 'Mock': allowed are 'mock', 'simulator', 'silicon', or None"),
        ("n150", {"shape": (1, 2)}, r"n150 does not open as a \(1, 2\) mesh: it opens as \(1, 1\)"),
        ("n150", {"backend": "simulator"}, "needs TT_METAL_SIMULATOR: set it to"),
        ("n150", {"backend": "silicon"}, "No Tenstorrent card here"),
    ],
)
def test_what_cannot_be_opened_is_refused(
    name: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mesh_module, "CARDS", str(tmp_path))
    monkeypatch.delenv("TT_METAL_SIMULATOR", raising=False)
    with pytest.raises(DeviceError, match=message), open_mesh(name, **options):
        pass


@pytest.mark.parametrize(
    ("backend", "variable", "instead"),
    [
        ("silicon", "TT_METAL_SIMULATOR", "simulator instead of silicon"),
        ("silicon", "TT_METAL_MOCK_CLUSTER_DESC_PATH", "mock instead of silicon"),
        ("simulator", "TT_METAL_MOCK_CLUSTER_DESC_PATH", "mock instead of simulator"),
    ],
)
def test_variables_that_contradict_the_backend_are_refused(
    backend: str, variable: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/somewhere")
    with pytest.raises(DeviceError, match=f"{instead}: unset it"), open_mesh("n150", backend=backend):
        pass


def test_another_cluster_in_the_same_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_mesh("n150", backend="mock"):
        pass
    monkeypatch.setitem(catalogue.BOARDS, "n151", replace(N150, name="n151"))
    message = r"opened n150 \(mock\) before.*open n151 \(mock\) in a fresh process\. ttt_hw.run_in_process starts one"
    with pytest.raises(DeviceError, match=message):
        open_mesh("n151", backend="mock").__enter__()
    monkeypatch.setenv("TT_METAL_SIMULATOR", "/somewhere")
    with pytest.raises(DeviceError, match=r"open n150 \(simulator\) in a fresh process"):
        open_mesh("n150", backend="simulator").__enter__()


@pytest.mark.parametrize("backend", ["silicon", "simulator", None])
def test_only_a_mock_gets_the_null_toolchain(
    backend: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A card that is there is used when none is named, and failing to open it is an error."""
    seen: list[dict[str, str]] = []

    def cannot_open(shape: object) -> None:
        seen.append(dict(os.environ))
        raise RuntimeError("TT_FATAL @ /x.cpp:1: false\ninfo:\nNo chips detected in the cluster\nbacktrace:\n --- f()")

    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "0").touch()
    if backend == "simulator":
        monkeypatch.setenv("TT_METAL_SIMULATOR", "/somewhere")
    monkeypatch.setattr(mesh_module, "CARDS", str(tmp_path / "dev"))
    monkeypatch.setattr(mesh_module, "PROCESS", Process())
    monkeypatch.setattr(ttnn, "open_mesh_device", cannot_open)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = dict(os.environ)
    message = (
        rf"ttnn cannot open n150 as a \(1, 1\) mesh on {backend or 'silicon'}: No chips detected in the cluster\.$"
    )
    with pytest.raises(DeviceError, match=message) as caught, open_mesh("n150", backend=backend):
        pass
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert seen == [before]
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def users_own(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A mesh that ttt did not open and has not seen."""
    monkeypatch.setattr(catalogue, "PROCESS", Process())
    monkeypatch.setattr(mesh_module, "PROCESS", Process())
    monkeypatch.setattr(catalogue, "_known", {})
    return mesh


def test_a_device_that_ttnn_opened_is_recognised(users_own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert board_of(users_own) == N150
    assert current_backend(users_own) == "silicon"  # unless the environment says otherwise
    monkeypatch.setenv("TT_METAL_MOCK_CLUSTER_DESC_PATH", "x")
    assert current_backend(users_own) == "mock"


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"name": "x", "system": "OTHER"}, True),  # by its chip and shape
        ({"name": "x", "shapes": ((2, 4),)}, True),  # by the name that ttnn gives it
        ({"name": "x", "system": "OTHER", "shapes": ((2, 4),)}, False),
        ({"name": "x", "chip": replace(N150.chip, arch="other")}, False),
    ],
)
def test_a_device_that_ttnn_opened_is_known_by_its_name_or_chip(
    change: dict[str, Any], known: bool, users_own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "BOARDS", {"x": replace(N150, **change)})
    if known:
        assert board_of(users_own).name == "x"
        return
    with pytest.raises(DeviceError, match=r"none that ttt-hw knows: wormhole_b0, N150, mesh 1×1; known are x \(.*\)"):
        board_of(users_own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (8, 9)}, r"reports the worker grid \(x, y\) \(8, 8\); the record of n150 says \(8, 9\)"),
        ({"dram_banks": 8}, "reports the number of DRAM banks 12; the record of n150 says 8"),
        ({"l1_bytes_per_core": 9}, "reports the L1 bytes per core 1393312; the record of n150 says at most 9"),
        ({"dram_bytes_per_bank": 9}, "reports the DRAM bytes per bank 1072693184; the record of n150 says at most 9"),
        ({"dram_alignment": 64}, "reports the DRAM alignment 32; the record of n150 says 64"),
        ({"l1_alignment": 32}, "reports the L1 alignment 16; the record of n150 says 32"),
    ],
)
def test_a_record_that_the_device_contradicts_is_an_error(
    change: dict[str, Any], message: str, users_own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "BOARDS", {"n150": replace(N150, chip=replace(N150.chip, **change))})
    with pytest.raises(DeviceError, match=message):
        board_of(users_own)


def test_a_card_with_another_grid_that_is_known_is_taken_as_it_is(
    users_own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(N150, chip=replace(N150.chip, grid=(7, 9), other_grids=((8, 8),)))
    monkeypatch.setattr(catalogue, "BOARDS", {"n150": other})
    record = board_of(users_own)
    assert (record.grid, record.chip.other_grids) == ((8, 8), ((7, 9),))


def test_a_device_is_compared_once(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record = board_of(mesh)
    monkeypatch.setattr(catalogue, "as_reported", None)
    assert board_of(mesh) is record


@pytest.mark.parametrize(
    ("name", "found"), [("T3K", "t3k"), ("N300s", "n300"), ("P150A", "p150"), ("p150X4", "p150x4")]
)
def test_a_board_is_found_whatever_the_case_and_variant(name: str, found: str) -> None:
    assert board(name).name == found


@pytest.mark.parametrize("record", catalogue.BOARDS.values(), ids=lambda record: record.name)
def test_records_are_consistent(record: catalogue.Board) -> None:
    """The default mesh is the first; each shape holds every chip; links go with chips."""
    assert catalogue.BOARDS[record.name] is record
    assert record.mesh == record.shapes[0]
    rows, columns = record.wiring.chips
    assert {shape[0] * shape[1] for shape in record.shapes} == {record.num_chips} == {rows * columns}
    assert (record.links > 0) == (record.link_gb_per_s > 0) == (record.wiring.cables > 0) == (record.num_chips > 1)
    assert record.links <= record.wiring.cables


@pytest.mark.parametrize(
    ("name", "lofi", "dram_gib"), [("n150", 262.1, 12), ("tg", 294.9, 12), ("p100", 608.3, 28), ("p150", 608.3, 32)]
)
def test_peak_rates_and_memory(name: str, lofi: float, dram_gib: int) -> None:
    """Against what the vendor publishes: cores · 4096 FLOP · clock, and GiB on the card less what ttnn keeps."""
    chip = board(name).chip
    assert chip.matmul_flops(chip.tile_cycles.lofi) == pytest.approx(lofi * 1e12, rel=1e-3)
    assert chip.matmul_flops(chip.tile_cycles.hifi4) == pytest.approx(lofi * 1e12 / 4, rel=1e-3)
    assert chip.dram_bytes == pytest.approx(dram_gib * 1024**3, rel=5e-3)
