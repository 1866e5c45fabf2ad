"""What an open device tells of itself, against what is written down of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ttt_core import DeviceError
from ttt_hw.records import Board
from ttt_hw.ttnn_release import L1_BYTES_MORE, num_links


def as_reported(record: Board, mesh_device: Any) -> Board:
    """The record with the grid, bytes and links that the device reports.

    A card may have another grid that its record lists, fewer bytes in a bank (whoever opened it may have reserved some) and
    any number of working links. Everything else must be as recorded, or layouts and configs made for the record would not
    fit: DeviceError.
    """
    import ttnn

    chip = record.chip
    grid = _grid(mesh_device)
    l1, dram = (ttnn.get_memory_view(mesh_device, kind) for kind in (ttnn.BufferType.L1, ttnn.BufferType.DRAM))
    for what, recorded, reported in (
        ("architecture", chip.arch, mesh_device.arch().name.lower()),
        ("number of chips", record.num_chips, mesh_device.get_num_devices()),
        ("number of DRAM banks", chip.dram_banks, dram.num_banks),
        ("L1 alignment", chip.l1_alignment, ttnn.get_l1_alignment()),
        ("DRAM alignment", chip.dram_alignment, ttnn.get_dram_alignment()),
    ):
        if recorded != reported:
            raise _contradiction(record, what, recorded, reported)
    if grid not in (chip.grid, *chip.other_grids):
        allowed = " or ".join(str(known) for known in (chip.grid, *chip.other_grids))
        raise _contradiction(record, "worker grid (x, y)", allowed, grid)
    for what, most, reported in (
        ("L1 bytes per core", chip.l1_bytes_per_core + L1_BYTES_MORE, l1.total_bytes_per_bank),
        ("DRAM bytes per bank", chip.dram_bytes_per_bank, dram.total_bytes_per_bank),
    ):
        if reported > most:
            raise _contradiction(record, what, f"at most {most}", reported)
    return replace(
        record,
        chip=replace(
            chip,
            grid=grid,
            other_grids=tuple(other for other in (chip.grid, *chip.other_grids) if other != grid),
            l1_bytes_per_core=l1.total_bytes_per_bank,
            dram_bytes_per_bank=dram.total_bytes_per_bank,
        ),
        links=_links(record, mesh_device),
    )


def _links(record: Board, mesh_device: Any) -> int:
    """Links that ttnn can use along every axis with neighbours, if its fabric runs."""
    import ttnn

    axes = [axis for axis, chips in enumerate(record.mesh) if chips > 1]
    if not axes or ttnn.get_fabric_config() == ttnn.FabricConfig.DISABLED:
        return record.links
    found = [links for axis in axes if (links := num_links(mesh_device, axis)) is not None]
    return min(found, default=record.links)


def _grid(mesh_device: Any) -> tuple[int, int]:
    grid = mesh_device.compute_with_storage_grid_size()
    return grid.x, grid.y


def _contradiction(record: Board, what: str, recorded: object, reported: object) -> DeviceError:
    return DeviceError(
        f"The open device reports the {what} {reported}; the record of {record.name} says {recorded}. "
        "Layouts made for the record would not fit: open the board by its own name, or report the difference."
    )
