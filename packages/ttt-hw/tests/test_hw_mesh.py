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


def test_peak_rates_of_the_n150() -> None:
    chip = board("n150").chip
    assert chip.matmul_flops(chip.tile_cycles.lofi) == pytest.approx(262.1e12, rel=1e-3)
    assert chip.matmul_flops(chip.tile_cycles.hifi4) == pytest.approx(65.5e12, rel=1e-3)


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
        ("n105", {}, r"Unknown device 'n105': ttt-hw knows n150. Did you mean 'n150'\?"),
        ("banana", {}, r"Unknown device 'banana': ttt-hw knows n150\.$"),
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
    with pytest.raises(DeviceError, match=r"opened n150 \(mock\) before.*open n151 \(mock\) in a fresh process"):
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


def test_a_device_that_ttnn_opened_is_recognised(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PROCESS", Process())
    monkeypatch.setattr(mesh_module, "PROCESS", Process())
    assert board_of(mesh) == N150
    assert current_backend(mesh) == "silicon"  # unless the environment says otherwise
    monkeypatch.setenv("TT_METAL_MOCK_CLUSTER_DESC_PATH", "x")
    assert current_backend(mesh) == "mock"
    monkeypatch.setattr(catalogue, "BOARDS", {"x": replace(N150, name="x", shapes=((2, 4),))})
    with pytest.raises(DeviceError, match=r"none that ttt-hw knows: wormhole_b0, mesh 1×1; known are x \(.*2×4\)"):
        board_of(mesh)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (8, 9)}, r"reports the worker grid \(x, y\) \(8, 8\); the record of n150 says \(8, 9\)"),
        ({"dram_banks": 8}, "reports the number of DRAM banks 12; the record of n150 says 8"),
    ],
)
def test_a_record_that_the_device_contradicts_is_an_error(
    change: dict[str, Any], message: str, mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(N150, chip=replace(N150.chip, **change))
    monkeypatch.setattr(catalogue, "PROCESS", Process())
    monkeypatch.setattr(catalogue, "BOARDS", {"n150": wrong})
    with pytest.raises(DeviceError, match=message):
        board_of(mesh)
