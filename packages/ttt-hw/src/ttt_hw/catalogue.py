"""The boards that ttt knows: one record per chip and per board, each number with where it comes from.

Units: bytes, hertz, GB/s (1e9 bytes per second). Grids are (x, y) in cores; mesh shapes are (rows, columns) in chips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from ttt_core import DeviceError
from ttt_hw._process import PROCESS


@dataclass(frozen=True, kw_only=True, slots=True)
class TileCycles:
    """Cycles that one core's matrix engine takes for a 32×32 by 32×32 tile product, by math fidelity."""

    lofi: int
    hifi2: int
    hifi3: int
    hifi4: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """One chip as ttnn offers it to programs: what is left of the die after harvesting and dispatch."""

    arch: str
    """As ttnn spells it."""
    grid: tuple[int, int]
    """Worker cores (x, y)."""
    l1_bytes_per_core: int
    """What the allocator gives out of one core's L1."""
    l1_program_bytes: int
    """The address that circular buffers and L1 tensors together may not pass."""
    l1_alignment: int
    dram_banks: int
    dram_bytes_per_bank: int
    dram_alignment: int
    dram_gb_per_s: float
    clock_hz: int
    tile_cycles: TileCycles

    def matmul_flops(self, cycles_per_tile: int) -> float:
        """Peak FLOP/s of all worker cores at one entry of `tile_cycles`: cores · clock · 2·32³ / cycles."""
        cores = self.grid[0] * self.grid[1]
        return cores * self.clock_hz * 2 * 32**3 / cycles_per_tile


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """One product, or one system of several: which chip, how many, and the meshes they open as.

    Satisfies the device Protocol of ttt_shard_dsl.
    """

    name: str
    chip: Chip
    mesh: tuple[int, int]
    """The shape that is open, or that `open_mesh` opens unless told otherwise."""
    shapes: tuple[tuple[int, int], ...]
    """Every shape that the board opens as."""
    product_code: int
    """What the upper bits of the vendor's board id say."""
    harvest_mask: int
    """Rows of Tensix cores that are switched off on each chip; only the mock has to be told."""

    @property
    def grid(self) -> tuple[int, int]:
        return self.chip.grid

    @property
    def dram_banks(self) -> int:
        return self.chip.dram_banks

    @property
    def l1_bytes_per_core(self) -> int:
        return self.chip.l1_bytes_per_core

    @property
    def dram_bytes_per_bank(self) -> int:
        return self.chip.dram_bytes_per_bank

    @property
    def dram_alignment(self) -> int:
        return self.chip.dram_alignment

    @property
    def l1_alignment(self) -> int:
        return self.chip.l1_alignment

    @property
    def num_chips(self) -> int:
        return self.mesh[0] * self.mesh[1]


TENSIX_CYCLES = TileCycles(  # 4096 FLOP per cycle at LoFi; tt-metal, tech_reports/GEMM_FLOPS
    lofi=16,
    hifi2=32,
    hifi3=48,
    hifi4=64,
)

WORMHOLE = Chip(
    arch="wormhole_b0",  # read from an open device
    grid=(8, 8),  # read from an open device: one row harvested, one row dispatches
    l1_bytes_per_core=1_393_312,  # read from an open device
    l1_program_bytes=1_499_136,  # ttnn's message when circular buffers pass it
    l1_alignment=16,  # read from an open device
    dram_banks=12,  # read from an open device
    dram_bytes_per_bank=1_072_693_184,  # read from an open device
    dram_alignment=32,  # read from an open device
    dram_gb_per_s=288.0,  # Tenstorrent, Wormhole n150 data sheet: 12 GB GDDR6 at 12 GT/s, 192 bits
    clock_hz=1_000_000_000,  # Tenstorrent, Wormhole n150 data sheet: AI clock 1 GHz
    tile_cycles=TENSIX_CYCLES,
)

N150 = Board(
    name="n150",
    chip=WORMHOLE,
    mesh=(1, 1),  # read from an open device
    shapes=((1, 1),),
    product_code=0x18,  # tt-umd, board type by board id
    harvest_mask=0b100_0000,  # Tenstorrent, Wormhole n150 data sheet: 72 of the die's 80 Tensix cores
)

BOARDS: dict[str, Board] = {record.name: record for record in (N150,)}


def board(name: str) -> Board:
    """The record of a board, whatever the case of its name. Unknown names raise DeviceError."""
    found = BOARDS.get(name.lower())
    if found is not None:
        return found
    import difflib  # slow to import, and only needed here

    close = difflib.get_close_matches(name.lower(), BOARDS, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DeviceError(f"Unknown device {name!r}: ttt-hw knows {', '.join(BOARDS)}.{hint}")


def board_of(mesh_device: Any) -> Board:
    """The record of an open mesh device, opened by `open_mesh` or by ttnn; its `mesh` is the shape that is open.

    Raises DeviceError where the device is none that ttt knows, or reports other values than its record.
    """
    shape = cast("tuple[int, int]", tuple(mesh_device.shape))
    ours = PROCESS.board if mesh_device is PROCESS.mesh else None
    record = ours or _recognise(mesh_device, shape)
    _compare(record, mesh_device)
    return replace(record, mesh=shape)


def _recognise(mesh_device: Any, shape: tuple[int, int]) -> Board:
    """A device that the user opened: the board with its chip and shape, best with the same grid too."""
    arch = mesh_device.arch().name.lower()
    alike = [record for record in BOARDS.values() if record.chip.arch == arch and shape in record.shapes]
    if not alike:
        known = ", ".join(f"{record.name} ({record.chip.arch}, {_shapes(record)})" for record in BOARDS.values())
        raise DeviceError(
            f"The open device is none that ttt-hw knows: {arch}, mesh {_shape(shape)}; known are {known}. "
            "Open one of these with ttt_hw.open_mesh."
        )
    grid = _grid(mesh_device)
    return next((record for record in alike if record.grid == grid), alike[0])


def _compare(record: Board, mesh_device: Any) -> None:
    banks = mesh_device.dram_grid_size()
    for what, recorded, reported in (
        ("architecture", record.chip.arch, mesh_device.arch().name.lower()),
        ("worker grid (x, y)", record.grid, _grid(mesh_device)),
        ("number of DRAM banks", record.dram_banks, banks.x * banks.y),
    ):
        if recorded != reported:
            raise DeviceError(
                f"The open device reports the {what} {reported}; the record of {record.name} says {recorded}. "
                "Layouts made for the record would not fit: open the board by its own name, or report the difference."
            )


def _grid(mesh_device: Any) -> tuple[int, int]:
    grid = mesh_device.compute_with_storage_grid_size()
    return grid.x, grid.y


def _shapes(record: Board) -> str:
    return " or ".join(_shape(shape) for shape in record.shapes)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)
