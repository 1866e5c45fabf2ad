"""Text to tree and back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from ttt_shard_dsl import Axis, CoreRange, Cores, Dim, LayoutError, Place, Rule, Spec, parse, parse_rule
from ttt_shard_dsl.dtypes import TILE_BYTES

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(lambda name: name not in ("in", "on", "as"))
SIZES = st.integers(1, 10**6)
AXES = st.builds(Axis, NAMES, st.none() | NAMES)
PLACES = st.builds(Place, AXES, st.booleans(), st.none() | SIZES)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    dims = []
    for index, first in enumerate(draw(st.lists(NAMES, unique=True, min_size=1, max_size=4))):
        members = draw(st.integers(0, 3))  # 0: a size without a name
        names = (first, *(f"dim_{index}_{member}" for member in range(members - 1))) if members else ()
        pad, places = draw(st.none() | SIZES), tuple(draw(st.lists(PLACES, max_size=3)))
        dims.append(Dim(names, None if members else draw(SIZES), pad, places))
    pending = tuple(draw(st.lists(AXES, unique=True, max_size=2)))
    memory = draw(st.sampled_from([None, "l1", "dram"]))
    corners = st.tuples(*[st.integers(0, 12)] * 4).map(
        lambda c: CoreRange(min(c[0], c[1]), min(c[2], c[3]), max(c[0], c[1]), max(c[2], c[3]))
    )
    ranges = st.lists(corners, min_size=1, max_size=3).map(tuple)
    cores = draw(st.none() | st.builds(Cores, ranges, st.booleans(), st.booleans())) if memory else None
    return Spec(tuple(dims), pending, memory, cores, draw(st.none() | st.sampled_from(sorted(TILE_BYTES))))


@settings(deadline=None)
@given(specs())
def test_canonical_text_parses_back_to_an_equal_tree(spec: Spec) -> None:
    assert parse(str(spec)) == spec


@settings(deadline=None)
@given(specs(), specs())
def test_rules_parse_back(source: Spec, target: Spec) -> None:
    rule = Rule(source, target)
    assert parse_rule(str(rule)) == rule


@settings(deadline=None)
@given(st.text(alphabet="1 24sd(in)onasl@~|:+.,-><e\té", max_size=24))
def test_any_text_is_read_or_refused_with_a_caret_inside_it(text: str) -> None:
    try:
        spec = parse(text)
    except LayoutError as error:
        start, end = error.span or (-1, -1)
    else:
        assert parse(str(spec)) == spec
        return
    assert 0 <= start < end <= len(text) + 1


@pytest.mark.parametrize(
    "text",
    [
        "1 1 s d@core in l1",
        "1 1 k n|384@bank in dram as bfloat8_b",
        "1 1 s@core.y d@core.x in l1",
        "1 b@core h d in l1",
        "1 1 k n@rows",
        "1 b@cols s d@core in l1",
        "1 1 32 d",
        "b h@rows@core s d in l1",
        "1 1 s d +rows",
        "(b h) s~core:64 d in l1 on 0-0..7-3,0-4..3-4:col:contiguous as float32",
    ],
)
def test_canonical_texts_stay_as_they_are(text: str) -> None:
    assert str(parse(text)) == text


def test_tree() -> None:
    assert parse("1 (b h) n|384@rows~core.x:64 +cols in l1 on 0-0..7-3:col as bfp8") == Spec(
        dims=(
            Dim((), 1),
            Dim(("b", "h")),
            Dim(("n",), None, 384, (Place(Axis("rows")), Place(Axis("core", "x"), cyclic=True, block=64))),
        ),
        pending=(Axis("cols"),),
        memory="l1",
        cores=Cores((CoreRange(0, 0, 7, 3),), col=True),
        dtype="bfloat8_b",
    )


def test_spaces_and_short_names_do_not_matter() -> None:
    assert parse("  1 (s)  d @core:64\tin l1 as bf16 ") == parse("1 s d@core:64 in l1 as bfloat16")


def test_import_is_light() -> None:
    code = (
        "import sys, ttt_shard_dsl; print(*{'torch', 'ttnn', 'numpy', 'dataclasses', 'inspect'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
