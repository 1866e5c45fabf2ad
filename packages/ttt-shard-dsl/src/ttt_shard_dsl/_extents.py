"""First half of a placement: the dims of a text meet the shape of a tensor and the mesh."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod
from typing import NamedTuple, NoReturn

from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.parser import Path, parse_with_spans
from ttt_shard_dsl.tree import Dim, Place, Spec

MESH_AXES = ("rows", "cols")
LOCAL_AXES = ("core", "core.x", "core.y", "bank")
LOWERED = "allowed: dims @core or ~core; or one @core.y and one @core.x; or dims @bank or ~bank; @rows, @cols besides"


def fail(spec: Spec, path: Path, reason: str, choices: str = "") -> NoReturn:
    """Raise about one part of a spec, pointing at it in the canonical text."""
    text = str(spec)
    raise LayoutError(reason, text, parse_with_spans(text)[1].get(path), choices)


class Local(NamedTuple):
    """A place of a dim on the cores or banks of a chip, and the entries of the shape that the dim covers."""

    axis: str
    place: Place
    path: Path
    dim: Dim
    first: int
    last: int
    """Index of the dim's last entry, included."""


class Extents(NamedTuple):
    """What one chip holds, and what is left to split over its cores or banks."""

    chip_shape: tuple[int, ...]
    padded_shape: tuple[int, ...]
    mesh_dims: tuple[int | None, int | None]
    local: tuple[Local, ...]
    cols_major: bool
    """Whether a dim that both mesh axes split is split over the columns first."""


def resolve_extents(spec: Spec, shape: Sequence[int], mesh: tuple[int, int], tiled: bool) -> Extents:
    """Match dims with sizes, apply padding, and split over the mesh.

    Errors: `LayoutError` when the sizes differ, do not split evenly, or an axis is unknown or used twice.
    """
    wanted = sum(max(1, len(dim.names)) for dim in spec.dims)
    if wanted != len(shape):
        dims = "1 dim" if wanted == 1 else f"{wanted} dims"
        fail(spec, (), f"{dims} but the shape {tuple(shape)} has {len(shape)}", "allowed: one dim for each size")
    if min(shape) < 1:
        raise LayoutError(
            f"a tensor of shape {tuple(shape)} has nothing to place", choices="allowed: sizes of at least 1"
        )

    chip = list(shape)
    mesh_dims: list[int | None] = [None, None]
    cols_major = False
    local: list[Local] = []
    entry = 0
    for index, dim in enumerate(spec.dims):
        first, last = entry, entry + max(1, len(dim.names)) - 1
        entry = last + 1
        if dim.size is not None and dim.size != shape[first]:
            fail(
                spec,
                ("dim", index),
                f"dim {index} is {dim.size} but the shape {tuple(shape)} has {shape[first]}",
                f"nearest valid: {shape[first]}",
            )
        if dim.pad is not None:
            if last > first:
                fail(
                    spec,
                    ("dim", index),
                    f"padding of the group {dim.label} cannot be lowered yet",
                    "allowed: padding of one dim",
                )
            chip[first] = -(-chip[first] // dim.pad) * dim.pad
        on_chip = False
        for number, place in enumerate(dim.places):
            path: Path = ("dim", index, "place", number)
            axis = str(place.axis)
            if axis in LOCAL_AXES:
                on_chip = True
                local.append(Local(axis, place, path, dim, first, last))
            elif axis not in MESH_AXES:
                fail(spec, path, f"'{axis}' is not an axis of the device", nearest(axis, (*LOCAL_AXES, *MESH_AXES)))
            elif place.cyclic:
                fail(spec, path, f"chips have blocks: '{axis}' cannot deal in turn", f"nearest valid: @{axis}")
            elif on_chip:
                fail(spec, path, f"'{axis}' splits over chips after a split inside one", "allowed: mesh axes first")
            elif last > first:
                fail(spec, path, f"a group over '{axis}' cannot be lowered yet", "allowed: one dim over a mesh axis")
            else:
                cols_major |= axis == "rows" and mesh_dims[1] == first and min(mesh) > 1
                _split_over_mesh(spec, path, dim, place, chip, first, mesh, mesh_dims)

    for number, axis_ in enumerate(spec.pending):
        axis = str(axis_)
        if axis not in MESH_AXES:
            fail(spec, ("pending", number), f"a sum over '{axis}' cannot be pending", "allowed: +rows, +cols")
        if mesh_dims[MESH_AXES.index(axis)] is not None:
            fail(
                spec,
                ("pending", number),
                f"'{axis}' both splits a dim and has a sum pending",
                "allowed: one of the two",
            )

    padded = list(chip)
    if tiled:
        if len(padded) == 1:
            padded.insert(0, 1)
        padded[-2:] = (-(-padded[-2] // TILE) * TILE, -(-padded[-1] // TILE) * TILE)
    return Extents(tuple(chip), tuple(padded), (mesh_dims[0], mesh_dims[1]), tuple(local), cols_major)


def _split_over_mesh(
    spec: Spec,
    path: Path,
    dim: Dim,
    place: Place,
    chip: list[int],
    entry: int,
    mesh: tuple[int, int],
    mesh_dims: list[int | None],
) -> None:
    axis = str(place.axis)
    which = MESH_AXES.index(axis)
    if mesh_dims[which] is not None:
        fail(spec, path, f"'{axis}' splits two dims", "allowed: each mesh axis once")
    mesh_dims[which] = entry
    size, chips = chip[entry], mesh[which]
    if size % chips:
        over = (str(place.axis) for place in dim.places)
        parts = prod(mesh[MESH_AXES.index(name)] for name in over if name in MESH_AXES)
        even = dim._replace(pad=lcm(parts, dim.pad or 1), places=tuple(p._replace(block=None) for p in dim.places))
        fail(
            spec,
            path,
            f"{size} of '{dim.label}' does not split evenly over '{axis}', which has {chips}",
            f"nearest valid: {even}",
        )
    chip[entry] = size // chips
    if place.block is not None and place.block != chip[entry]:
        fail(
            spec,
            path,
            f"blocks of {place.block} but '{axis}' has {chips} and '{dim.label}' is {size}",
            f"nearest valid: @{axis}:{chip[entry]}",
        )
