"""A cluster descriptor: the file that tells ttnn's mock which chips there are and how they are linked.

On a card the driver finds these facts out; for the mock they are written down from the record. The file is YAML to ttnn
and is written as JSON, which YAML contains.

Source of the format: tt-umd, device/cluster_descriptor.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ttt_hw.records import Board, Wiring

PRODUCT_CODE_SHIFT = 36  # a board id is product code, revision and serial number; the mock reads the product
TRAY_BUS = {  # PCIe bus of each tray of a Galaxy; tt-metal, tt_metal/fabric/control_plane.cpp, ubb_bus_ids
    "wormhole_b0": (0xC0, 0x80, 0x00, 0x40),
    "blackhole": (0x00, 0x40, 0xC0, 0x80),
}
TRAY_ROWS, TRAY_COLUMNS = 4, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """Where a chip sits: on which card, as which of its chips, whether a PCIe link ends there, and on which bus."""

    card: int
    position: int
    has_pcie: bool = True
    bus: int | None = None
    """Trays are told apart by it; for cards ttnn needs none."""


def cluster_descriptor(board: Board) -> str:
    """The descriptor of a board; chips are numbered along the rows of its wiring."""
    wiring = board.wiring
    rows, columns = wiring.chips
    chips = range(rows * columns)
    seats = [_seat(board, *divmod(chip, columns)) for chip in chips]
    return json.dumps(
        {
            "arch": dict.fromkeys(chips, board.chip.arch),
            "chips": {chip: [chip % columns, chip // columns, 0, 0] for chip in chips},  # x, y, rack, shelf
            "ethernet_connections": list(_connections(wiring)),
            "ethernet_connections_to_remote_devices": [],
            "chips_with_mmio": [{chip: chip} for chip in chips if seats[chip].has_pcie],
            "io_device_type": "PCIe",
            "harvesting": {chip: _harvesting(wiring, seats[chip]) for chip in chips},
            "chip_to_boardtype": dict.fromkeys(chips, wiring.card),
            "chip_to_bus_id": {chip: f"0x{bus:04x}" for chip in chips if (bus := seats[chip].bus) is not None},
            "boards": [
                [
                    {"board_id": wiring.product_code << PRODUCT_CODE_SHIFT | card},
                    {"board_type": wiring.card},
                    {"chips": [chip for chip in chips if seats[chip].card == card]},
                ]
                for card in range(len(chips) // wiring.chips_per_card)
            ],
            "asic_locations": {chip: seats[chip].position for chip in chips},
            "chip_unique_ids": {chip: chip + 1 for chip in chips},
        },
        indent=1,
    )


def _connections(wiring: Wiring) -> Iterator[list[dict[str, int]]]:
    """All cables between neighbours; each takes the next free Ethernet core at both ends."""
    rows, columns = wiring.chips
    free = [0] * (rows * columns)
    for chip in range(rows * columns):
        row, column = divmod(chip, columns)
        neighbours = [chip + 1] * (column + 1 < columns) + [chip + columns] * (row + 1 < rows)
        for neighbour in neighbours:
            for _ in range(wiring.cables):
                yield [{"chip": end, "chan": free[end]} for end in (chip, neighbour)]
                free[chip] += 1
                free[neighbour] += 1


def _harvesting(wiring: Wiring, seat: Seat) -> dict[str, int | bool]:
    return {
        "noc_translation": True,
        "harvest_mask": wiring.tensix_off,
        "dram_harvesting_mask": wiring.dram_off,
        "eth_harvesting_mask": wiring.ethernet_off,
        "pcie_harvesting_mask": wiring.pcie_off[seat.position % len(wiring.pcie_off)],
        "l2cpu_harvesting_mask": 0,
    }


def _seat(board: Board, row: int, column: int) -> Seat:
    if board.wiring.chips_per_card == TRAY_ROWS * TRAY_COLUMNS:
        return _seat_on_tray(board, row, column)
    width = board.wiring.chips_per_card  # a card's chips are next to each other in a row
    columns = board.wiring.chips[1]
    card, place = divmod(row * columns + column, width)
    if not board.wiring.remote_chips:
        return Seat(card=card, position=place)
    # Of a card's two chips the one nearer to the middle has PCIe: ttnn names eight chips T3K only where those with PCIe
    # have three neighbours, and the others two.
    first = column - place
    local = min(range(first, first + width), key=lambda chip: abs(2 * chip - (columns - 1)))
    return Seat(card=card, position=(column - local) % width, has_pcie=column == local)


def _seat_on_tray(board: Board, row: int, column: int) -> Seat:
    """Four trays, one in each quarter of the mesh: chip 1 in the outer corner, 1 to 4 down the outer column, 5 to 8 back."""
    rows, columns = board.wiring.chips
    tray = row // TRAY_ROWS * (columns // TRAY_COLUMNS) + column // TRAY_COLUMNS
    down, inward = min(row, rows - 1 - row), min(column, columns - 1 - column)
    position = 1 + down if inward == 0 else 2 * TRAY_ROWS - down
    return Seat(card=tray, position=position, bus=TRAY_BUS[board.chip.arch][tray] | position)
