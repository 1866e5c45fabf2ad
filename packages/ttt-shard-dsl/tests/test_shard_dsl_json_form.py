"""Trees as JSON and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from ttt_shard_dsl import (
    Axis,
    CoreRange,
    Cores,
    Dim,
    LayoutError,
    Place,
    Rule,
    Spec,
    from_json,
    parse,
    parse_rule,
    to_json,
)
from ttt_shard_dsl.dtypes import TILE_BYTES

AXES = st.sampled_from([Axis("core"), Axis("core", "x"), Axis("rows"), Axis("bank"), Axis("x_1", "y2")])
SIZES = st.integers(1, 10**6)
PLACES = st.lists(st.builds(Place, AXES, st.booleans(), st.none() | SIZES), max_size=3).map(tuple)
CORNERS = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda c: CoreRange(min(c[0], c[1]), min(c[2], c[3]), max(c[0], c[1]), max(c[2], c[3]))
)
CORES = st.builds(Cores, st.lists(CORNERS, min_size=1, max_size=3).map(tuple), st.booleans(), st.booleans())


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    dims = []
    for index in range(draw(st.integers(1, 4))):
        members = draw(st.integers(0, 3))  # 0: a size without a name
        names = tuple(f"dim_{index}_{member}" for member in range(members))
        dims.append(Dim(names, None if members else draw(SIZES), draw(st.none() | SIZES), draw(PLACES)))
    memory = draw(st.sampled_from([None, "l1", "dram"]))
    cores = draw(st.none() | CORES) if memory else None
    pending = tuple(draw(st.lists(AXES, unique=True, max_size=2)))
    return Spec(tuple(dims), pending, memory, cores, draw(st.none() | st.sampled_from(sorted(TILE_BYTES))))


@settings(deadline=None)
@given(specs(), st.none() | st.just(2))
def test_json_and_text_tell_the_same(spec: Spec, indent: int | None) -> None:
    assert from_json(to_json(spec, indent=indent)) == spec == parse(str(spec))
    assert to_json(parse(str(spec))) == to_json(spec)


@settings(deadline=None)
@given(specs(), specs())
def test_rules(source: Spec, target: Spec) -> None:
    rule = Rule(source, target)
    assert from_json(to_json(rule)) == rule == parse_rule(str(rule))


def test_the_form_is_stable() -> None:
    assert to_json(parse("1 (b h)|4@rows d~core.x:64 +cols in l1 on 0-0..7-3:col:contiguous as bfp8")) == (
        '{"schema": 1, "spec": {"dims": [{"size": 1}, {"names": ["b", "h"], "pad": 4, "places": [{"axis": "rows"}]}, '
        '{"names": ["d"], "places": [{"axis": "core.x", "cyclic": true, "block": 64}]}], "pending": ["cols"], '
        '"memory": "l1", "cores": {"ranges": [[0, 0, 7, 3]], "col": true, "contiguous": true}, "dtype": "bfloat8_b"}}'
    )
    assert to_json(parse_rule("s -> s@cols")) == (
        '{"schema": 1, "rule": {"source": {"dims": [{"names": ["s"]}]}, '
        '"target": {"dims": [{"names": ["s"], "places": [{"axis": "cols"}]}]}}}'
    )


def test_no_field_of_the_tree_is_forgotten() -> None:
    fields = {"dims", "pending", "memory", "cores", "dtype", "names", "size", "pad", "places"}
    fields |= {"axis", "cyclic", "block", "ranges", "col", "contiguous"}
    assert {*Spec._fields, *Dim._fields, *Place._fields, *Cores._fields} == fields


SPEC = {"dims": [{"names": ["s"]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"schema": 2, "spec": SPEC},
            "schema 2 is unknown\n  allowed: schema 1; a newer ttt-shard-dsl may read others",
        ),
        ({"spec": SPEC}, "the document has no schema\n  allowed: schema 1; a newer ttt-shard-dsl may read others"),
        ([], "the document is []\n  allowed: an object"),
        ({"schema": 1}, "the document has a spec or a rule, one of the two\n  allowed: spec, rule"),
        ({"schema": 1, "spce": SPEC}, "'spce' is not a key of the document\n  nearest valid: spec"),
        (
            {"schema": 1, "spec": SPEC | {"colour": 1}},
            "'colour' is not a key of spec\n  allowed: dims, pending, memory, cores, dtype",
        ),
        ({"schema": 1, "spec": {}}, "spec has no dims\n  allowed: spec.dims is always there"),
        ({"schema": 1, "spec": {"dims": [{"pad": "4"}]}}, 'spec.dims[0].pad is "4"\n  allowed: an integer'),
        ({"schema": 1, "spec": {"dims": [{"size": True}]}}, "spec.dims[0].size is true\n  allowed: an integer"),
        (
            {"schema": 1, "spec": SPEC | {"memory": "l1", "cores": {"ranges": [[0, 0, 7]]}}},
            "spec.cores.ranges[0] is [0, 0, 7]\n  allowed: [x0, y0, x1, y1]",
        ),
        (
            {"schema": 1, "rule": {"source": SPEC, "target": SPEC | {"dims": "s"}}},
            'target.dims is "s"\n  allowed: a list',
        ),
        (
            {"schema": 1, "spec": {"dims": [{"names": ["s"], "size": 4}]}},
            'the tree is not that of any text\n  4\n  nearest valid: {"schema": 1, "spec": {"dims": [{"size": 4}]}}',
        ),
        (
            {"schema": 1, "spec": SPEC | {"memory": "l2"}},
            "'l2' is not a memory\n  s in l2\n       ^^\n  allowed: l1, dram",
        ),
    ],
)
def test_what_is_refused(data: object, message: str) -> None:
    with pytest.raises(LayoutError) as error:
        from_json(json.dumps(data))
    assert str(error.value) == message


def test_no_json() -> None:
    with pytest.raises(LayoutError, match=r"^not JSON: Expecting value"):
        from_json("s d@core")
