"""What ttt writes down about a chip and about a board; the records themselves are in `catalogue.py`.

Units: bytes, hertz, GB/s (1e9 bytes per second). Grids are (x, y) in cores; mesh shapes are (rows, columns) in chips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Board", "Rows"]

Topology = Literal["linear", "ring", "mesh"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TileCycles:
    """Cycles that one core's matrix engine takes for a 32×32 by 32×32 tile product, by math fidelity."""

    lofi: int
    hifi2: int
    hifi3: int
    hifi4: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a chip reaches of its peaks, as far as time estimates need it."""

    dram_streamed: float
    """Share of the DRAM's rate when each bank is read by cores beside it."""
    dram_interleaved: float
    """Share when any core reads any bank, page by page."""
    dram_request_cycles: float
    """Between two requests that a bank takes, however short they are."""
    matrix_efficiency: float
    """Share of the matrix engine's peak that large matmuls reach."""
    matrix_streamed: float
    """The same share where a few cores beside the DRAM's banks multiply what they stream."""
    matrix_bytes_per_cycle: float
    """From one core's L1 into its matrix engine, of both operands of a tile product."""
    unpack_bytes_per_cycle: float
    """From one core's L1 into its engines."""
    noc_bytes_per_cycle: float
    """Into or out of one core."""
    multicast_bytes_per_cycle: float
    """From one core to many."""
    sender_bytes_per_cycle: float
    """Of DRAM, into a core that reads in steps what it hands on to others."""
    program_us: float
    """To start a program on all cores when the last has ended, and its shortest kernel."""
    multicast_us: float
    """Until the cores of a program that multicasts have told each other that they are ready, and the first step is there."""
    hop_us: float
    """From one chip to its neighbour."""
    link_efficiency: float
    """Share of a link's rate that payload has."""
    reduce_efficiency: float
    """The same where chips sum what they receive before they send on."""
    multicast_gb_per_s: float
    """Over one link, of what a worker sends in packets of 4 KB to all chips of a line."""
    collective_us: float
    """To set up the links' workers of a collective."""
    token_us: float
    """On the host, from the end of a forward to the start of the next: logits read, tokens chosen, ids and positions sent."""
    call_us: float
    """On the host, for an operation that is not part of a trace."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """One chip as ttnn offers it to programs: what is left of the die after harvesting and dispatch."""

    arch: str
    """As ttnn spells it."""
    grid: tuple[int, int]
    """Worker cores (x, y)."""
    other_grids: tuple[tuple[int, int], ...] = ()
    """What other cards of the same name report: firmware decides how many cores are harvested."""
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
    rates: Rates

    @property
    def dram_bytes(self) -> int:
        """What the allocator gives out of all DRAM banks."""
        return self.dram_banks * self.dram_bytes_per_bank

    def matmul_flops(self, cycles_per_tile: int) -> float:
        """Peak FLOP/s of all worker cores at one entry of `tile_cycles`: cores · clock · 2·32³ / cycles."""
        cores = self.grid[0] * self.grid[1]
        return cores * self.clock_hz * 2 * 32**3 / cycles_per_tile


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiring:
    """How a board is made of cards: what the driver finds out on hardware, and a mock has to be told.

    A mask has one bit for each unit that is switched off (harvested).
    """

    card: str
    """The kind of card, or of tray, as the driver spells it."""
    product_code: int
    """What the upper bits of the vendor's board id say."""
    chips: tuple[int, int] = (1, 1)
    """Chips as they are cabled, each to its neighbours in this rectangle: rows, columns."""
    chips_per_card: int = 1
    remote_chips: bool = False
    """Whether one chip of each card has a PCIe link, and the host reaches the others through it."""
    cables: int = 0
    """Ethernet links between neighbours."""
    tensix_off: int = 0
    """Rows of Tensix cores on Wormhole, columns on Blackhole."""
    dram_off: int = 0
    ethernet_off: int = 0
    pcie_off: tuple[int, ...] = (0,)
    """One mask for each chip of a card in turn."""


Rows: TypeAlias = Literal["replicas", "hidden"]
"""What the rows of a mesh are: copies of the model for other users, or parts of the hidden dim (tensor parallel along both
axes). The columns always split heads, inner dims and the vocabulary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """One product, or one system of several: which chip, how many, and the meshes they open as.

    Satisfies the device Protocol of ttt_shard_dsl.
    """

    name: str
    system: str
    """As ttnn names the cluster."""
    chip: Chip
    mesh: tuple[int, int]
    """The shape that is open, or that `open_mesh` opens unless told otherwise."""
    shapes: tuple[tuple[int, int], ...]
    """Every shape that the board opens as: all of its chips, in a rectangle or a line."""
    links: int = 0
    """Ethernet links per direction between neighbours that collectives may use."""
    link_gb_per_s: float = 0.0
    """Of one link in one direction."""
    wiring: Wiring
    rows: Rows = "replicas"

    def __hash__(self) -> int:
        """Of the name and the shape alone: boards are keys of many caches, and records of one name seldom differ."""
        return hash((self.name, self.mesh))

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

    @property
    def hidden_chips(self) -> int:
        """Over how many chips, those of a column, the hidden dim is split."""
        return self.mesh[0] if self.rows == "hidden" else 1

    @property
    def replicas(self) -> int:
        """How many copies of the model it holds, each for its own users."""
        return self.mesh[0] // self.hidden_chips

    @property
    def mesh_text(self) -> str:
        """As `board_as` reads it."""
        return f"{self.mesh[0]}x{self.mesh[1]}" + ("" if self.rows == "replicas" else f":{self.rows}")

    @property
    def topology(self) -> Topology:
        """How the chips of the mesh are linked: ttnn lays three or more chips in a line so that the ends are neighbours too."""
        if min(self.mesh) > 1:
            return "mesh"
        return "ring" if self.num_chips > 2 else "linear"
