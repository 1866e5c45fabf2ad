"""Drawings of a placement, as text for a terminal and as SVG: which part of a tensor is on which chip, core and bank.

Two panels: the mesh, where chips of one colour hold the same part, and one chip, where each core or bank has the colour of its
shard. Index ranges of the first panel are those of the tensor, of the second those of what the chip holds; padding is told from
them, on a chip unless only the last chips have it. Equal placements have equal drawings.
"""

from __future__ import annotations

from collections import Counter
from colorsys import hls_to_rgb
from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.tree import Spec

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

__all__ = ["to_svg", "to_terminal"]

Colour = tuple[int, int, int]
EMPTY: Colour = (238, 238, 238)
LEGEND = 128
"""Lines of a legend in a terminal; the middle of a longer one is left out."""


Lines = tuple[str, ...]
"""An index range, and below it the padding that follows."""


class _Cell(NamedTuple):
    """A chip, core or bank: what it holds in short, and the index ranges of that."""

    label: str
    ranges: Lines
    colour: Colour


class _Panel(NamedTuple):
    """A grid of cells, rows of columns; None: holds nothing."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[_Cell | None, ...], ...]
    notes: tuple[str, ...]
    legend: tuple[tuple[str, str, Colour], ...]
    """Label, index range, colour."""


def to_terminal(
    placement: Placement, *, device: Geometry, spec: Spec | None = None, colour: bool = True, width: int = 100
) -> str:
    """The drawing as lines of text, with ANSI colours unless `colour` is False; `spec` gives the names of the dims."""
    return "\n\n".join("\n".join(_lines(panel, colour, width)) for panel in _panels(placement, device, spec)) + "\n"


def to_svg(placement: Placement, *, device: Geometry, spec: Spec | None = None) -> str:
    """The drawing as an SVG document; `spec` gives the title and the names of the dims."""
    title = str(placement)[1:-1].removeprefix("Placement ")
    body: list[str] = []
    bottom, right = 0, 7 * len(title)
    if spec is not None:
        body.append(_text(16, 28, str(spec), 17, weight="bold", family="monospace"))
        bottom, right = 28, max(right, 11 * len(str(spec)))
    body.append(_text(16, bottom + 22, title, 12, fill="#555"))
    bottom += 34
    for panel in _panels(placement, device, spec):
        bottom, edge = _draw(panel, bottom + 28, body)
        right = max(right, edge)
    size = f'width="{right + 16}" height="{bottom + 12}" viewBox="0 0 {right + 16} {bottom + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, Helvetica, Arial, sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *body, "</svg>"]) + "\n"


def _panels(placement: Placement, device: Geometry, spec: Spec | None) -> list[_Panel]:
    names = _names(placement, spec)
    chip = _chip_panel(placement, device, names)
    return [chip] if device.mesh == (1, 1) else [_mesh_panel(placement, device.mesh, names), chip]


def _names(placement: Placement, spec: Spec | None) -> list[str]:
    """A name for each entry of the shape; dims that are written as their size get one."""
    numbered = [f"dim{entry}" for entry in range(len(placement.shape))]
    if spec is None:
        return numbered
    found: list[str | None] = []
    for dim in spec.dims:
        found += dim.names or (None,)
    return [name or number for name, number in zip(found, numbered, strict=True)]


def _mesh_panel(placement: Placement, mesh: tuple[int, int], names: list[str]) -> _Panel:
    dims = placement.mesh_dims
    merged = dims[0] is not None and dims[0] == dims[1]
    counts = (1, mesh[0] * mesh[1]) if merged else tuple(1 if d is None else n for d, n in zip(dims, mesh, strict=True))
    parts = _Parts(counts, [_chip_ranges(placement, names, dims[k], counts[k]) for k in (0, 1)])

    def part(row: int, column: int) -> tuple[int, ...]:
        if merged:
            return 0, column * mesh[0] + row if placement.cols_major else row * mesh[1] + column
        return row % counts[0], column % counts[1]

    replicas = mesh[0] * mesh[1] // prod(counts)
    notes = [f"each chip holds {_times(placement.chip_shape)} of {_times(placement.shape)}"]
    if replicas > 1:
        notes[0] += f", and {replicas} chips hold the same part" if prod(counts) > 1 else ": every chip all of it"
    notes += [f"a sum over the {axis} is pending" for axis in placement.pending]
    return _Panel(
        f"mesh of {mesh[0]}×{mesh[1]} chips",
        tuple(f"col {column}" for column in range(mesh[1])),
        tuple(f"row {row}" for row in range(mesh[0])),
        tuple(tuple(parts.cell(part(row, column)) for column in range(mesh[1])) for row in range(mesh[0])),
        tuple(notes),
        parts.legend() if prod(counts) > 1 else (),
    )


def _chip_ranges(placement: Placement, names: list[str], dim: int | None, count: int) -> list[Lines]:
    if dim is None:
        return [("all",)]
    size = placement.chip_shape[dim]
    return [_span(names[dim], i * size, size, placement.shape[dim]) for i in range(count)]


class _Parts:
    """Parts of a tensor that is cut along several dims, by their index along each."""

    def __init__(self, counts: tuple[int, ...], ranges: list[list[Lines]]) -> None:
        self.counts = counts
        self.ranges = ranges
        self.cut = [k for k, count in enumerate(counts) if count > 1] or [len(counts) - 1]

    def cell(self, index: tuple[int, ...]) -> _Cell:
        label = ",".join(str(index[k]) for k in self.cut)
        lines = tuple(line for k in self.cut for line in self.ranges[k][index[k]])
        return _Cell(label, lines, self.colour(index))

    def colour(self, index: tuple[int, ...]) -> Colour:
        """Hue by the last dim that is cut, lightness by those before it."""
        *before, last = self.cut
        major, rows = 0, 1
        for k in before:
            major, rows = major * self.counts[k] + index[k], rows * self.counts[k]
        return _colour(major, index[last], rows, self.counts[last])

    def legend(self) -> tuple[tuple[str, str, Colour], ...]:
        entries = []
        for k in self.cut:
            for i, lines in enumerate(self.ranges[k]):
                index = tuple(i if other == k else 0 for other in range(len(self.counts)))
                label = ",".join(str(i) if other == k else "·" for other in self.cut)
                entries.append((label, " ".join(lines), self.colour(index)))
        return tuple(entries)


def _chip_panel(placement: Placement, device: Geometry, names: list[str]) -> _Panel:
    columns, rows = device.grid if placement.memory == "l1" else (device.dram_banks, 1)
    data = _data(placement, device.mesh)
    held, notes, legend = (
        _interleaved(placement, columns, rows) if not placement.num_shards else _sharded(placement, names, data)
    )
    padded = [
        f"{name} by {stored - size} to {stored}"
        for name, size, stored in zip(names, data, placement.chip_shape, strict=True)
        if size < stored
    ]
    notes += [f"the text pads {', '.join(padded)}"] if padded else []
    columns = max([columns, *(x + 1 for x, _ in held)])
    rows = max([rows, *(y + 1 for _, y in held)])
    unit = "cores" if placement.memory == "l1" else "DRAM banks"
    size = f"{columns}×{rows} cores" if placement.memory == "l1" else f"{columns} DRAM banks"
    title = f"{'one chip' if device.mesh == (1, 1) else 'each chip'}: {size}"
    number = placement.bytes_per_core or placement.bytes_per_bank
    notes.append(f"{number:,} bytes on each of the {unit} that hold a part")
    prefix = ("x", "y") if placement.memory == "l1" else ("bank ", "")
    return _Panel(
        title,
        tuple(f"{prefix[0]}{x}" for x in range(columns)),
        tuple(f"{prefix[1]}{y}" for y in range(rows)) if placement.memory == "l1" else ("",),
        tuple(tuple(held.get((x, y)) for x in range(columns)) for y in range(rows)),
        tuple(notes),
        tuple(legend),
    )


Held = tuple[dict[tuple[int, int], _Cell], list[str], list[tuple[str, str, Colour]]]


def _data(placement: Placement, mesh: tuple[int, int]) -> tuple[int, ...]:
    """What each chip holds without the padding of the text, where all have the same of it."""
    sizes = zip(placement.shape, placement.chip_shape, placement.whole_shape(mesh), strict=True)
    return tuple(size if chip == whole else chip for size, chip, whole in sizes)


def _interleaved(placement: Placement, columns: int, rows: int) -> Held:
    """Pages dealt one by one; which core or bank is the first is up to the device."""
    padded = placement.padded_shape
    pages = prod(padded[:-1]) // TILE * (padded[-1] // TILE) if placement.tiled else prod(padded[:-1])
    number = columns * rows
    where = "core" if placement.memory == "l1" else "bank"
    held = {}
    for i in range(min(number, pages)):
        ranges = f"{i}, {i + number}…" if i + number < pages else str(i)
        held[i % columns, i // columns] = _Cell(str(i), (f"page {ranges}",), _colour(0, i, 1, number))
    kind = "tile" if placement.tiled else "row"
    notes = [
        f"interleaved: page p, a {kind}, is in {where} p mod {number}; {pages:,} pages of {placement.page_bytes:,} bytes"
    ]
    return held, notes, []


def _sharded(placement: Placement, names: list[str], data: tuple[int, ...]) -> Held:
    counts, shape = placement.shard_grid, placement.shard_shape
    assert shape is not None
    ranges = [
        [_shard_span(placement, names, data, dim - len(counts), size, i) for i in range(counts[dim])]
        for dim, size in enumerate(shape)
    ]
    parts = _Parts(counts, ranges)
    held: dict[tuple[int, int], _Cell] = {}
    for core, index in zip(placement.cores, product(*map(range, counts)), strict=True):
        cell, before = parts.cell(index), held.get(core)
        held[core] = cell if before is None else _both(before, cell)
    order = ", down the columns" if placement.col_major and placement.sharding != "block" else ""
    legend = list(parts.legend())
    several = max(Counter(placement.cores).values())
    if several > 1:
        hues = {core: _colour(0, number, 1, len(held)) for number, core in enumerate(held)}
        held = {core: cell._replace(colour=hues[core]) for core, cell in held.items()}
        if len(parts.cut) == 1:
            legend = [(label, text, hues[core]) for (label, text, _), core in zip(legend, placement.cores, strict=True)]
        order += f", up to {several} on one, {'in a row' if placement.contiguous else 'dealt in turn'}"
    shards = "1 shard" if placement.num_shards == 1 else f"{placement.num_shards} shards"
    return held, [f"{placement.sharding} sharded: {shards} of {_times(shape)}{order}"], legend


def _both(before: _Cell, cell: _Cell) -> _Cell:
    """A core with several shards: the first three labels, and the ranges of the first."""
    if before.label.count(" ") == 2:
        return before._replace(label=before.label.removesuffix("…") + "…")
    ranges = tuple(text.removesuffix(" …") + " …" for text in before.ranges)
    return before._replace(label=f"{before.label} {cell.label}", ranges=ranges)


def _shard_span(
    placement: Placement, names: list[str], data: tuple[int, ...], dim: int, size: int, index: int
) -> Lines:
    """What a shard has of a stored dim, counted from the end; the first may be several dims taken as one."""
    last = len(names) + dim
    if last < 0:  # the row that tiles give a vector
        return ("row",)
    stored = placement.padded_shape[-len(names) :]
    merged = -dim == len(placement.shard_grid) and last > 0
    entry, unit = last, 1
    if merged:  # the leading dims of which it holds whole indices
        for before in range(last + 1):
            rows = prod(stored[before + 1 : last + 1])
            if size % rows == 0:
                entry, unit = before, rows
                break
    first = next((k for k in range(entry) if stored[k] > 1), entry) if merged else entry
    name = names[entry] if first == entry else f"({' '.join(names[first : entry + 1])})"
    end = prod(stored[first:entry]) * (data[entry] if first == entry else stored[entry])
    return _span(name, index * size // unit, size // unit, end)


def _span(name: str, start: int, size: int, end: int) -> Lines:
    """Half-open, as a slice; what lies past the end is padding."""
    if start >= end:
        return (f"{name} padding",)
    past = start + size - end
    return (f"{name} {start}:{end}", f"+ {past} padding") if past > 0 else (f"{name} {start}:{start + size}",)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _colour(i: int, j: int, rows: int, columns: int) -> Colour:
    """Hue by column and lightness by row, or hue by the only one that there is; light enough for black text."""
    if columns == 1:
        i, j, rows, columns = 0, i, 1, rows
    lightness = 0.67 + 0.21 * i / (rows - 1) if rows > 1 else (0.70, 0.78)[j % 2]
    rgb = hls_to_rgb(0.83 * j / columns, lightness, 0.70)
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def _lines(panel: _Panel, colour: bool, width: int) -> list[str]:
    labels = [cell.label for line in panel.cells for cell in line if cell is not None]
    cell_width = max(4, *(len(label) + 2 for label in labels), *(len(head) + 1 for head in panel.columns))
    head_width = max(len(row) for row in panel.rows) + 1
    lines = [panel.title, *(f"  {note}" for note in panel.notes)]
    lines.append((" " * head_width + "".join(head.center(cell_width) for head in panel.columns)).rstrip())
    for head, cells in zip(panel.rows, panel.cells, strict=True):
        line = head.ljust(head_width)
        for cell in cells:
            text = ("·" if cell is None else cell.label).center(cell_width)
            line += text if cell is None or not colour else _paint(text, cell.colour)
        lines.append(line.rstrip())
    return lines + _legend_lines(panel.legend, colour, width)


def _legend_lines(legend: tuple[tuple[str, str, Colour], ...], colour: bool, width: int) -> list[str]:
    """In columns, read downwards."""
    if not legend:
        return []
    if len(legend) > LEGEND:
        legend = (*legend[: LEGEND - 2], ("…", "", EMPTY), legend[-1])
    label_width = max(len(label) for label, _, _ in legend)
    text_width = max(len(text) for _, text, _ in legend)
    columns = max(1, min(8, width // (label_width + text_width + 5)))
    rows = -(-len(legend) // columns)
    lines = []
    for row in range(rows):
        line = ""
        for label, text, rgb in legend[row::rows]:
            key = f" {label.rjust(label_width)} "
            line += f"{_paint(key, rgb) if colour else key} {text.ljust(text_width)}  "
        lines.append(line.rstrip())
    return ["", *lines]


def _paint(text: str, colour: Colour) -> str:
    return f"\x1b[38;2;0;0;0;48;2;{colour[0]};{colour[1]};{colour[2]}m{text}\x1b[0m"


def _draw(panel: _Panel, top: int, body: list[str]) -> tuple[int, int]:
    """Append the elements of a panel; returns its bottom and right edges."""
    ranges = [text for line in panel.cells for cell in line if cell is not None for text in cell.ranges]
    deepest = max(len(cell.ranges) for line in panel.cells for cell in line if cell is not None)
    labels = [cell.label for line in panel.cells for cell in line if cell is not None]
    width = max(46, 10 + round(5.8 * max(map(len, ranges), default=0)), 10 + 9 * max(map(len, labels)))
    height = 24 + 12 * deepest
    body.append(_text(16, top, panel.title, 14, weight="bold"))
    right = 16 + 9 * len(panel.title)
    for note in panel.notes:
        top += 17
        body.append(_text(16, top, note, 12, fill="#333"))
        right = max(right, 16 + 7 * len(note))
    left = 16 + (8 * max(len(row) for row in panel.rows) + 8 if any(panel.rows) else 0)
    top += 22
    for column, head in enumerate(panel.columns):
        body.append(_text(left + column * width + width // 2, top, head, 10, anchor="middle", fill="#555"))
    top += 6
    for row, (head, cells) in enumerate(zip(panel.rows, panel.cells, strict=True)):
        y = top + row * height
        if head:
            body.append(_text(left - 8, y + height // 2 + 4, head, 10, anchor="end", fill="#555"))
        for column, cell in enumerate(cells):
            x = left + column * width
            rgb = "#{:02x}{:02x}{:02x}".format(*(EMPTY if cell is None else cell.colour))
            box = f'<rect x="{x}" y="{y}" width="{width - 2}" height="{height - 2}" rx="3" fill="{rgb}"/>'
            body.append(box)
            if cell is not None:
                body.append(_text(x + width // 2 - 1, y + 16, cell.label, 13, anchor="middle", weight="bold"))
                for number, text in enumerate(cell.ranges):
                    body.append(_text(x + width // 2 - 1, y + 29 + 12 * number, text, 9, anchor="middle"))
    return top + len(panel.rows) * height, max(right, left + len(panel.columns) * width)


def _text(
    x: int,
    y: int,
    text: str,
    size: int,
    *,
    anchor: str = "start",
    weight: str = "",
    fill: str = "#000",
    family: str = "",
) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    extra = f' text-anchor="{anchor}"' if anchor != "start" else ""
    extra += f' font-weight="{weight}"' if weight else ""
    extra += f' font-family="DejaVu Sans Mono, {family}"' if family else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{extra}>{escaped}</text>'
