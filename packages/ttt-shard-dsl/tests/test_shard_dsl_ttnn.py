"""Placements against the allocator of ttnn itself, on a mock device: accepted, same config, same bytes, same cores."""

from __future__ import annotations

import importlib.util
import random
import re
from math import prod
from typing import Any

import pytest

from ttt_shard_dsl import CoreRange, Device, LayoutError, Placement, memory_config, parse, spec_of

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


CAPACITY = 96
TOO_LARGE = (
    "a b c d in l1",
    "a b c d",
    "1 1 s d@core in l1",
    "1 1 s@core d in l1 on 3-2..5-2,0-0..1-0:col",
    "(a b c)@core d in l1",
    "(a b c)@core.y d@core.x in l1",
    "(a b c)@core.x d@core.y in l1 on 2-1..5-6",
    "a b~core c~core:64 d~core in l1",
    "1 1 s@core:32 d in l1 on 0-0..0-0:contiguous",
    "a b c d@bank in dram",
    "(a b c)@bank d in dram on 2-0..3-0",
    "a b~bank c~bank:96 d in dram",
)


def too_large(rng: random.Random, device: Device, text: str) -> tuple[tuple[int, ...], str, bool, LayoutError]:
    """A tensor that does not fit as the text says, and what `place` says."""
    while True:
        ones = text.startswith("1 1")
        tiled = rng.random() < 0.7
        dtype = rng.choice([d for d in DTYPES if tiled or not d.endswith("_b")])
        leading = (1, 1) if ones else (rng.randrange(1, 3), rng.randrange(1, 6))
        rows = rng.randrange(1, 20000)
        width = rng.randrange(1, 20000 if ones else 4000)
        if "in l1" not in text:
            width = int((1 << 32) / prod(leading) / rows * rng.uniform(0.5, 0.99))
        shape = (*leading, rows, width)
        try:
            parse(text).place(shape, device=device, dtype=dtype, tiled=tiled)
        except LayoutError as error:
            if "bytes on each" in error.reason:
                return shape, dtype, tiled, error


def test_capacity_errors_have_the_figures_of_ttnn(mesh: Any, device: Device) -> None:
    import ttnn

    from ttt_hw.errors import OutOfMemory, translate

    roomy = device._replace(l1_bytes_per_core=1 << 50, dram_bytes_per_bank=1 << 50)
    for seed in range(CAPACITY):
        text = TOO_LARGE[seed % len(TOO_LARGE)]
        shape, dtype, tiled, ours = too_large(random.Random(f"capacity {seed}"), device, text)
        config = memory_config(text, shape=shape, device=roomy, dtype=dtype, tiled=tiled)
        layout = ttnn.TILE_LAYOUT if tiled else ttnn.ROW_MAJOR_LAYOUT
        with pytest.raises(RuntimeError, match="Out of Memory") as raised:
            ttnn.empty(list(shape), getattr(ttnn, dtype), layout, mesh, config)
        theirs = translate(raised.value, where="a test")
        assert isinstance(theirs, OutOfMemory)
        wanted, capacity = map(int, re.findall(r"\d{2,}", ours.reason))
        assert (wanted, capacity) == (theirs.wanted, theirs.available), (text, shape, dtype, tiled)


