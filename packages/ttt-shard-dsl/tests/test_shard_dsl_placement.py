"""Placements worked out by hand, and what must hold of all of them."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given, settings, strategies as st

from ttt_shard_dsl import CoreRange, Device, Geometry, LayoutError, Page, Placement, parse

N150 = Device((8, 8), 12, 1_393_312, 1_072_693_184)
T3K = N150._replace(mesh=(1, 8))
GALAXY = N150._replace(mesh=(8, 4))


def place(text: str, *shape: int, device: Geometry = N150, dtype: str | None = None, tiled: bool = True) -> Placement:
    return parse(text).place(shape, device=device, dtype=dtype, tiled=tiled)


def test_width_sharded_activation() -> None:
    placed = place("1 1 s d@core in l1", 1, 1, 32, 4096, device=N150._replace(grid=(8, 4)))
    assert (placed.sharding, placed.shard_shape, placed.num_shards) == ("width", (32, 128), 32)
    assert placed.ranges == (CoreRange(0, 0, 7, 3),)
    assert placed.cores[:9] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (0, 1)]
    assert (placed.bytes_per_core, placed.bytes_per_bank) == (4 * 2048, 0)


def test_shards_that_fill_no_rectangle() -> None:
    placed = place("1 1 s d@core", 1, 1, 32, 20 * 32)
    assert placed.ranges == (CoreRange(0, 0, 7, 1), CoreRange(0, 2, 3, 2))


def test_cores_of_the_text_are_kept_and_those_with_a_shard_are_listed() -> None:
    placed = place("1 1 s d@core in l1 on 4-4..5-5,0-0..7-0:col", 1, 1, 32, 6 * 32)
    assert placed.ranges == (CoreRange(4, 4, 5, 5), CoreRange(0, 0, 7, 0))
    assert placed.cores == [(4, 4), (4, 5), (5, 4), (5, 5), (0, 0), (1, 0)]


def test_dram_sharded_weight() -> None:
    placed = place("1 1 k n|384@bank in dram as bfp8", 1, 1, 4096, 14336)
    assert (placed.sharding, placed.shard_shape, placed.num_shards) == ("width", (4096, 1216), 12)
    assert placed.ranges == (CoreRange(0, 0, 11, 0),)
    assert placed.chip_shape == (1, 1, 4096, 14592)
    assert placed.bytes_per_bank == 128 * 38 * 1088


def test_users_over_cores() -> None:
    placed = place("1 b@core h d in l1", 1, 32, 8, 128)
    assert (placed.sharding, placed.shard_shape, placed.num_shards) == ("height", (32, 128), 32)
    assert placed.padded_shape == (1, 32, 32, 128)


@pytest.mark.parametrize(
    ("text", "shard", "grid", "last"),
    [
        ("1 1 s@core.y d@core.x in l1", (256, 512), (8, 8), (7, 7)),
        ("1 1 s@core.x d@core.y in l1 on 1-0..4-7", (512, 512), (4, 8), (4, 7)),
        ("1 1 s@core.y:1024 d@core.x:2048 in l1", (1024, 2048), (2, 2), (1, 1)),
    ],
)
def test_blocks(text: str, shard: tuple[int, int], grid: tuple[int, int], last: tuple[int, int]) -> None:
    placed = place(text, 1, 1, 2048, 4096, dtype="bfp4")
    assert (placed.sharding, placed.shard_shape, placed.shard_grid, placed.cores[-1]) == ("block", shard, grid, last)


def test_mesh_then_cores() -> None:
    placed = place("b h@cols@core s d in l1", 1, 64, 32, 128, device=T3K)
    assert (placed.chip_shape, placed.num_shards, placed.mesh_dims) == ((1, 8, 32, 128), 8, (None, 1))


def test_two_mesh_axes() -> None:
    placed = place("1 b@cols s d@rows", 1, 8, 32, 4096, device=GALAXY)
    assert (placed.chip_shape, placed.mesh_dims, placed.memory) == ((1, 2, 32, 512), (3, 1), "dram")
    assert place("1 1 s d@rows +cols", 1, 1, 32, 4096, device=GALAXY).pending == ("cols",)


def test_interleaved_pages_are_dealt_over_banks() -> None:
    assert place("1 1 s d", 1, 1, 64, 1024, dtype="bfloat4_b").bytes_per_bank == 6 * 576
    assert place("1 1 s d in l1", 1, 1, 50, 7, tiled=False).bytes_per_core == 16
    assert place("1 1 s d", 1, 1, 50, 33, tiled=False, dtype="uint32").bytes_per_bank == 5 * 160
    assert place("d", 64).padded_shape == (32, 64)


def test_row_major_shards_fill_aligned_pages() -> None:
    placed = place("1 1 s d@core in l1", 1, 1, 5, 40, tiled=False)
    assert (placed.shard_shape, placed.num_shards, placed.bytes_per_core) == ((5, 8), 5, 5 * 16)


def test_a_group_is_cut_as_one_dim() -> None:
    placed = place("(b h s)@core:96 d in l1", 2, 3, 64, 128)
    assert (placed.shard_shape, placed.num_shards) == ((96, 128), 4)


@pytest.mark.parametrize(
    ("text", "sharding", "shard", "cores"),
    [
        ("1 1 s d~core in l1 on 0-0..2-0", "nd", (1, 1, 96, 32), [(0, 0), (1, 0), (2, 0), (0, 0)]),
        ("1 1 s d~core:64 in l1 on 2-2..5-2", "width", (96, 64), [(2, 2), (3, 2)]),
        ("1 1 s d@core:32 in l1 on 0-0..1-0:contiguous", "nd", (1, 1, 96, 32), [(0, 0), (0, 0), (1, 0), (1, 0)]),
        ("1 1 s@core d@core in l1 on 1-1..3-3", "nd", (1, 1, 32, 64), [(1, 1), (2, 1), (3, 1), (1, 2)]),
        ("1 1 s@core d@core in l1 on 1-1..4-3", "block", (32, 32), [(1 + i % 4, 1 + i // 4) for i in range(12)]),
        ("1 1 s@core d@core in l1 on 0-0..0-0,2-2..6-5", "nd", (1, 1, 32, 32), [(0, 0), (2, 2), (3, 2), (4, 2)]),
        ("1 1 s d@core.x in l1", "width", (96, 32), [(0, 0), (1, 0), (2, 0), (3, 0)]),
        ("1 1 s@core.y d in l1 on 5-1..5-7", "height", (32, 128), [(5, 1), (5, 2), (5, 3)]),
        ("1 1 s d@core.x@core.y in l1 on 2-2..3-3", "width", (96, 32), [(2, 2), (2, 3), (3, 2), (3, 3)]),
        ("1 1 s@bank d", "height", (32, 128), [(0, 0), (1, 0), (2, 0)]),
        ("1 1 s d@bank in dram on 9-0..10-0,4-0..5-0", "width", (96, 32), [(9, 0), (10, 0), (4, 0), (5, 0)]),
        ("1 1 s d~bank in dram on 9-0..10-0", "nd", (1, 1, 96, 32), [(9, 0), (10, 0), (9, 0), (10, 0)]),
    ],
)
def test_deals(text: str, sharding: str, shard: tuple[int, ...], cores: list[tuple[int, int]]) -> None:
    placed = place(text, 1, 1, 96, 128)
    assert (placed.sharding, placed.shard_shape) == (sharding, shard)
    assert placed.cores[: len(cores)] == cores


def test_a_dim_amid_others_is_cut_across_them() -> None:
    placed = place("b h s@core d in l1", 2, 4, 64, 128)
    assert (placed.sharding, placed.shard_shape, placed.num_shards) == ("nd", (2, 4, 32, 128), 2)
    assert place("b@core h@core s d in l1", 2, 4, 64, 128) == place("(b h)@core s d in l1", 2, 4, 64, 128)
    assert place("b@core.y h s@core.x d in l1", 2, 4, 64, 128).cores == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert place("(b h)~core:3 s~core d in l1 on 0-0..0-1", 2, 4, 64, 128).shard_shape == (3, 32, 128)


def test_bytes_are_those_of_the_core_with_most_shards() -> None:
    placed = place("1 1 s d~core in l1 on 0-0..2-0", 1, 1, 96, 128)
    assert (placed.shards_per_core, placed.bytes_per_core) == (2, 2 * 3 * 2048)


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("1 1 s d@core.x in l1", [((0, 0), 0), ((1, 0), 0), ((0, 0), 2048), ((1, 0), 2048)]),
        ("1 1 s d~core:32 in l1 on 3-3..3-3", [((3, 3), 0), ((3, 3), 4096), ((3, 3), 2048), ((3, 3), 6144)]),
        ("1 1 s d in dram", [((0, 0), 0), ((1, 0), 0), ((2, 0), 0), ((3, 0), 0)]),
    ],
)
def test_pages(text: str, pages: list[Page]) -> None:
    assert place(text, 1, 1, 64, 64).pages() == pages


def test_rows_are_pages_as_wide_as_a_shard() -> None:
    pages = place("1 1 s d@core:8 in l1", 1, 1, 2, 20, tiled=False).pages()
    assert pages == [((0, 0), 0), ((1, 0), 0), ((2, 0), 0), ((0, 0), 16), ((1, 0), 16), ((2, 0), 16)]


def test_one_dim_over_all_chips() -> None:
    placed = place("1 1 k n@rows@cols", 1, 1, 32, 4096, device=GALAXY)
    assert (placed.chip_shape, placed.mesh_dims, placed.whole_shape((8, 4))) == ((1, 1, 32, 128), (3, 3), placed.shape)
    assert [index[3].start for index in placed.chip_slices((8, 4))] == [128 * chip for chip in range(32)]


def test_equal_placements_are_equal_however_written() -> None:
    device = N150._replace(grid=(8, 4))
    assert place("1 1 s d@core", 1, 1, 32, 4096, device=device) == place(
        "1 1 32 x@core:128 in l1 as bf16", 1, 1, 32, 4096, device=device
    )


def test_capacity_is_exact() -> None:
    pages = N150.l1_bytes_per_core // 2048
    assert place("1 1 s d in l1", 1, 1, 32, 32 * 64 * pages).bytes_per_core == pages * 2048
    with pytest.raises(LayoutError, match=f"{(pages + 1) * 2048} bytes on each core but l1 has 1393312"):
        place("1 1 s d in l1", 1, 1, 32, 32 * (64 * pages + 1))


def test_repr() -> None:
    assert repr(place("1 1 k n@cols@bank as bfp8", 1, 1, 4096, 14336, device=T3K)) == (
        "<Placement 1×1×4096×14336 bfloat8_b tiles as 1×1×4096×1792 a chip: "
        "12 width shards of 4096×160 in dram on 0-0..11-0, 696,320 B a bank>"
    )
    assert repr(place("d", 64)) == "<Placement 64 bfloat16 tiles: interleaved in dram, 2,048 B a bank>"


TEXTS = st.sampled_from(
    ["1 1 s@core{} d in l1", "1 1 s d@core{} in l1", "1 1 s@core.y{} d@core.x in l1", "1 1 s d@bank{} in dram"]
)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 3000), st.integers(1, 3000), st.booleans(), st.none() | st.integers(1, 400))
def test_shards_cover_the_tensor_without_a_spare_one(
    text: str, rows: int, width: int, tiled: bool, block: int | None
) -> None:
    device = N150._replace(l1_bytes_per_core=10**9)
    text = text.format("" if block is None else f":{block}")
    try:
        placed = place(text, 1, 1, rows, width, device=device, tiled=tiled)
    except LayoutError as error:  # the layout that the message proposes is legal
        dim = error.choices.removeprefix("nearest valid: ")
        wrong = next(word for word in text.split() if f":{block}" in word)
        place(text.replace(wrong, dim), 1, 1, rows, width, device=device, tiled=tiled)
        return
    assert placed.shard_shape is not None
    stored = (prod(placed.padded_shape[:-1]), placed.padded_shape[-1])
    for size, shard, number in zip(stored, placed.shard_shape, placed.shard_grid, strict=True):
        assert (number - 1) * shard < size <= number * shard
    assert len(set(placed.cores)) == placed.num_shards == len(placed.cores)
    assert {core for r in placed.ranges for core in _cores(r)} >= set(placed.cores)


def _cores(r: CoreRange) -> list[tuple[int, int]]:
    return [(x, y) for x in range(r.x0, r.x1 + 1) for y in range(r.y0, r.y1 + 1)]
