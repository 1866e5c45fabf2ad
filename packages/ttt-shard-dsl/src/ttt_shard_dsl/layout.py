"""A layout: a function from indices to integers, written as a nested shape and a stride for each part of it.

L(c₀, c₁, …) = Σ cₖ·dₖ, and L(i) is L of the coordinate that counts to i with the leftmost part fastest. The last part
is unbounded: indices beyond the size go on along it.

Source: CuTe, "Layouts" (NVIDIA CUTLASS, media/docs/cpp/cute/01_layout.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from ttt_shard_dsl.errors import LayoutError

IntTuple = int | tuple["IntTuple", ...]
"""An integer, or a nested tuple of integers."""


def product(shape: IntTuple) -> int:
    if isinstance(shape, int):
        return shape
    size = 1
    for part in shape:
        size *= part if isinstance(part, int) else product(part)
    return size


def show(value: IntTuple) -> str:
    return str(value) if isinstance(value, int) else f"({','.join(map(show, value))})"


class Layout:
    """A nested shape with a congruent stride; without one, the compact stride with the leftmost part fastest.

    `==` compares as written: (2,2):(1,2) is not 4:1, though both are the same function.

    Errors: `LayoutError` when the two are not congruent, or an extent is less than 1.
    """

    __slots__ = ("shape", "stride")

    shape: IntTuple
    stride: IntTuple

    def __init__(self, shape: IntTuple, stride: IntTuple | None = None) -> None:
        _check_extents(shape, shape)
        if stride is None:
            stride = _compact(shape, 1)
        elif not _congruent(shape, stride):
            raise LayoutError("the stride is not congruent to the shape", f"{show(shape)}:{show(stride)}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "stride", stride)

    @property
    def size(self) -> int:
        """How many indices there are."""
        return product(self.shape)

    @property
    def cosize(self) -> int:
        """The span of the values: 1 + Σ (s−1)·|d|."""
        return 1 + sum((s - 1) * abs(d) for s, d in self.leaves())

    def __call__(self, *coord: IntTuple) -> int:
        """L(i), L((i, j)) or L(i, j), where each part of a coordinate may be an index into a nested mode.

        Errors: `LayoutError` for a negative index, or a coordinate that does not fit the shape.
        """
        at = coord[0] if len(coord) == 1 else coord
        value = _evaluate(at, self.shape, self.stride)
        if value is None:
            raise LayoutError(f"{show(at)} is not a coordinate of the layout", str(self))
        return value

    def leaves(self) -> Iterator[tuple[int, int]]:
        """The (extent, stride) of each part, nesting removed."""
        return _leaves(self.shape, self.stride)

    def __len__(self) -> int:
        return 1 if isinstance(self.shape, int) else len(self.shape)

    def __getitem__(self, mode: int) -> Layout:
        """One top-level mode."""
        if isinstance(self.shape, int) or isinstance(self.stride, int):
            return (self,)[mode]
        return Layout(self.shape[mode], self.stride[mode])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self.shape == other.shape and self.stride == other.stride

    def __hash__(self) -> int:
        return hash((self.shape, self.stride))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Layout is immutable: {name} cannot be set")

    def __reduce__(self) -> tuple[type[Layout], tuple[IntTuple, IntTuple]]:
        return Layout, (self.shape, self.stride)

    def __str__(self) -> str:
        return f"{show(self.shape)}:{show(self.stride)}"

    def __repr__(self) -> str:
        return f"Layout({self.shape}, {self.stride})"


def _check_extents(shape: IntTuple, whole: IntTuple) -> None:
    if isinstance(shape, int):
        if shape < 1:
            raise LayoutError(f"an extent is at least 1, not {shape}", show(whole))
    elif shape:
        for part in shape:
            _check_extents(part, whole)
    else:
        raise LayoutError("a mode has no parts", show(whole))


def _congruent(shape: IntTuple, stride: IntTuple) -> bool:
    if isinstance(shape, int) or isinstance(stride, int):
        return isinstance(shape, int) and isinstance(stride, int)
    return len(shape) == len(stride) and all(map(_congruent, shape, stride))


def _compact(shape: IntTuple, step: int) -> IntTuple:
    if isinstance(shape, int):
        return step
    strides: list[IntTuple] = []
    for part in shape:
        strides.append(_compact(part, step))
        step *= product(part)
    return tuple(strides)


def _leaves(shape: IntTuple, stride: IntTuple) -> Iterator[tuple[int, int]]:
    if isinstance(shape, int) or isinstance(stride, int):
        assert isinstance(shape, int)
        assert isinstance(stride, int)
        yield shape, stride
        return
    for s, d in zip(shape, stride, strict=True):
        yield from _leaves(s, d)


def _evaluate(coord: IntTuple, shape: IntTuple, stride: IntTuple) -> int | None:
    """The value, or None for a coordinate that does not fit."""
    if isinstance(coord, int):
        if coord < 0:
            return None
        value = 0
        leaves = list(_leaves(shape, stride))
        for extent, step in leaves[:-1]:
            coord, digit = divmod(coord, extent)
            value += digit * step
        return value + coord * leaves[-1][1]
    if isinstance(shape, int) or isinstance(stride, int) or len(coord) != len(shape):
        return None
    parts = [_evaluate(c, s, d) for c, s, d in zip(coord, shape, stride, strict=True)]
    return None if None in parts else sum(part for part in parts if part is not None)
