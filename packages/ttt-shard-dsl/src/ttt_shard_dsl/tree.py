"""The tree of a layout text: frozen tuples whose `str` is the canonical text, which parses back to an equal tree.

rule  := spec ["->" spec]
spec  := dim+ ("+" axis)* ["in" ("l1"|"dram") ["on" cores]] ["as" dtype]
cores := range ("," range)* [":col"] [":contiguous"]
dim   := (NAME|INT|"(" NAME+ ")") ["|" INT] place*
place := ("@"|"~") axis [":" INT]
axis  := NAME ["." NAME]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry
    from ttt_shard_dsl.placement import Placement

__all__ = ["Axis", "CoreRange", "Cores", "Dim", "Place", "Rule", "Spec"]


class Axis(NamedTuple):
    """What a dim is split over: the chips along a mesh axis, the worker cores, or the DRAM banks."""

    name: str
    sub: str | None = None

    def __str__(self) -> str:
        return self.name if self.sub is None else f"{self.name}.{self.sub}"


class Place(NamedTuple):
    """One split of a dim over an axis: blocked (`@`) or cyclic (`~`), in blocks of `block` or of equal size."""

    axis: Axis
    cyclic: bool = False
    block: int | None = None

    def __str__(self) -> str:
        return f"{'~' if self.cyclic else '@'}{self.axis}{'' if self.block is None else f':{self.block}'}"


class Dim(NamedTuple):
    """One dim, or a group of adjacent dims: its names, or its size and no name; places run from major to minor."""

    names: tuple[str, ...]
    size: int | None = None
    pad: int | None = None
    places: tuple[Place, ...] = ()

    @property
    def label(self) -> str:
        """The dim as written, without padding and places."""
        if self.size is not None:
            return str(self.size)
        return self.names[0] if len(self.names) == 1 else f"({' '.join(self.names)})"

    def __str__(self) -> str:
        pad = "" if self.pad is None else f"|{self.pad}"
        return self.label + pad + "".join(map(str, self.places))


class CoreRange(NamedTuple):
    """A rectangle of cores, both corners included."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def columns(self) -> int:
        return self.x1 - self.x0 + 1

    @property
    def rows(self) -> int:
        return self.y1 - self.y0 + 1

    def __str__(self) -> str:
        return f"{self.x0}-{self.y0}..{self.x1}-{self.y1}"


class Cores(NamedTuple):
    """Core ranges in placement order; `col` goes down columns, `contiguous` fills a core before the next."""

    ranges: tuple[CoreRange, ...]
    col: bool = False
    contiguous: bool = False

    def __str__(self) -> str:
        ranges = ",".join(map(str, self.ranges))
        return f"{ranges}{':col' if self.col else ''}{':contiguous' if self.contiguous else ''}"


class Spec(NamedTuple):
    """A layout: its dims, the axes over which it is a pending sum, and where it lives."""

    dims: tuple[Dim, ...]
    pending: tuple[Axis, ...] = ()
    memory: str | None = None
    cores: Cores | None = None
    dtype: str | None = None

    def __str__(self) -> str:
        words = [*map(str, self.dims), *(f"+{axis}" for axis in self.pending)]
        if self.memory is not None:
            words.append(f"in {self.memory}")
        if self.cores is not None:
            words.append(f"on {self.cores}")
        if self.dtype is not None:
            words.append(f"as {self.dtype}")
        return " ".join(words)

    def place(
        self, shape: Sequence[int], *, device: Geometry, dtype: str | None = None, tiled: bool = True
    ) -> Placement:
        """This layout for a tensor on a device: checked, and resolved to shards, cores and bytes.

        `dtype` defaults to the text's `as`, and without one to bfloat16.

        Errors: `LayoutError` when the tensor or the device does not allow it, or this version cannot lower it yet.
        """
        from ttt_shard_dsl._resolve import place  # the tree does not depend on what is done with it

        return place(self, shape, device=device, dtype=dtype, tiled=tiled)


class Rule(NamedTuple):
    """A change of layout, `source -> target`."""

    source: Spec
    target: Spec

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"
