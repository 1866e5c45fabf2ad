"""A layout: a function from indices to integers, written as a nested shape and a stride for each part of it.

L(c₀, c₁, …) = Σ cₖ·dₖ, and L(i) is L of the coordinate that counts to i with the leftmost part fastest. The last part
is unbounded: indices beyond the size go on along it. A stride is an integer or a vector over named axes, and so are the
values.

Source: CuTe, "Layouts" (NVIDIA CUTLASS, media/docs/cpp/cute/01_layout.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ttt_shard_dsl._nesting import IntTuple, Leaves, StrideTuple, check, compact, leaves_of, product, show
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.vector import Stride, terms_of

__all__ = ["Layout"]


class Layout:
    """A nested shape with a congruent stride; without one, the compact stride with the leftmost part fastest.

    `==` and `hash` compare as written, because a mode is what the functions on layouts work by: (2,2):(1,2) is not 4:1.
    `canonical` of two layouts is equal where they are the same function.

    Errors: `LayoutError` when the two are not congruent, an extent is less than 1, or a part is no integer.
    """

    __slots__ = ("_leaves", "shape", "stride")

    shape: IntTuple
    stride: StrideTuple
    _leaves: Leaves

    def __init__(self, shape: IntTuple, stride: StrideTuple | None = None) -> None:
        if stride is None:
            leaves: list[tuple[int, Stride]] = []
            stride, _ = compact(shape, 1, leaves, shape)
            _set_leaves(self, tuple(leaves))
        elif type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) and shape:
            for s, d in zip(shape, stride):  # noqa: B905  # they are as long, and the keyword takes as long as a part
                if type(s) is int and type(d) is int and s > 0:
                    continue
                check(s, d, shape)
        else:
            check(shape, stride, shape)
        _set_shape(self, shape)
        _set_stride(self, stride)

    @classmethod
    def parse(cls, text: str) -> Layout:
        """The layout that `str` writes as this text; without strides, the compact one.

        Errors: `LayoutError` that points at the wrong part.
        """
        from ttt_shard_dsl._layout_text import parse_layout  # which needs this module

        return parse_layout(text)

    @property
    def size(self) -> int:
        """How many indices there are."""
        size = 1
        for extent, _ in self._leaves:
            size *= extent
        return size

    @property
    def cosize(self) -> int:
        """How many points the box that holds the values has: for integers 1 + Σ (s−1)·|d|; see `spans`."""
        size = 1
        try:
            for s, d in self._leaves:
                size += (s - 1) * abs(d)  # type: ignore[arg-type]
            return size
        except TypeError:  # a vector
            return product(tuple(self.spans.values()))

    @property
    def spans(self) -> dict[str, int]:
        """1 + Σ (s−1)·|d| along each axis, in the order of the parts; integers are along the axis ""."""
        spans: dict[str, int] = {}
        for s, d in self._leaves:
            for name, count in terms_of(d):
                spans[name] = spans.get(name, 1) + (s - 1) * abs(count)
        return spans

    def __call__(self, *coord: IntTuple) -> Stride:
        """L(i), L((i, j)) or L(i, j), where each part of a coordinate may be an index into a nested mode.

        Errors: `LayoutError` for a negative index, or a coordinate that does not fit the shape.
        """
        at = coord[0] if len(coord) == 1 else coord
        value = _count(at, self._leaves) if isinstance(at, int) else _evaluate(at, self.shape, self.stride)
        if value is None:
            raise LayoutError(f"{show(at)} is not a coordinate of the layout", str(self))
        return value

    def leaves(self) -> Leaves:
        """The (extent, stride) of each part, nesting removed."""
        return self._leaves

    def __iter__(self) -> Iterator[Layout]:
        """The top-level modes."""
        return iter([self[k] for k in range(len(self))])

    def __len__(self) -> int:
        return len(self.shape) if isinstance(self.shape, tuple) else 1

    def __getitem__(self, mode: int) -> Layout:
        """One top-level mode."""
        shape, stride = self.shape, self.stride
        if isinstance(shape, tuple) and isinstance(stride, tuple):
            return trusted(shape[mode], stride[mode])
        return (self,)[mode]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self.shape == other.shape and self.stride == other.stride

    def __hash__(self) -> int:
        return hash((self.shape, self.stride))

    if not TYPE_CHECKING:  # any attribute would pass

        def __getattr__(self, name: str) -> Leaves:
            if name != "_leaves":  # which a layout gets when they are first asked for
                raise AttributeError(f"a Layout has no {name}")
            leaves = leaves_of(self.shape, self.stride)
            _set_leaves(self, leaves)
            return leaves

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Layout is immutable: {name} cannot be set")

    def __reduce__(self) -> tuple[type[Layout], tuple[IntTuple, StrideTuple]]:
        return Layout, (self.shape, self.stride)

    def __str__(self) -> str:
        return f"{show(self.shape)}:{show(self.stride)}"

    def __repr__(self) -> str:
        return f"Layout({self.shape}, {self.stride!r})"


_new = object.__new__
_set_shape = Layout.__dict__["shape"].__set__  # past __setattr__, and faster than object.__setattr__
_set_stride = Layout.__dict__["stride"].__set__
_set_leaves = Layout.__dict__["_leaves"].__set__


def trusted(shape: IntTuple, stride: StrideTuple, leaves: Leaves | None = None) -> Layout:
    """A layout of parts that come from checked ones."""
    layout = _new(Layout)
    _set_shape(layout, shape)
    _set_stride(layout, stride)
    if leaves is not None:
        _set_leaves(layout, leaves)
    return layout


def from_modes(modes: list[tuple[int, Stride]]) -> Layout:
    """The flat layout of these modes: 1:0 of none, s:d of one."""
    if len(modes) > 1:
        shape, stride = zip(*modes, strict=True)
        return trusted(shape, stride, tuple(modes))
    s, d = modes[0] if modes else (1, 0)
    return trusted(s, d, ((s, d),))


def join(*layouts: Layout) -> Layout:
    """The layout that has each of these as a mode."""
    leaves: Leaves = ()
    for layout in layouts:
        leaves += layout._leaves
    return trusted(tuple([x.shape for x in layouts]), tuple([x.stride for x in layouts]), leaves)


def _count(index: int, leaves: Leaves) -> Stride | None:
    """The value at an index, or None for a negative one."""
    if index < 0:
        return None
    value: Stride = 0
    for extent, step in leaves:
        if index < extent:
            return value + index * step if index else value
        index, digit = divmod(index, extent)
        if digit:
            value += digit * step
    return value + index * extent * step  # beyond the size


def _evaluate(coord: IntTuple, shape: IntTuple, stride: StrideTuple) -> Stride | None:
    """The value, or None for a coordinate that does not fit."""
    if isinstance(coord, int):
        if isinstance(shape, int):
            return None if coord < 0 else coord * stride  # type: ignore[return-value]
        return _count(coord, leaves_of(shape, stride))
    if isinstance(shape, int) or not isinstance(stride, tuple) or len(coord) != len(shape):
        return None
    value: Stride = 0
    for c, s, d in zip(coord, shape, stride, strict=True):
        if type(c) is int and type(s) is int and c >= 0:
            value += c * d  # type: ignore[operator]
            continue
        part = _count(c, leaves_of(s, d)) if type(c) is int else _evaluate(c, s, d)
        if part is None:
            return None
        value += part
    return value
