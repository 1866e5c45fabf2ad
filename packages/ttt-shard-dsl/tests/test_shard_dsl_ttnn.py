"""Placements against the allocator of ttnn itself, on a mock device: accepted, same config, same bytes, same cores."""

from __future__ import annotations

import importlib.util
import random
import re
from math import prod
from typing import Any

import pytest

from ttt_shard_dsl import CoreRange, Device, LayoutError, Placement, memory_config, parse

if importlib.util.find_spec("ttnn") is None or importlib.util.find_spec("ttt_hw") is None:
    pytest.skip("needs ttnn and ttt-hw", allow_module_level=True)

DTYPES = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b", "uint32", "int32", "uint16")
BATCH, CASES = 40, 10


@pytest.fixture(scope="module")
def device(mesh: Any) -> Device:
    import ttnn

    grid = mesh.compute_with_storage_grid_size()
    sizes = [
        ttnn.get_memory_view(mesh, kind).total_bytes_per_bank for kind in (ttnn.BufferType.L1, ttnn.BufferType.DRAM)
    ]
    return Device((grid.x, grid.y), mesh.dram_grid_size().x, *sizes)


def random_case(rng: random.Random) -> tuple[str, tuple[int, ...], str, bool]:
    """A text, a shape, a dtype, tiled or not; not always legal."""
    tiled = rng.random() < 0.65
    dtype = rng.choice([d for d in DTYPES if tiled or not d.endswith("_b")])
    unit = 32 if tiled else 1

    def block(size: int) -> str:
        return rng.choice(["", f":{size * rng.randrange(1, 20)}"])

    on = ""
    blocks = rng.random() < 0.3
    if rng.random() < 0.4:
        corners = [(rng.randrange(8), rng.randrange(8)) for _ in range(1 if blocks else rng.randrange(1, 4))]
        ranges = [CoreRange(x, y, rng.randrange(x, 8), rng.randrange(y, 8)) for x, y in corners]
        on = f" on {','.join(map(str, ranges))}{'' if blocks else rng.choice(['', ':col'])}"
    text = rng.choice(
        [
            f"(a b c)@core.y{block(unit)} d@core.x{block(unit)} in l1{on}",
            f"(a b c)@core.x{block(unit)} d@core.y{block(unit)} in l1{on}",
        ]
        if blocks
        else [
            "a b c d",
            "a b c d in l1",
            f"a b c d@core{block(unit)} in l1{on}",
            f"1 1 c@core{block(unit)} d in l1{on}",
            f"1 b@core{block(1)} c d in l1{on}",
            f"(a b)@core{block(1)} c d in l1{on}",
            f"(a b c)@core{block(unit)} d in l1{on}",
            f"a b c d{rng.choice(['', '|384'])}@bank{block(unit)} in dram",
        ]
    )
    shape = [
        rng.choice([1, 2, 3]),
        rng.choice([1, 4, 33]),
        rng.choice([1, 12, 32, 96, 200]),
        rng.choice([7, 64, 100, 2048]),
    ]
    for index, dim in enumerate(parse(text).dims[:2]):
        if dim.size:
            shape[index] = 1
    return text, tuple(shape), dtype, tiled


