"""The algebra against enumeration: no accepted result is ever wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings, strategies as st

from ttt_shard_dsl import (
    Layout,
    LayoutError,
    coalesce,
    complement,
    composition,
    left_inverse,
    logical_divide,
    logical_product,
    right_inverse,
)
from ttt_shard_dsl._nesting import IntTuple

EXTENTS = st.sampled_from([1, 2, 2, 3, 4, 5, 6, 8])
STRIDES = st.sampled_from([0, 1, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, -1, -4])
LEAVES = st.tuples(EXTENTS, STRIDES)


@st.composite
def layouts(draw: st.DrawFn, least_stride: int = 0) -> Layout:
    """Up to four leaves, flat or nested; half the time a compact layout with its modes permuted and some broadcast."""
    leaves = draw(st.lists(LEAVES, min_size=1, max_size=4))
    if draw(st.booleans()):
        order = draw(st.permutations(range(len(leaves))))
        step = 1
        for index in order:
            extent = leaves[index][0]
            leaves[index] = (extent, step)
            step *= extent * draw(st.sampled_from([1, 1, 1, 2, 3]))
    leaves = [(s, max(d, least_stride)) for s, d in leaves]
    shape: IntTuple = tuple(s for s, _ in leaves)
    stride: IntTuple = tuple(d for _, d in leaves)
    if len(leaves) == 1:
        return Layout(*leaves[0])
    if len(leaves) > 2 and draw(st.booleans()):
        assert isinstance(shape, tuple)
        assert isinstance(stride, tuple)
        return Layout((shape[0], shape[1:]), (stride[0], stride[1:]))
    return Layout(shape, stride)


def or_assume(function: Callable[..., Layout], *arguments: object) -> Layout:
    """The result; a refusal is another case than the one that is wanted."""
    try:
        return function(*arguments)
    except LayoutError:
        assume(False)
        raise


def values(layout: Layout) -> list[int]:
    return [layout(i) for i in range(layout.size)]


def test_evaluation() -> None:
    layout = Layout((4, (8, 4)), (1, (32, 4)))
    assert str(layout) == "(4,(8,4)):(1,(32,4))"
    assert (layout.size, layout.cosize) == (128, 1 + 3 + 7 * 32 + 3 * 4)
    assert layout(3 + 4 * (5 + 8 * 2)) == layout(3, (5, 2)) == layout((3, 5 + 8 * 2)) == 3 + 5 * 32 + 2 * 4
    assert Layout((2, 3)) == Layout((2, 3), (1, 2))
    assert layout[1] == Layout((8, 4), (32, 4))
    assert pickle.loads(pickle.dumps(layout)) == layout


@settings(deadline=None)
@given(layouts())
def test_coalesce(layout: Layout) -> None:
    short = coalesce(layout)
    assert values(short) == values(layout)
    assert len(list(short.leaves())) <= len(list(layout.leaves()))


@settings(max_examples=400, deadline=None)
@given(layouts(-24), layouts())
def test_composition(a: Layout, b: Layout) -> None:
    result = or_assume(composition, a, b)
    assert result.size == b.size
    assert values(result) == [a(b(i)) for i in range(b.size)]


@settings(max_examples=300, deadline=None)
@given(layouts(), st.integers(1, 200))
def test_complement(a: Layout, size: int) -> None:
    rest = or_assume(complement, a, size)
    distinct = [(s, d) for s, d in a.leaves() if d]
    once = Layout((1, *(s for s, _ in distinct)), (0, *(d for _, d in distinct)))
    both = sorted(x + y for x in values(once) for y in values(rest))
    assert both == list(range(len(both)))
    assert len(both) >= size


@settings(deadline=None)
@given(layouts(-24))
def test_right_inverse(a: Layout) -> None:
    inverse = right_inverse(a)
    assert [a(inverse(i)) for i in range(inverse.size)] == list(range(inverse.size))
    if sorted(values(a)) == list(range(a.size)):
        assert inverse.size == a.size


@settings(max_examples=300, deadline=None)
@given(layouts())
def test_left_inverse(a: Layout) -> None:
    inverse = or_assume(left_inverse, a)
    assert [inverse(a(i)) for i in range(a.size)] == list(range(a.size))


@settings(max_examples=300, deadline=None)
@given(layouts(-24), layouts())
def test_logical_divide(a: Layout, b: Layout) -> None:
    result = or_assume(logical_divide, a, b)
    rest = complement(b, a.size)
    assert result[0].size == b.size
    assert values(result) == [a(b(i) + rest(j)) for j in range(rest.size) for i in range(b.size)]


@settings(max_examples=300, deadline=None)
@given(layouts(), layouts())
def test_logical_product(a: Layout, b: Layout) -> None:
    result = or_assume(logical_product, a, b)
    assert result[0] == a
    rest = complement(a, a.size * b.cosize)
    assert values(result[1]) == [rest(j) for j in values(b)]


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        (Layout((6, 2), (8, 2)), Layout((4, 3), (3, 1)), "((2,2),3):((24,2),8)"),
        (Layout(20, 2), Layout((5, 4), (4, 1)), "(5,4):(8,2)"),
        (Layout((10, 2), (16, 4)), Layout((5, 4), (1, 5)), "(5,(2,2)):(16,(80,4))"),
        (Layout((4, 1), (1, 100)), Layout(2, 4), "2:100"),  # the last mode goes on, though its extent is 1
    ],
)
def test_known_compositions(a: Layout, b: Layout, result: str) -> None:
    assert str(composition(a, b)) == result


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            composition,
            (Layout((4, 3), (1, 10)), Layout((2, 2), (3, 1))),
            "mode 1 of B is 2:1, which with those before it carries out of mode 0 of A, 4:1\n"
            "  (4,3):(1,10) ∘ (2,2):(3,1)",
        ),
        (
            composition,
            (Layout((4, 3), (1, 10)), Layout(3, 3)),
            "mode 0 of B is 3:3, which neither fits nor divides mode 0 of A, 4:1\n  (4,3):(1,10) ∘ 3:3",
        ),
        (composition, (Layout(4), Layout(4, -1)), "mode 0 of B is 4:-1, which counts down\n  4:1 ∘ 4:-1"),
        (
            complement,
            (Layout((2, 2), (1, 3)), 8),
            "mode 2:3 does not start at a multiple of 2, where those below it end\n  (2,2):(1,3)",
        ),
        (complement, (Layout(2, -2), 8), "mode 2:-2 counts down, so the layout has no complement\n  2:-2"),
        (left_inverse, (Layout(3, 0),), "mode 3:0 takes one value 3 times, so the layout has no left inverse\n  3:0"),
        (Layout, ((2, 0), (1, 2)), "an extent is at least 1, not 0\n  (2,0)"),
        (Layout, ((2, 2), 1), "the stride is not congruent to the shape\n  (2,2):1"),
        (Layout, ((),), "a mode has no parts\n  ()"),
        (Layout((2, 2)), (1, 1, 1), "(1,1,1) is not a coordinate of the layout\n  (2,2):(1,2)"),
        (Layout((2, 2)), (-1,), "-1 is not a coordinate of the layout\n  (2,2):(1,2)"),
    ],
)
def test_refusals(function: Callable[..., object], arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(LayoutError) as error:
        function(*arguments)
    assert str(error.value) == message
