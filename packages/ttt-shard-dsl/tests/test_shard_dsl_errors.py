"""Every message, whole: it is what the user reads."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from ttt_shard_dsl import Device, LayoutError, memory_config, parse, parse_rule, tile_bytes

N150 = Device((8, 8), 12, 1_393_312, 1_072_693_184)
T3K = N150._replace(mesh=(1, 8))
SMALL = N150._replace(grid=(8, 4))


def message(error: pytest.ExceptionInfo[LayoutError]) -> str:
    return str(error.value)


@dataclass(frozen=True)
class Case:
    text: str
    message: str
    shape: tuple[int, ...] = ()
    device: Device = N150
    tiled: bool = True
    dtype: str | None = None


GRAMMAR = [
    Case(
        "",
        "a layout begins with a dim, not the end\n  allowed: a name, an integer, (a b)",
    ),
    Case(
        "1 2d",
        """'2d' is neither a name nor a number
  1 2d
    ^^
  allowed: names, integers of up to 18 digits, and ( ) @ ~ | : + . , - .. ->""",
    ),
    Case(
        "s * d",
        """'*' has no meaning in a layout
  s * d
    ^
  allowed: names, integers of up to 18 digits, and ( ) @ ~ | : + . , - .. ->""",
    ),
    Case(
        "1 () d",
        """a group has no dims
  1 () d
    ^^
  allowed: one name or more, as (b h)""",
    ),
    Case(
        "1 (b 2) d",
        """a dim in a group is a name, not '2'
  1 (b 2) d
       ^
  allowed: one name or more, as (b h)""",
    ),
    Case(
        "s s",
        """two dims are named 's'
  s s
    ^
  nearest valid: s2""",
    ),
    Case(
        "(b in) d",
        """'in' is a keyword and cannot name a dim
  (b in) d
     ^^
  nearest valid: in_""",
    ),
    Case(
        "s@",
        """an axis is a name, not the end
  s@
    ^
  allowed: core, core.x, core.y, bank, rows, cols""",
    ),
    Case(
        "0 d",
        """the size of a dim is at least 1, not 0
  0 d
  ^
  nearest valid: 1""",
    ),
    Case(
        "s@core:x",
        """a block is an integer, not 'x'
  s@core:x
         ^
  allowed: an integer of at least 1""",
    ),
    Case(
        "s d +rows +rows",
        """the sum over 'rows' is pending twice
  s d +rows +rows
             ^^^^
  allowed: each axis once""",
    ),
    Case(
        "s d in l2",
        """'l2' is not a memory
  s d in l2
         ^^
  allowed: l1, dram""",
    ),
    Case(
        "s d in drm",
        """'drm' is not a memory
  s d in drm
         ^^^
  nearest valid: dram""",
    ),
    Case(
        "s d on 0-0..1-1",
        """'on' gives cores, but no memory is named before it
  s d on 0-0..1-1
      ^^
  nearest valid: in l1 on …""",
    ),
    Case(
        "s d in l1 on 3-0",
        """a core range has two corners, not the end
  s d in l1 on 3-0
                  ^
  nearest valid: 3-0..3-0""",
    ),
    Case(
        "s d in l1 on 3,0",
        """a core is column-row, not 3 and ','
  s d in l1 on 3,0
                ^
  allowed: x-y, as 7-3""",
    ),
    Case(
        "s d in l1 on 3-0..1-1",
        """the core range 3-0..1-1 ends before it starts
  s d in l1 on 3-0..1-1
               ^^^^^^^^
  nearest valid: 1-0..3-1""",
    ),
    Case(
        "s d in l1 on 0-0..1-1:row",
        """'row' is not an order of cores
  s d in l1 on 0-0..1-1:row
                        ^^^
  allowed: col, contiguous""",
    ),
    Case(
        "s d in l1 on 0-0..1-1:contiguous:col",
        """':col' stands in the wrong place
  s d in l1 on 0-0..1-1:contiguous:col
                                   ^^^
  allowed: :col:contiguous""",
    ),
    Case(
        "s d as bfloat8",
        """'bfloat8' is not a dtype
  s d as bfloat8
         ^^^^^^^
  nearest valid: bfloat8_b""",
    ),
    Case(
        "s d as bf16 in l1",
        """'in' does not continue the layout
  s d as bf16 in l1
              ^^
  allowed, in this order: dims, +axis, in l1|dram, on cores, as dtype""",
    ),
    Case(
        "s d@rows -> s d",
        """'->' makes this a rule of two layouts
  s d@rows -> s d
           ^^
  allowed: parse_rule, for a rule""",
    ),
]

PLACEMENT = [
    Case(
        "1 1 s d@core:64 in l1",
        """64 blocks of 64 but 'core' has 32
  1 1 s d@core:64 in l1
          ^^^^
  nearest valid: d@core:128""",
        (1, 1, 32, 4096),
        SMALL,
    ),
    Case(
        "1 1 s d@core:40 in l1",
        """blocks of 40 are not whole tiles of 32
  1 1 s d@core:40 in l1
          ^^^^
  nearest valid: d@core:64""",
        (1, 1, 32, 4096),
    ),
    Case(
        "1 1 k n|384@bank:32 in dram",
        """456 blocks of 32 but 'bank' has 12
  1 1 k n|384@bank:32 in dram
              ^^^^
  nearest valid: n|384@bank:1216""",
        (1, 1, 4096, 14336),
    ),
    Case(
        "1 b@core:1 h d in l1",
        """100 blocks of 1 but 'core' has 64
  1 b@core:1 h d in l1
      ^^^^
  nearest valid: b@core:2""",
        (1, 100, 8, 128),
    ),
    Case(
        "1 s d",
        """3 dims but the shape (1, 1, 32, 64) has 4
  1 s d
  allowed: one dim for each size""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 32 d",
        """dim 2 is 32 but the shape (1, 1, 64, 64) has 64
  1 1 32 d
      ^^
  nearest valid: 64""",
        (1, 1, 64, 64),
    ),
    Case(
        "1 1 s d",
        "a tensor of shape (1, 1, 0, 64) has nothing to place\n  allowed: sizes of at least 1",
        (1, 1, 0, 64),
    ),
    Case(
        "1 1 s d@chip",
        """'chip' is not an axis of the device
  1 1 s d@chip
          ^^^^
  allowed: core, core.x, core.y, bank, rows, cols""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 s d@cores",
        """'cores' is not an axis of the device
  1 1 s d@cores
          ^^^^^
  nearest valid: core""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 k n@cols",
        """4095 of 'n' does not split evenly over 'cols', which has 8
  1 1 k n@cols
          ^^^^
  nearest valid: n|8@cols""",
        (1, 1, 32, 4095),
        T3K,
    ),
    Case(
        "1 1 k n|12@cols",
        """4092 of 'n' does not split evenly over 'cols', which has 8
  1 1 k n|12@cols
             ^^^^
  nearest valid: n|24@cols""",
        (1, 1, 32, 4092),
        T3K,
    ),
    Case(
        "1 1 k n@cols:64",
        """blocks of 64 but 'cols' has 8 and 'n' is 4096
  1 1 k n@cols:64
          ^^^^
  nearest valid: @cols:512""",
        (1, 1, 32, 4096),
        T3K,
    ),
    Case(
        "1 1 k@cols n@cols",
        """'cols' splits two dims
  1 1 k@cols n@cols
               ^^^^
  allowed: each mesh axis once""",
        (1, 1, 64, 64),
        T3K,
    ),
    Case(
        "1 1 k n@rows@cols",
        """97 of 'n' does not split evenly over 'rows', which has 2
  1 1 k n@rows@cols
          ^^^^
  nearest valid: n|8@rows@cols""",
        (1, 1, 64, 97),
        T3K._replace(mesh=(2, 4)),
    ),
    Case(
        "1 1 s d~core:40 in l1",
        """blocks of 40 are not whole tiles of 32
  1 1 s d~core:40 in l1
          ^^^^
  nearest valid: d~core:64""",
        (1, 1, 32, 4096),
    ),
    Case(
        "1 1 s d@core:32 in l1 on 0-0..2-0:contiguous",
        """128 shards over 3 cores are not as many on each
  1 1 s d@core:32 in l1 on 0-0..2-0:contiguous
                           ^^^^^^^^^^^^^^^^^^^
  allowed: ':contiguous' over a number of cores that divides the shards""",
        (1, 1, 32, 4096),
    ),
    Case(
        "1 1 s d@core.x in l1 on 1-1..4-2",
        """2 copies over 'core.y', which no dim is split over, are none that ttnn can keep
  1 1 s d@core.x in l1 on 1-1..4-2
                          ^^^^^^^^
  nearest valid: on 1-1..4-1""",
        (1, 1, 32, 4096),
    ),
    Case(
        "1 1 k n@bank in dram on 8-0..12-0",
        """8-0..12-0 leaves the row of 12 banks
  1 1 k n@bank in dram on 8-0..12-0
                          ^^^^^^^^^
  nearest valid: 8-0..11-0""",
        (1, 1, 32, 4096),
    ),
    Case(
        "1 1 k n@core@cols in l1",
        """'cols' splits over chips after a split inside one
  1 1 k n@core@cols in l1
               ^^^^
  allowed: mesh axes first""",
        (1, 1, 64, 64),
        T3K,
    ),
    Case(
        "1 1 k n@cols +cols",
        """'cols' both splits a dim and has a sum pending
  1 1 k n@cols +cols
                ^^^^
  allowed: one of the two""",
        (1, 1, 64, 64),
        T3K,
    ),
    Case(
        "1 1 k n +core",
        """a sum over 'core' cannot be pending
  1 1 k n +core
           ^^^^
  allowed: +rows, +cols""",
        (1, 1, 64, 64),
    ),
    Case(
        "1 1 s d@core in dram",
        """'core' is in l1 but the layout is in dram
  1 1 s d@core in dram
          ^^^^
  nearest valid: in l1""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 s d in l1 on 0-0..7-7",
        """'on' gives cores but no dim is split over them
  1 1 s d in l1 on 0-0..7-7
                   ^^^^^^^^
  allowed: one dim @core, or no cores""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 s d@core in l1 on 0-0..8-7",
        """0-0..8-7 leaves the grid of 8×8 cores
  1 1 s d@core in l1 on 0-0..8-7
                        ^^^^^^^^
  nearest valid: 0-0..7-7""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 s d@core in l1 on 0-0..3-3,3-3..4-4",
        """3-3..4-4 overlaps 0-0..3-3
  1 1 s d@core in l1 on 0-0..3-3,3-3..4-4
                                 ^^^^^^^^
  allowed: each core once""",
        (1, 1, 32, 64),
    ),
    Case(
        "1 1 s d in l1",
        """4096000 bytes on each core but l1 has 1393312
  1 1 s d in l1
             ^^
  allowed: 680 pages of 2048 bytes a core, not 2000""",
        (1, 1, 32000, 4096),
    ),
    Case(
        "1 1 k n@bank",
        """1426063360 bytes on each bank but dram has 1072693184
  1 1 k n@bank
  allowed: 523775 pages of 2048 bytes a bank, not 696320""",
        (1, 1, 65536, 131072 - 512),
    ),
    Case(
        "1 1 s d as bfp8",
        """bfloat8_b has no row-major form
  1 1 s d as bfloat8_b
             ^^^^^^^^^
  allowed: tiles, or float32, bfloat16, uint32, int32, uint16""",
        (1, 1, 32, 64),
        tiled=False,
    ),
    Case(
        "1 1 s d as bfp8",
        """the layout is in bfloat8_b but the tensor in bfloat16
  1 1 s d as bfloat8_b
             ^^^^^^^^^
  nearest valid: as bfloat16""",
        (1, 1, 32, 64),
        dtype="bfloat16",
    ),
    Case(
        "1 1 s d",
        "'float' is not a dtype\n  nearest valid: float32",
        (1, 1, 32, 64),
        dtype="float",
    ),
]

REFUSED = [
    ("1 1 s d@core.x@bank in l1", "'core.x' and 'bank' split one tensor, which is in l1 or in dram"),
    ("1 1 s d@bank in l1", "'bank' is in dram but the layout is in l1"),
    ("1 1 s@core d@core.x in l1", "s@core and d@core.x cannot be lowered to ttnn"),
    ("1 1 s@core.x d~core.y in l1", "s@core.x and d~core.y cannot be lowered to ttnn"),
    ("1 1 s@core.y:32@core.x d in l1", "blocks over 'core.y' follow from those over 'core.x'"),
    ("1 1 s@core d@core:32 in l1 on 0-0..2-1", "4 blocks of 32 but 'core' has 3 left"),
    ("1 1 s d@core@core in l1", "'core' splits 'd' twice"),
    ("1 1 s@core d~core in l1", "'core' is dealt both in blocks and in turn"),
    ("1 1 s d~core:40 in l1", "blocks of 40 are not whole tiles of 32"),
    ("1 1 s d@core:40 in l1 on 0-0..0-0:contiguous", "blocks of 40 are not whole tiles of 32"),
    ("1 1 s d~cols", "chips have blocks: 'cols' cannot deal in turn"),
    ("1~cols 1 s d", "chips have blocks: 'cols' cannot deal in turn"),
    ("1 1 s@core d@bank in l1", "'core' and 'bank' split one tensor, which is in l1 or in dram"),
    ("1 1 s@core d@bank", "'core' and 'bank' split one tensor, which is in l1 or in dram"),
    ("1 1 (s d)@core in l1", "the group (s d) mixes rows and columns"),
    ("1 1 (s d)@cols", "a group over 'cols' cannot be lowered yet"),
    ("1 1 (s d)|64", "padding of the group (s d) cannot be lowered yet"),
    (
        "1 1 s d~core in l1 on 0-0..7-7:contiguous",
        "'~core' deals shards in turn and ':contiguous' one core's after another's",
    ),
    ("1 1 s d@core:32 in l1 on 0-0..0-0,3-3..3-4:contiguous", "4 shards over 3 cores are not as many on each"),
    (
        "1 1 s d@core.x in l1 on 0-0..7-7",
        "8 copies over 'core.y', which no dim is split over, are none that ttnn can keep",
    ),
    ("1 1 s d@bank in dram on 9-0..12-0", "9-0..12-0 leaves the row of 12 banks"),
    ("1 1 s d@bank in dram on 0-0..3-0,3-0..4-0", "3-0..4-0 overlaps 0-0..3-0"),
    ("1 1 s@core.y d@core.x in l1 on 0-0..7-3:col", "':col' orders the axis 'core', not core.x and core.y"),
    ("1 1 s@core.y d@core.x in l1 on 0-0..1-1,4-4..5-5", "core.x and core.y are the sides of one rectangle"),
    (
        "1 1 s@core.y d@core.x in l1 on 0-0..1-1:contiguous",
        "':contiguous' deals over one axis, not over core.x and core.y",
    ),
    ("a b (c e)@core d in l1", "(c e)@core takes the 2 of dim 1 apart"),
]


@pytest.mark.parametrize("case", GRAMMAR, ids=lambda case: case.text)
def test_grammar(case: Case) -> None:
    with pytest.raises(LayoutError) as error:
        parse(case.text)
    assert message(error) == case.message


@pytest.mark.parametrize("case", PLACEMENT, ids=lambda case: case.text)
def test_placement(case: Case) -> None:
    with pytest.raises(LayoutError) as error:
        parse(case.text).place(case.shape, device=case.device, dtype=case.dtype, tiled=case.tiled)
    assert message(error) == case.message


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_cannot_be_lowered_says_so(text: str, reason: str) -> None:
    shape = (1, 2, 3, 64, 64) if text.startswith("a b") else (1, 1, 64, 128)
    with pytest.raises(LayoutError) as error:
        parse(text).place(shape, device=T3K)
    assert error.value.reason == reason
    assert error.value.choices


def test_rules() -> None:
    with pytest.raises(LayoutError) as error:
        parse_rule("1 1 s d")
    assert message(error) == (
        "a rule has '->' between two layouts\n  1 1 s d\n         ^\n  allowed: parse, for a single layout"
    )


def test_tile_bytes() -> None:
    assert tile_bytes("bfloat8_b") == 1088
    with pytest.raises(LayoutError) as error:
        tile_bytes("bfloat8")
    assert message(error) == "'bfloat8' is not a dtype\n  nearest valid: bfloat8_b"


def test_illegal_layouts_are_refused_before_ttnn_is_imported() -> None:
    with pytest.raises(LayoutError):
        memory_config("1 1 s d@core:64", shape=(1, 1, 32, 4096), device=SMALL)


def test_the_error_is_a_value_error_with_an_exit_code_and_can_cross_processes() -> None:
    with pytest.raises(ValueError, match="not a memory") as caught:
        parse("s d in l2")
    error = caught.value
    assert isinstance(error, LayoutError)
    assert error.exit_code == 2
    assert (error.span, error.choices) == ((7, 9), "allowed: l1, dram")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