def page_cores(placement: Placement) -> dict[int, tuple[int, int]]:
    """The core of each page, by `cores`: pages are numbered along the rows of what ttnn stores."""
    assert placement.shard_shape is not None
    height, width = placement.shard_shape
    page_height, page_width = (32, 32) if placement.tiled else (1, width)
    rows, columns = prod(placement.padded_shape[:-1]) // page_height, placement.padded_shape[-1] // page_width
    across = placement.shard_grid[1]
    cores = placement.cores
    return {
        i * columns + j: cores[i * page_height // height * across + j * page_width // width]
        for i in range(rows)
        for j in range(columns)
    }


def attributes(config: Any) -> tuple[object, ...]:
    """ttnn's own equality is no key: it lets configs be equal that hash apart, and the other way round."""
    spec = config.shard_spec
    if spec is None:
        return config.memory_layout, config.buffer_type
    ranges = [(r.start.x, r.start.y, r.end.x, r.end.y) for r in spec.grid.ranges()]
    return config.memory_layout, config.buffer_type, ranges, tuple(spec.shape), spec.orientation


@pytest.mark.parametrize("seed", range(CASES))
def test_ttnn_allocates_what_the_placement_says(mesh: Any, device: Device, seed: int) -> None:
    import ttnn

    rng = random.Random(seed)
    checked = 0
    while checked < BATCH:
        text, shape, dtype, tiled = random_case(rng)
        try:
            placement = parse(text).place(shape, device=device, dtype=dtype, tiled=tiled)
        except LayoutError:
            continue
        checked += 1
        config = placement.to_memory_config()
        layout = ttnn.TILE_LAYOUT if tiled else ttnn.ROW_MAJOR_LAYOUT
        buffer = ttnn.BufferType.L1 if placement.memory == "l1" else ttnn.BufferType.DRAM
        tensor = ttnn.empty(list(placement.chip_shape), getattr(ttnn, dtype), layout, mesh, config)
        try:
            assert attributes(tensor.memory_config()) == attributes(config)
            assert tuple(tensor.padded_shape) == placement.padded_shape
            size = placement.bytes_per_core + placement.bytes_per_bank
            taken = ttnn.get_memory_view(mesh, buffer).total_bytes_allocated_per_bank
            assert taken == -(-size // 32) * 32, text  # the allocator rounds each buffer up to DRAM's alignment
            if placement.num_shards and placement.memory == "l1":  # there is no report of the pages in DRAM
                pages = ttnn._ttnn.reports.get_buffer_pages(mesh)
                assert {page.page_index: (page.core_x, page.core_y) for page in pages} == page_cores(placement), text
        finally:
            ttnn.deallocate(tensor)


def test_padding_of_a_sharded_dim_needs_no_padded_tensor(mesh: Any, device: Device) -> None:
    import ttnn

    shape = (1, 1, 64, 14336)
    config = memory_config("1 1 k n|384@bank in dram", shape=shape, device=device, dtype="bfloat8_b")
    tensor = ttnn.empty(list(shape), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh, config)
    try:
        assert attributes(tensor.memory_config()) == attributes(config)
        taken = ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank
        assert taken == 2 * 38 * 1088
    finally:
        ttnn.deallocate(tensor)


@pytest.mark.parametrize(
    ("text", "shape", "dtype", "tiled"),
    [
        ("1 1 s d in l1", (1, 1, 32000, 4096), "bfloat16", True),
        ("1 1 s d@core in l1", (1, 1, 4096, 32 * 64 * 11), "bfloat8_b", True),
        ("1 1 s@core d in l1 on 3-2..3-2", (1, 1, 87083, 8), "bfloat16", False),
        ("1 1 s@core.y d@core.x in l1", (1, 1, 32768, 8192), "float32", True),
    ],
)
def test_capacity_errors_have_the_figures_of_ttnn(
    mesh: Any, device: Device, text: str, shape: tuple[int, ...], dtype: str, tiled: bool
) -> None:
    import ttnn

    with pytest.raises(LayoutError) as ours:
        parse(text).place(shape, device=device, dtype=dtype, tiled=tiled)
    roomy = device._replace(l1_bytes_per_core=1 << 40)
    config = memory_config(text, shape=shape, device=roomy, dtype=dtype, tiled=tiled)
    layout = ttnn.TILE_LAYOUT if tiled else ttnn.ROW_MAJOR_LAYOUT
    with pytest.raises(RuntimeError, match="Out of Memory") as theirs:
        ttnn.empty(list(shape), getattr(ttnn, dtype), layout, mesh, config)
    figures = re.search(r"needs to store (\d+) B, but bank size is (\d+) B", str(theirs.value))
    assert figures is not None
    assert re.findall(r"\d{2,}", ours.value.reason) == list(figures.groups())


def test_partial_grids_are_those_of_ttnn(device: Device) -> None:
    import ttnn

    for count in range(1, 65):
        placement = parse("1 1 s d@core").place((1, 1, 32, 32 * count), device=device)
        theirs = ttnn.num_cores_to_corerangeset(count, ttnn.CoreCoord(*device.grid), row_wise=True)
        ours = placement.to_memory_config().shard_spec.grid
        assert [str(r) for r in ours.ranges()] == [str(r) for r in theirs.ranges()]


def test_the_catalogue_of_ttt_hw_is_a_geometry(device: Device) -> None:
    from ttt_hw import board

    n150 = board("n150")
    text, shape = "1 1 s d@core in l1", (1, 1, 32, 4096)
    assert parse(text).place(shape, device=n150) == parse(text).place(shape, device=device)
