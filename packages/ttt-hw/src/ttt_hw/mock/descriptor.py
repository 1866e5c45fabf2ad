"""A cluster descriptor: the file that tells ttnn's mock which chips there are.

On a card the driver finds these facts out; for the mock they are written down from the record. The file is YAML to ttnn
and is written as JSON, which YAML contains.
"""

from __future__ import annotations

import json

from ttt_hw.catalogue import Board

PRODUCT_CODE_SHIFT = 36  # a board id is product code, revision and serial number; the mock reads the product


def cluster_descriptor(board: Board) -> str:
    """The descriptor of a board whose chips all have a PCIe link of their own."""
    chips = range(board.num_chips)
    harvesting = {
        "noc_translation": True,
        "harvest_mask": board.harvest_mask,
        "dram_harvesting_mask": 0,
        "eth_harvesting_mask": 0,
        "pcie_harvesting_mask": 0,
        "l2cpu_harvesting_mask": 0,
    }
    return json.dumps(
        {
            "arch": dict.fromkeys(chips, board.chip.arch),
            "chips": {chip: [chip, 0, 0, 0] for chip in chips},  # x, y, rack, shelf
            "ethernet_connections": [],
            "ethernet_connections_to_remote_devices": [],
            "chips_with_mmio": [{chip: chip} for chip in chips],
            "io_device_type": "PCIe",
            "harvesting": dict.fromkeys(chips, harvesting),
            "chip_to_boardtype": dict.fromkeys(chips, board.name),
            "boards": [
                [
                    {"board_id": board.product_code << PRODUCT_CODE_SHIFT | chip},
                    {"board_type": board.name},
                    {"chips": [chip]},
                ]
                for chip in chips
            ],
            "asic_locations": dict.fromkeys(chips, 0),
            "chip_unique_ids": {chip: chip + 1 for chip in chips},
        },
        indent=1,
    )
