"""Drawings: what they show, that each shard is on its core, and how long they take."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import pytest

from ttt_shard_dsl import Device, Placement, Spec, parse, to_svg, to_terminal

N150 = Device((8, 8), 12, 1_393_312, 1_072_693_184)
T3K = N150._replace(mesh=(1, 8))
BIG = Device((12, 10), 8, 1_393_312, 4 << 30, mesh=(8, 4))
SVG = "{http://www.w3.org/2000/svg}"


def place(text: str, *shape: int, device: Device = N150) -> tuple[Spec, Placement]:
    spec = parse(text)
    return spec, spec.place(shape, device=device)


def plain(text: str, *shape: int, device: Device = N150) -> str:
    spec, placement = place(text, *shape, device=device)
    return to_terminal(placement, device=device, spec=spec, colour=False)


def test_mesh_and_blocks_in_a_terminal() -> None:
    device = Device((4, 3), 12, 1_393_312, 1_072_693_184, mesh=(2, 2))
    assert plain("1 b@cols s@core.y d@rows@core.x in l1", 1, 2, 64, 512, device=device) == (
        """\
mesh of 2×2 chips
  each chip holds 1×1×64×256 of 1×2×64×512
      col 0 col 1
row 0  0,0   0,1
row 1  1,0   1,1

 0,·  d 0:256     1,·  d 256:512   ·,0  b 0:1       ·,1  b 1:2

each chip: 4×3 cores
  block sharded: 8 shards of 32×64
  4,096 bytes on each of the cores that hold a part
     x0   x1   x2   x3
y0  0,0  0,1  0,2  0,3
y1  1,0  1,1  1,2  1,3
y2   ·    ·    ·    ·

 0,·  s 0:32      ·,0  d 0:64      ·,2  d 128:192
 1,·  s 32:64     ·,1  d 64:128    ·,3  d 192:256
"""
    )


def test_order_of_cores_and_padding_of_the_last_shard() -> None:
    assert plain("1 1 s d@core in l1 on 2-1..3-2,0-0..3-0:col", 1, 1, 32, 170, device=N150._replace(grid=(4, 3))) == (
        """\
one chip: 4×3 cores
  width sharded: 6 shards of 32×32, down the columns
  2,048 bytes on each of the cores that hold a part
    x0  x1  x2  x3
y0  4   5   ·   ·
y1  ·   ·   0   2
y2  ·   ·   1   3

 0  d 0:32                   2  d 64:96                  4  d 128:160
 1  d 32:64                  3  d 96:128                 5  d 160:170 + 22 padding
"""
    )


def test_padding_in_the_mesh_and_in_a_picture() -> None:
    spec, placement = place("1 1 k n|384@cols@bank", 1, 1, 64, 300, device=T3K)
    drawn = to_terminal(placement, device=T3K, spec=spec, colour=False)
    assert " 6  n 288:300 + 36 padding" in drawn
    assert " 7  n padding" in drawn
    assert "the text pads" not in drawn  # other chips have none
    spec, placement = place("1 1 k n|384@bank in dram", 1, 1, 64, 300)
    texts = [
        element.text for element in ElementTree.fromstring(to_svg(placement, device=N150, spec=spec)).iter(SVG + "text")
    ]
    at = texts.index("n 288:300")
    assert texts[at + 1] == "+ 20 padding"
    assert texts.count("n padding") == 2


def test_replicas_pending_sums_and_interleaved_pages() -> None:
    assert plain("1 1 s d +cols", 1, 1, 64, 64, device=T3K._replace(dram_banks=3)) == (
        """\
mesh of 1×8 chips
  each chip holds 1×1×64×64 of 1×1×64×64: every chip all of it
  a sum over the cols is pending
      col 0 col 1 col 2 col 3 col 4 col 5 col 6 col 7
row 0   0     0     0     0     0     0     0     0

each chip: 3 DRAM banks
  interleaved: page p, a tile, is in bank p mod 3; 4 pages of 2,048 bytes
  4,096 bytes on each of the DRAM banks that hold a part
  bank 0 bank 1 bank 2
    0      1      2
"""
    )
    assert "and 8 chips hold the same part" in plain("1 b@cols s d", 1, 4, 32, 64, device=BIG)


def test_all_chips_of_a_mesh_and_several_shards_on_a_core() -> None:
    device = Device((3, 1), 12, 1_393_312, 1_072_693_184, mesh=(2, 2))
    assert plain("b@core s d@rows@cols@core in l1", 4, 32, 256, device=device) == (
        """\
mesh of 2×2 chips
  each chip holds 4×32×64 of 4×32×256
      col 0 col 1
row 0   0     1
row 1   2     3

 0  d 0:64      1  d 64:128    2  d 128:192   3  d 192:256

each chip: 3×1 cores
  height sharded: 2 shards of 64×64
  8,192 bytes on each of the cores that hold a part
    x0  x1  x2
y0  0   1   ·

 0  b 0:2   1  b 2:4