@pytest.mark.parametrize(
    "text", ["1 1 s d in l1", "1 1 s d@core in l1", "1 1 s@core:32 d in l1 on 3-3..3-3:contiguous"]
)
def test_what_just_fits_is_allocated_and_a_page_more_is_refused(mesh: Any, device: Device, text: str) -> None:
    import ttnn

    shape = [1, 1, 32, 32]
    while True:  # the tallest or widest that is legal
        grown = shape.copy()
        grown[2 if "s@" in text else 3] += 32 * (1 if "s@" in text else 64)
        try:
            placement = parse(text).place(grown, device=device)
        except LayoutError:
            break
        shape = grown
    placement = parse(text).place(shape, device=device)
    ttnn.deallocate(ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, placement.to_memory_config()))
    roomy = device._replace(l1_bytes_per_core=1 << 40)
    config = memory_config(text, shape=grown, device=roomy)
    with pytest.raises(RuntimeError, match="Out of Memory"):
        ttnn.empty(grown, ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, config)


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


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1 1 s d in l1", "1 1 s d in l1 as bfloat16"),
        ("1 1 s d@core in l1", "1 1 s d@core:32 in l1 on 0-0..7-0,0-1..3-1 as bfloat16"),
        ("1 1 s@core d in l1 on 1-1..2-7:col", "1 1 s@core:32 d in l1 on 1-1..2-7:col as bfloat16"),
        ("1 1 s@core.y d@core.x in l1", "1 1 s@core.y:32 d@core.x:64 in l1 on 0-0..5-2 as bfloat16"),
        ("1 1 s@core.x d@core.y in l1", "1 1 s@core.x:32 d@core.y:64 in l1 on 0-0..2-5 as bfloat16"),
        ("1 1 s d@bank", "1 1 s d@bank:32 in dram on 0-0..11-0 as bfloat16"),
        ("1 1 s~core d~core:96 in l1 on 0-0..4-0", "1 1 s~core:32 d~core:96 in l1 on 0-0..4-0 as bfloat16"),
        (
            "1 1 s d@core:32 in l1 on 0-0..3-0:contiguous",
            "1 1 s d@core:32 in l1 on 0-0..3-0:contiguous as bfloat16",
        ),
    ],
)
def test_a_config_in_the_language(device: Device, text: str, spec: str) -> None:
    shape = (1, 1, 96, 384)
    config = memory_config(text, shape=shape, device=device)
    found = spec_of(config, shape=shape, device=device, dtype="bf16", tiled=True)
    assert str(found) == spec
    assert found.place(shape, device=device) == parse(text).place(shape, device=device)


def test_what_has_no_text() -> None:
    import ttnn

    cores = ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(3, 0))])
    height = ttnn.TensorMemoryLayout.HEIGHT_SHARDED
    device = Device((8, 8), 12, 1_393_312, 1_072_693_184)

    def reason(config: Any, *shape: int, dtype: str = "bfloat16") -> str:
        with pytest.raises(LayoutError) as error:
            spec_of(config, shape=shape, device=device, dtype=dtype, tiled=True)
        return str(error.value)

    tall = ttnn.ShardSpec(cores, [64, 64], ttnn.ShardOrientation.ROW_MAJOR)
    assert reason(ttnn.MemoryConfig(height, ttnn.BufferType.L1, tall), 64) == (
        "shards of 64×64 have no text for a tensor of shape (64,)\n"
        "  d@core:64 in l1 on 0-0..3-0 as bfloat16\n  nearest valid: shards of 32×64"
    )
    assert reason(ttnn.MemoryConfig(height, ttnn.BufferType.L1), 64) == (
        "a MemoryConfig of HEIGHT_SHARDED has no shard spec\n  allowed: ShardSpec, NdShardSpec"
    )
    assert "'float' is not a dtype" in reason(ttnn.DRAM_MEMORY_CONFIG, 64, dtype="float")
    wide = ttnn.MemoryConfig(ttnn.BufferType.L1, ttnn.NdShardSpec(ttnn.Shape([1, 1, 1, 32, 32]), cores))
    assert "shards of 5 dims for a tensor of 2" in reason(wide, 64, 64)
    small = ttnn.ShardSpec(cores, [32, 64], ttnn.ShardOrientation.ROW_MAJOR)
    assert "8 blocks of 32 but 'core' has 4" in reason(ttnn.MemoryConfig(height, ttnn.BufferType.L1, small), 256, 64)
    narrow = ttnn.ShardSpec(cores, [32, 32], ttnn.ShardOrientation.ROW_MAJOR)
    assert "have no text" in reason(ttnn.MemoryConfig(height, ttnn.BufferType.L1, narrow), 64, 64)
