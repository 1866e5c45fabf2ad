"""Strides over named axes, and the text form."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from ttt_shard_dsl import (
    Layout,
    LayoutError,
    Vector,
    blocked_product,
    canonical,
    coalesce,
    complement,
    composition,
    flat_divide,
    left_inverse,
    logical_divide,
    logical_product,
    make_layout_like,
    nullspace,
    raked_product,
    right_inverse,
    slice_layout,
    tile_to_shape,
    tiled_divide,
    zipped_divide,
)
from ttt_shard_dsl._nesting import IntTuple, StrideTuple
from ttt_shard_dsl.vector import Stride

PAGE, X = Vector({"page": 1}), Vector({"core.x": 1})
NAMES = st.sampled_from(["", "page", "core.x", "core.y"])
STRIDES: st.SearchStrategy[Stride] = st.one_of(
    st.integers(-40, 40),
    st.builds(lambda name, count, more: Vector({name: count, "": more}), st.sampled_from(["page", "core.x"]),
              st.sampled_from([-3, -1, 1, 2, 38]), st.sampled_from([0, 0, -1, 5])),
)  # fmt: skip


def nested(leaf: st.SearchStrategy[tuple[int, Stride]]) -> st.SearchStrategy[Layout]:
    """Any nesting."""

    def shape(tree: object) -> IntTuple:
        return tuple(map(shape, tree)) if isinstance(tree, list) else tree[0]  # type: ignore[index]

    def stride(tree: object) -> StrideTuple:
        return tuple(map(stride, tree)) if isinstance(tree, list) else tree[1]  # type: ignore[index]

    trees = st.recursive(leaf, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5)
    return trees.map(lambda tree: Layout(shape(tree), stride(tree)))


LAYOUTS = nested(st.tuples(st.integers(1, 5), STRIDES))


@given(LAYOUTS)
def test_text_parses_back(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout
    assert Layout.parse(f" {str(layout).replace(',', ' , ')} ") == layout
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert eval(repr(layout)) == layout


@given(LAYOUTS)
def test_values_are_sums_of_named_steps(layout: Layout) -> None:
    value: Stride = 0
    index = layout.size - 1
    for s, d in layout.leaves():
        value += (s - 1) * d
    assert layout(index) == value
    assert [canonical(layout)(i) for i in range(layout.size)] == [layout(i) for i in range(layout.size)]


@settings(max_examples=200)
@given(LAYOUTS, nested(st.tuples(st.integers(1, 5), st.integers(0, 12))), st.booleans())
def test_composition_with_named_axes(a: Layout, b: Layout, complete: bool) -> None:
    expected = [a(b(i)) for i in range(b.size)]  # type: ignore[arg-type]
    try:
        result = composition(a, b, complete=complete)
    except LayoutError:
        return
    assert [result(i) for i in range(b.size)] == expected


def test_a_width_sharded_tensor() -> None:
    pages = Layout.parse("(4,8,4):(page,core.x,core.y)")
    assert str(pages) == "(4,8,4):(page,core.x,core.y)"
    assert pages == Layout((4, 8, 4), (PAGE, X, Vector({"core.y": 1})))
    assert pages.spans == {"page": 4, "core.x": 8, "core.y": 4}
    assert (pages.size, pages.cosize) == (128, 128)
    assert str(pages(127)) == "7core.x+3core.y+3page"
    assert pages(1) == PAGE
    assert pages(0) == 0
    assert str(left_inverse(pages)) == "(4,8,4):(1,4,32)"
    assert left_inverse(pages)(3, 7, 3) == 127
    assert str(composition(pages, Layout(32, 4))) == "(8,4):(core.x,core.y)"  # the first page of each core
    assert str(logical_divide(pages, 8)) == "((4,2),(4,4)):((page,core.x),(2core.x,core.y))"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Layout.parse("(2,(3,4))"), "(2,(3,4)):(1,(2,6))"),
        (Layout.parse("128:38page"), "128:38page"),
        (Layout(2, 2 * (PAGE - X) + 3), "2:3-2core.x+2page"),
        (Layout(2, 5 - PAGE), "2:5-page"),
        (Layout(2, PAGE - PAGE), "2:0"),
        (coalesce(Layout.parse("(2,3,4):(page,2page,core.x)")), "(6,4):(page,core.x)"),
        (coalesce(Layout.parse("((2,3),(4,1)):((1,2),(6,0))"), (None, None)), "(6,4):(1,6)"),
        (complement(Layout.parse("(2,4):(2page,core.x)"), {"page": 8, "core.x": 8, "bank": 3}),
         "(2,2,2,3):(page,4page,4core.x,bank)"),
        (complement(Layout.parse("2:2page"), 8), "(2,2):(page,4page)"),
        (right_inverse(Layout.parse("(4,2,8):(core.x,8page,page)")), "(4,(8,2)):(1,(8,4))"),
        (left_inverse(Layout.parse("(4,2):(core.x,2page)")), "(4,(2,2)):(1,(8,4))"),
        (logical_product(Layout.parse("4:page"), Layout.parse("8:core.x")), "(4,8):(page,core.x)"),
        (logical_product(Layout.parse("4:page"), Layout.parse("(8,2):(page,core.x)")), "(4,(8,2)):(page,(4page,core.x))"),
        (logical_product(Layout(4), 6), "(4,6):(1,4)"),
        (zipped_divide(Layout.parse("(8,8):(page,core.x)"), (2, 4)), "((2,4),(4,2)):((page,core.x),(2page,4core.x))"),
        (tiled_divide(Layout.parse("(8,8):(page,core.x)"), (2, 4)), "((2,4),4,2):((page,core.x),2page,4core.x)"),
        (flat_divide(Layout.parse("(8,8):(page,core.x)"), (2, 4)), "(2,4,4,2):(page,core.x,2page,4core.x)"),
        (zipped_divide(Layout((8, 8, 3)), (None, 4)), "((1,4),(8,2,3)):((0,8),(1,32,64))"),
        (blocked_product(Layout((2, 2)), Layout((3, 4))), "((2,3),(2,4)):((1,4),(2,12))"),
        (raked_product(Layout((2, 2)), Layout((3, 4))), "((3,2),(4,2)):((4,1),(12,2))"),
        (tile_to_shape(Layout((2, 2)), (6, 8)), "((2,3),(2,4)):((1,4),(2,12))"),
        (tile_to_shape(Layout((2, 2)), (6, 8), (1, 0)), "((2,3),8):((1,16),2)"),
        (tile_to_shape(Layout(4, PAGE), (12,)), "12:page"),
        (nullspace(Layout((4, 2, 3), (1, 0, 0))), "6:4"),
        (nullspace(Layout(4)), "1:0"),
        (make_layout_like(Layout((2, 3, 4), (12, 0, 2))), "(2,3,4):(4,0,1)"),
        (make_layout_like(Layout.parse("(2,(3,4)):(5page,(core.x,2page))")), "(2,(3,4)):(4page,(core.x,page))"),
        (slice_layout(Layout.parse("(4,(8,4)):(page,(core.x,core.y))"), (3, (None, 1)))[0], "8:core.x"),
        (slice_layout(Layout((4, (8, 4))), (2, (3, 1)))[0], "1:0"),
    ],
)  # fmt: skip
def test_known_results(result: Layout, text: str) -> None:
    assert str(result) == text


def test_a_slice_starts_where_its_coordinate_is() -> None:
    assert slice_layout(Layout.parse("(4,(8,4)):(page,(core.x,core.y))"), (3, (None, 1)))[1] == 3 * PAGE + Vector(
        {"core.y": 1}
    )


def test_the_same_function_has_one_canonical_form() -> None:
    forms = [Layout((2, 2), (1, 2)), Layout(4), Layout((4, 1), (1, 7)), Layout(((2, 1), 2), ((1, 0), 2))]
    assert {canonical(form) for form in forms} == {Layout(4)}
    assert len(set(forms)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an extent is expected, and the text ends"),
        ("(4,8", "',' or ')' is expected, and the text ends\n  (4,8\n      ^"),
        ("(4,8):(1,)", "a stride is expected, not ')'\n  (4,8):(1,)\n           ^"),
        ("(4,x):(1,4)", "an extent is expected, not 'x'\n  (4,x):(1,4)\n     ^"),
        ("4:1 8", "the layout ends here, not '8'\n  4:1 8\n      ^"),
        ("4 8", "':' and the strides are expected, not '8'\n  4 8\n    ^"),
        ("4:page+", "a stride is expected, and the text ends\n  4:page+\n         ^"),
        ("4:2*page", "the layout ends here, not '*'\n  4:2*page\n     ^"),
        ("4:core.", "the layout ends here, not '.'\n  4:core.\n        ^"),
        ("(4,8):1", "the stride is not congruent to the shape\n  (4,8):1"),
        ("0:1", "an extent is at least 1, not 0\n  0"),
    ],
)
def test_malformed_texts(text: str, message: str) -> None:
    with pytest.raises(LayoutError) as error:
        Layout.parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vector({"page": 0}), "a vector has a coefficient on at least one named axis\n  {'page': 0}"),
        (lambda: Layout((2, "a")), "an extent is an integer, not 'a'\n  (2,a)"),  # type: ignore[arg-type]
        (lambda: Layout(2, 0.5), "a stride is an integer or a Vector, not 0.5\n  2"),  # type: ignore[arg-type]
        (
            lambda: composition(Layout(8), Layout(2, PAGE)),
            "mode 0 of B is 2:page, which is along named axes, so no index of A\n  8:1 ∘ 2:page",
        ),
        (
            lambda: composition(Layout((4, 3), (1, 10)), Layout(3, 3), complete=True),
            "no layout with the shape of B has the values of A after B\n  (4,3):(1,10) ∘ 3:3",
        ),
        (lambda: composition(Layout((4, 3)), (1, 2, 3)), "3 parts for a layout of 2 modes\n  (4,3):(1,4)"),
        (lambda: zipped_divide(Layout((4, 3)), (1, 2, 3)), "3 parts for a layout of 2 modes\n  (4,3):(1,4)"),
        (
            lambda: complement(Layout(2, PAGE + X), {}),
            "mode 2:core.x+page goes along several axes at once\n  2:core.x+page",
        ),
        (
            lambda: complement(Layout((2, 2), (PAGE, X)), 8),
            "the size of a complement over 'page' and 'core.x' is one for each\n  (2,2):(page,core.x)",
        ),
        (
            lambda: slice_layout(Layout((2, 2)), (1, 2, 3)),
            "the coordinate has 3 parts where the layout has (2,2):(1,2)\n  (2,2):(1,2)",
        ),
        (lambda: tile_to_shape(Layout((2, 2)), (4,)), "a tile of 2 modes for a shape of 1\n  (2,2):(1,2)"),
        (
            lambda: tile_to_shape(Layout((2, 2)), (4, 5)),
            "mode 1 of the tile has 2, which does not divide 5\n  (2,2):(1,2)",
        ),
        (lambda: tile_to_shape(Layout((2, 2)), (4, 4), (0,)), "an order of 1 modes for a shape of 2\n  (2,2):(1,2)"),
        (
            lambda: tile_to_shape(Layout((2, 2), (PAGE, X)), (4, 4)),
            "a tile along 'page' and 'core.x' does not say where copies go\n  (2,2):(page,core.x)",
        ),
    ],
)
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(LayoutError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("a", "b", "wrong", "right"),
    [
        # one mode of B that ends inside a mode of A
        ("(2,2):(1,12)", "3:1", "2:1", None),
        ("(2,2):(0,3)", "3:1", "2:0", None),
        ("(4,3):(1,10)", "3:3", "2:3", None),
        # each mode of B alone is fine, and their digits together carry
        ("(4,3):(1,10)", "(2,2):(3,1)", "(2,2):(3,1)", None),
        ("(2,2):(12,2)", "(2,3):(2,1)", "(2,2):(2,12)", None),
        # a stride of B that does not divide A's extent, without a carry
        ("(4,3):(1,10)", "2:6", "", "2:12"),
        ("(4,4):(1,10)", "2:5", "", "2:11"),
    ],
)
def test_errata_of_composition(a: str, b: str, wrong: str, right: str | None) -> None:
    """pycute and CuTe answer `wrong` or fail: refused here where no layout has the values, right otherwise."""
    first, second = Layout.parse(a), Layout.parse(b)
    values = [first(second(i)) for i in range(second.size)]  # type: ignore[arg-type]
    if right is None:
        with pytest.raises(LayoutError):
            composition(first, second)
        bad = Layout.parse(wrong)
        assert bad.size != len(values) or [bad(i) for i in range(bad.size)] != values
    else:
        result = composition(first, second)
        assert str(result) == right
        assert [result(i) for i in range(result.size)] == values


def test_errata_of_the_others() -> None:
    with pytest.raises(LayoutError):  # pycute: 2:1, for the values 0, 1, 3, 4
        left_inverse(Layout((2, 2), (1, 3)))
    with pytest.raises(LayoutError):  # pycute: 6:2, as if the modes did not interleave
        complement(Layout((2, 2), (1, 3)), 12)
    assert str(right_inverse(Layout((2, 2), (0, 1)))) == "2:2"  # pycute stops at the broadcast: 1:0
    assert str(logical_product(Layout(4), 6)) == "(4,6):(1,4)"  # pycute divides by 6