"""
    )
    drawn = plain("s d~core:32 in l1", 32, 32 * 200, device=device._replace(mesh=(1, 1)))
    assert "200 shards of 32×32, up to 67 on one, dealt in turn" in drawn
    assert "\ny0  0 3 6…  1 4 7…  2 5 8…\n" in drawn
    assert "101  d 3232:3264   " in drawn
    assert "199  d 6368:6400" in drawn


@pytest.mark.parametrize(
    ("text", "shape", "ranges"),
    [
        ("1 b@core h d in l1", (1, 4, 8, 64), ["b 0:1", "b 3:4"]),
        ("(b h)@core s d in l1", (2, 4, 64, 64), ["(b h) 0:1", "(b h) 7:8"]),
        ("(b h s)@core d in l1", (2, 4, 64, 64), ["(b h s) 0:32", "(b h s) 480:512"]),
        ("1 1 s@core d in l1", (1, 1, 2040, 64), ["s 0:32", "s 2016:2040"]),
        ("2@core 4 s d in l1", (2, 4, 32, 64), ["dim0 0:1", "dim0 1:2"]),
        ("d@core", (1000,), ["d 0:32", "d 992:1000"]),
        ("1 1 s d|96", (1, 1, 32, 64), ["the text pads d by 32 to 96"]),
        ("1 b|8@core h d in l1", (1, 6, 8, 64), ["5  b 5:6", "6  b padding"]),
        (
            "1 1 k n|384@bank in dram",
            (1, 1, 64, 300),
            ["9  n 288:300 + 20 padding", "11  n padding", "the text pads n by 84 to 384"],
        ),
    ],
)
def test_ranges_of_rows(text: str, shape: tuple[int, ...], ranges: list[str]) -> None:
    drawn = plain(text, *shape)
    for each in ranges:
        assert each in drawn


def test_colours_only_when_asked_for() -> None:
    spec, placement = place("1 1 s d@core in l1", 1, 1, 32, 4096)
    coloured = to_terminal(placement, device=N150, spec=spec)
    assert "\x1b[38;2;0;0;0;48;2;" in coloured
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain("1 1 s d@core in l1", 1, 1, 32, 4096).splitlines()
    assert len(set(re.findall(r"48;2;\d+;\d+;\d+", coloured))) == 64


@pytest.mark.parametrize(
    ("text", "shape", "device"),
    [
        ("1 1 s d@core in l1", (1, 1, 32, 4096), T3K),
        ("1 1 s@core.x d@core.y in l1", (1, 1, 512, 2048), N150),
        ("b@cols 1 s@core d@rows in l1", (4, 1, 3200, 4096), BIG),
        ("1 1 k n@bank", (1, 1, 64, 4096), N150),
        ("1 1 s d in l1", (1, 1, 64, 128), N150),
    ],
)
def test_svg_has_each_shard_on_its_core(text: str, shape: tuple[int, ...], device: Device) -> None:
    spec, placement = place(text, *shape, device=device)
    drawn = to_svg(placement, device=device, spec=spec)
    assert drawn == to_svg(placement, device=device, spec=parse(text))
    root = ElementTree.fromstring(drawn)
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    boxes = [r for r in root.iter(f"{SVG}rect") if "rx" in r.attrib]
    cells = device.grid[0] * device.grid[1] if placement.memory == "l1" else device.dram_banks
    chips = device.mesh[0] * device.mesh[1]
    assert len(boxes) == cells + (chips if chips > 1 else 0)
    for box in boxes:
        assert int(box.attrib["x"]) + int(box.attrib["width"]) <= width
        assert int(box.attrib["y"]) + int(box.attrib["height"]) <= height
    on_chip = boxes[-cells:]
    columns = device.grid[0] if placement.memory == "l1" else device.dram_banks
    labels = {(int(t.attrib["x"]), int(t.attrib["y"])): t.text for t in root.iter(f"{SVG}text")}
    for number, (x, y) in enumerate(placement.cores):
        box = on_chip[y * columns + x].attrib
        label = labels[int(box["x"]) + (int(box["width"]) + 2) // 2 - 1, int(box["y"]) + 16]
        i, j = divmod(number, placement.shard_grid[1])
        assert label == (f"{i},{j}" if min(placement.shard_grid) > 1 else str(number))
    empty = sum(box.attrib["fill"] == "#eeeeee" for box in on_chip)
    assert empty == cells - (placement.num_shards or min(cells, 8))


def test_text_is_escaped() -> None:
    spec, placement = place("1 1 s d", 1, 1, 32, 32)
    named = spec._replace(dtype="<&>")  # no text gives this
    assert "as &lt;&amp;&gt;" in to_svg(placement, device=N150, spec=named)


def test_a_galaxy_is_checked_and_drawn_in_time() -> None:
    best = 1.0
    for width in range(4096, 4096 + 5 * 32, 32):  # nothing is met twice
        start = time.perf_counter()
        spec, placement = place("1 1 s@cols@core d@rows in l1", 1, 1, 4 * 3840, 8 * width, device=BIG._replace())
        assert placement.num_shards == 120
        to_svg(placement, device=BIG, spec=spec)
        to_terminal(placement, device=BIG, spec=spec)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05
