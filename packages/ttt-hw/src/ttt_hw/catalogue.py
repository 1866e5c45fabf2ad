"""The boards that ttt knows: one record per chip and per board, each number with where it comes from.

Sources: "open device" is what ttnn 0.81 reports of one that is open, `mesh graph` a file in tt-metal's
tt_metal/fabric/mesh_graph_descriptors, `tt-umd` its device/api/umd/device/types/cluster_descriptor_types.hpp, a data
sheet a page of docs.tenstorrent.com/aibs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast, get_args

from ttt_core import DeviceError
from ttt_hw._process import PROCESS
from ttt_hw._reported import as_reported
from ttt_hw.records import (
    Board as Board,
    Chip as Chip,
    Rates as Rates,
    Rows as Rows,
    TileCycles as TileCycles,
    Wiring as Wiring,
)

__all__ = ["BLACKHOLE", "BOARDS", "WORMHOLE", "Board", "Chip", "board", "board_as", "board_of"]

TENSIX_CYCLES = TileCycles(  # 4096 FLOP per cycle at LoFi; tt-metal, tech_reports/GEMM_FLOPS
    lofi=16,
    hifi2=32,
    hifi3=48,
    hifi4=64,
)

# Fitted to published speeds of models, as `ttt calibrate` does it; the rows are in ttt_factory/published_models.json.
HOST_TOKEN_US = 5600  # all that is left of a decode step, from 1B on one chip to 70B on eight
HOST_CALL_US = 64  # prefills that are bound by no chip; 17 to 50 are published of ttnn.matmul alone

# From tt-metal unless said: tech_reports/LLMs/llms.md and Saturating_DRAM_bandwidth, GEMM_FLOPS, CCLs; the NoC rates from
# tests/tt_metal/tt_metal/data_movement/python/test_mappings/test_bounds.yaml.
WORMHOLE_RATES = Rates(
    dram_streamed=0.83,  # 239 to 260 of 288 GB/s in decode matmuls
    dram_interleaved=0.66,  # 190 of 288 GB/s, a rule of thumb of llms.md
    dram_request_cycles=6.8,  # issue 55898
    matrix_efficiency=0.90,  # bfp8 HiFi2 and bf16 HiFi4, GEMM_FLOPS
    matrix_streamed=0.72,  # not seen on Wormhole, whose banks are slower than the engines beside them
    matrix_bytes_per_cycle=86,  # bf16 HiFi2 and bfp8 LoFi stop at 65 to 70 %, GEMM_FLOPS; 80 by WormholeB0/TensixTile/L1.md
    unpack_bytes_per_cycle=80,  # tt-isa-documentation, WormholeB0/TensixTile/L1.md: both unpackers
    noc_bytes_per_cycle=28,
    multicast_bytes_per_cycle=22,
    sender_bytes_per_cycle=7.9,  # fitted to times to the first token; 7.4 to 8.6 in Galaxy prefill (prefill_128.json)
    program_us=1.7,  # 0.8 between traced ops of a decoder, 0.9 the shortest kernel: galaxy Llama-70B targets
    multicast_us=3.5,  # GEMM_FLOPS, smallest shapes
    hop_us=0.71,  # fabric latency goldens
    link_efficiency=0.96,
    reduce_efficiency=0.89,  # 11.1 of 12.5 GB/s: CCLs/results
    multicast_gb_per_s=11.7,  # fabric bandwidth goldens, t3k and galaxy: 10.1 with four links at a time
    collective_us=2.1,  # CCLs/results: 4.5 of an all_gather, 3.2 of a reduce_scatter, less program_us
    token_us=HOST_TOKEN_US,
    call_us=HOST_CALL_US,
)
BLACKHOLE_RATES = Rates(
    dram_streamed=0.80,  # 410 of 512 GB/s beside LoFi: issue 50662; with two readers a bank 460: issue 54242
    dram_interleaved=0.78,  # 400 of 512 GB/s: issue 55898
    dram_request_cycles=16.4,  # issue 55898
    matrix_efficiency=0.90,
    matrix_streamed=0.72,  # fitted; 0.77 by 282 GB/s of bfp8 at HiFi2 with one reader a bank: issues 54242, 50662
    matrix_bytes_per_cycle=115,  # bfp8 LoFi reaches 83 %, bf16 HiFi2 90 %: GEMM_FLOPS
    unpack_bytes_per_cycle=80,
    noc_bytes_per_cycle=59,
    multicast_bytes_per_cycle=39,
    sender_bytes_per_cycle=23,  # GEMM_FLOPS, 640 rows by a weight in DRAM
    program_us=1.7,  # 1.0 between traced ops, 0.7 the shortest kernel, scaled by the clock
    multicast_us=6.5,  # GEMM_FLOPS, smallest shapes
    hop_us=0.52,
    link_efficiency=0.96,
    reduce_efficiency=0.78,  # 39 of 50 GB/s: CCLs/results
    multicast_gb_per_s=29.5,  # fabric bandwidth goldens, p150_x4
    collective_us=0.5,  # CCLs/results: 2.8 of an all_gather, 1.0 of a reduce_scatter, less program_us
    token_us=HOST_TOKEN_US,
    call_us=HOST_CALL_US,
)

WORMHOLE = Chip(
    arch="wormhole_b0",  # open device
    grid=(8, 8),  # open device
    l1_bytes_per_core=1_393_312,  # open device
    l1_program_bytes=1_499_136,  # ttnn's message when circular buffers pass it
    l1_alignment=16,  # open device
    dram_banks=12,  # open device
    dram_bytes_per_bank=1_072_693_184,  # open device
    dram_alignment=32,  # open device
    dram_gb_per_s=288.0,  # Wormhole data sheet: 12 GT/s, 192 bits
    clock_hz=1_000_000_000,  # Wormhole data sheet: AI clock 1 GHz
    tile_cycles=TENSIX_CYCLES,
    rates=WORMHOLE_RATES,
)
WORMHOLE_GALAXY = replace(WORMHOLE, grid=(8, 9))  # open device: no row harvested, one row dispatches

BLACKHOLE = Chip(
    arch="blackhole",  # open device
    grid=(11, 10),  # open device: 120 cores, of which one column dispatches
    other_grids=((12, 10), (13, 10)),  # 130 or 140 cores: cards before tt-system-firmware 19.5.0, which makes all 120
    l1_bytes_per_core=1_461_120,  # open device
    l1_program_bytes=1_572_864,  # ttnn's message when circular buffers pass it
    l1_alignment=16,  # open device
    dram_banks=8,  # open device
    dram_bytes_per_bank=4_277_141_376,  # open device
    dram_alignment=64,  # open device
    dram_gb_per_s=512.0,  # Blackhole data sheet: 16 GT/s, 256 bits
    clock_hz=1_350_000_000,  # Blackhole data sheet: AI clock up to 1.35 GHz
    tile_cycles=TENSIX_CYCLES,
    rates=BLACKHOLE_RATES,
)
BLACKHOLE_13_COLUMNS = replace(BLACKHOLE, grid=(12, 10), other_grids=((11, 10), (13, 10)))  # open device
BLACKHOLE_P100 = replace(
    BLACKHOLE,
    other_grids=(),  # Blackhole data sheet: p100a has 120 Tensix cores
    dram_banks=7,  # open device
    dram_gb_per_s=448.0,  # Blackhole data sheet
)
BLACKHOLE_GALAXY = replace(
    BLACKHOLE_13_COLUMNS,
    dram_gb_per_s=448.0,  # 14 GT/s, 256 bits; tenstorrent/tt-blacksmith issue 686
)

WORMHOLE_LINK = 12.5  # GB/s: 100 Gbit/s; tt-metal, tech_reports/CCLs/CCL_bandwidth.md
BLACKHOLE_LINK = 50.0  # GB/s: 400 Gbit/s; as before
BLACKHOLE_GALAXY_LINK = 25.0  # GB/s: runs at half rate; as before

# One of a Wormhole die's ten rows of Tensix cores. An n300 has two off (data sheet: 64 cores per chip) and dispatches from
# Ethernet cores. The mock is told one: with two, ops refuse the last row (ttnn: "The compute worker grid on this device is 8x7").
ONE_ROW = 0b100_0000
# Columns of Tensix cores, of 14.
ONE_COLUMN, TWO_COLUMNS = 0b10, 0b110
TWO_ETHERNET_CORES = 0x120  # of 14; tt-umd, tests/cluster_descriptor_examples/blackhole_P150.yaml
PCIE_1 = 0b10  # of two: tt-umd refuses to open a p150, or the left chip of a p300, with this one on
PCIE_0 = 0b01  # the other: off on the right chip of a p300

N300_CARD = Wiring(
    card="n300",
    product_code=0x14,  # tt-umd
    chips_per_card=2,  # Wormhole data sheet
    remote_chips=True,  # Wormhole data sheet: one PCIe link per card
    cables=2,  # mesh graph n300, t3k
    tensix_off=ONE_ROW,
)
P150_CARD = Wiring(
    card="p150",
    product_code=0x40,  # tt-umd: p150a
    tensix_off=TWO_COLUMNS,
    ethernet_off=TWO_ETHERNET_CORES,
    pcie_off=(PCIE_1,),
)

N150 = Board(
    name="n150",
    system="N150",  # open device
    chip=WORMHOLE,
    mesh=(1, 1),
    shapes=((1, 1),),
    wiring=Wiring(
        card="n150",
        product_code=0x18,  # tt-umd
        tensix_off=ONE_ROW,  # Wormhole data sheet: 72 of the die's 80 Tensix cores
    ),
)
N300 = Board(
    name="n300",
    system="N300",  # open device
    chip=WORMHOLE,
    mesh=(1, 2),
    shapes=((1, 2), (2, 1)),
    links=1,  # open device: one of two carries dispatch to the chip without PCIe
    link_gb_per_s=WORMHOLE_LINK,
    wiring=replace(N300_CARD, chips=(1, 2)),
)
T3K = Board(
    name="t3k",
    system="T3K",  # open device
    chip=WORMHOLE,
    mesh=(1, 8),
    shapes=((1, 8), (8, 1), (2, 4), (4, 2)),
    links=1,  # open device: one of two carries dispatch to the chips without PCIe
    link_gb_per_s=WORMHOLE_LINK,
    wiring=replace(N300_CARD, chips=(2, 4)),  # mesh graph t3k
)
TG = Board(
    name="tg",
    system="GALAXY",  # open device
    chip=WORMHOLE_GALAXY,
    mesh=(8, 4),
    shapes=((8, 4), (4, 8), (1, 32), (32, 1)),
    links=4,  # open device
    link_gb_per_s=WORMHOLE_LINK,
    wiring=Wiring(
        card="ubb_wormhole",
        product_code=0x35,  # tt-umd
        chips=(8, 4),  # mesh graph single_galaxy
        chips_per_card=8,  # tt-metal, tt_metal/fabric/control_plane.cpp: four trays
        cables=4,  # mesh graph single_galaxy
    ),
)
P100 = Board(
    name="p100",
    system="P100",  # open device
    chip=BLACKHOLE_P100,
    mesh=(1, 1),
    shapes=((1, 1),),
    wiring=Wiring(
        card="p100",
        product_code=0x43,  # tt-umd: p100a
        tensix_off=TWO_COLUMNS,  # Blackhole data sheet: 120 of the die's 140 Tensix cores
        dram_off=0b1,  # Blackhole data sheet: 28 of 32 GB
        ethernet_off=TWO_ETHERNET_CORES,
    ),
)
P150 = Board(
    name="p150",
    system="P150",  # open device
    chip=BLACKHOLE,
    mesh=(1, 1),
    shapes=((1, 1),),
    wiring=P150_CARD,
)
P300 = Board(
    name="p300",
    system="P300",  # open device
    chip=replace(BLACKHOLE, other_grids=()),
    mesh=(1, 2),
    shapes=((1, 2), (2, 1)),
    links=2,  # open device
    link_gb_per_s=BLACKHOLE_LINK,
    wiring=Wiring(
        card="p300",
        product_code=0x44,  # tt-umd
        chips=(1, 2),  # mesh graph p300
        chips_per_card=2,  # mesh graph p300
        cables=2,  # mesh graph p300
        tensix_off=TWO_COLUMNS,
        ethernet_off=TWO_ETHERNET_CORES,
        pcie_off=(PCIE_1, PCIE_0),
    ),
)
P150X4 = Board(
    name="p150x4",
    system="P150_X4",  # open device
    chip=BLACKHOLE,
    mesh=(1, 4),
    shapes=((1, 4), (4, 1), (2, 2)),
    links=4,  # open device
    link_gb_per_s=BLACKHOLE_LINK,
    wiring=replace(P150_CARD, chips=(2, 2), cables=4),  # mesh graph p150_x4
)
P150X8 = Board(
    name="p150x8",
    system="P150_X8",  # open device
    chip=BLACKHOLE_13_COLUMNS,
    mesh=(1, 8),
    shapes=((1, 8), (8, 1), (2, 4), (4, 2)),
    links=2,  # open device
    link_gb_per_s=BLACKHOLE_LINK,
    wiring=replace(P150_CARD, chips=(2, 4), cables=2, tensix_off=ONE_COLUMN),  # mesh graph p150_x8
)
BH_GALAXY = Board(
    name="bh-galaxy",
    system="BLACKHOLE_GALAXY",  # open device
    chip=BLACKHOLE_GALAXY,
    mesh=(8, 4),
    shapes=((8, 4), (4, 8), (1, 32), (32, 1)),
    links=2,  # open device
    link_gb_per_s=BLACKHOLE_GALAXY_LINK,
    wiring=Wiring(
        card="ubb_blackhole",
        product_code=0x47,  # tt-umd
        chips=(8, 4),  # mesh graph single_bh_galaxy
        chips_per_card=8,  # tt-metal, tt_metal/fabric/control_plane.cpp: four trays
        cables=2,  # mesh graph single_bh_galaxy
        tensix_off=ONE_COLUMN,
        ethernet_off=TWO_ETHERNET_CORES,
    ),
)

BOARDS: dict[str, Board] = {
    record.name: record for record in (N150, N300, T3K, TG, P100, P150, P300, P150X4, P150X8, BH_GALAXY)
}
"""Every board, by name."""

_VARIANT = re.compile(r"([np](?:100|150|300))[a-ds]")  # n300s, p150a: the same card with another cooler or connector
_known: dict[
    tuple[int, tuple[int, int], Rows], Board
] = {}  # mesh devices that have been compared; ttnn never reuses an id


def board(name: str) -> Board:
    """The record of a board, whatever the case of its name; p150a and the like are p150. Unknown names raise DeviceError."""
    wanted = name.lower()
    variant = _VARIANT.fullmatch(wanted)
    found = BOARDS.get(variant[1] if variant else wanted)
    if found is not None:
        return found
    import difflib  # slow to import, and only needed here

    close = difflib.get_close_matches(wanted, BOARDS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DeviceError(f"Unknown device {name!r}: ttt-hw knows {', '.join(BOARDS)}.{hint}")


def board_as(name: str, mesh: str | None) -> Board:
    """The record of a board opened as a mesh that people write as rows x columns, such as 2x4, or as 2x4:hidden where the rows
    split the hidden dim; None: its own shape.

    Errors: DeviceError for an unknown board, a text that is no shape, a shape that the board does not open as.
    """
    record = board(name)
    if mesh is None:
        return record
    found = re.fullmatch(r"(\d+)[x×](\d+)(?::(\w+))?", mesh.strip().lower())
    shape = (int(found[1]), int(found[2])) if found else None
    rows = (found[3] if found else None) or "replicas"
    if shape not in record.shapes or rows not in get_args(Rows):
        allowed = ", ".join(f"{rows}x{columns}" for rows, columns in record.shapes)
        raise DeviceError(
            f"{record.name} does not open as a mesh {mesh!r}: it opens as {allowed} (rows x columns), each with :hidden if the "
            "rows split the hidden dim."
        )
    return replace(record, mesh=shape, rows=cast("Rows", rows))


def board_of(mesh_device: Any) -> Board:
    """The record of an open mesh device, opened by `open_mesh` or by ttnn, with the shape that is open and what it reports.

    A record stands for itself, so that a block can be planned for a board that is not open. A device is compared with its
    record once, so asking again is cheap.
    Raises DeviceError where the device is none that ttt knows, or contradicts its record.
    """
    if isinstance(mesh_device, Board):
        return mesh_device
    shape = cast("tuple[int, int]", tuple(mesh_device.shape))
    rows: Rows = PROCESS.rows if mesh_device is PROCESS.mesh else "replicas"
    key = (mesh_device.id(), shape, rows)
    if key not in _known:
        ours = PROCESS.board if mesh_device is PROCESS.mesh else None
        _known[key] = as_reported(replace(ours or _recognise(mesh_device, shape), mesh=shape, rows=rows), mesh_device)
    return _known[key]


def _recognise(mesh_device: Any, shape: tuple[int, int]) -> Board:
    """A device that the user opened: the board that ttnn names the cluster after, else one with its chip and shape."""
    import ttnn

    arch = mesh_device.arch().name.lower()
    system = ttnn.cluster.get_cluster_type().name
    for record in BOARDS.values():
        if record.system == system and record.chip.arch == arch:
            return record
    for record in BOARDS.values():
        if shape in record.shapes and record.chip.arch == arch:
            return record
    known = ", ".join(f"{record.name} ({record.chip.arch}, {record.system})" for record in BOARDS.values())
    raise DeviceError(
        f"The open device is none that ttt-hw knows: {arch}, {system}, mesh {shape[0]}×{shape[1]}; known are {known}. "
        "Open one of these with ttt_hw.open_mesh."
    )
