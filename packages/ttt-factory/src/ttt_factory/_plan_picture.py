"""A plan's memory as a drawing: what fills a chip's DRAM, and what a core's L1 holds at each operation of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ttt_factory.plan import ModelPlan, Section
from ttt_hw import BlockPlan

GB = 1e9
KINDS = (
    ("weights", "#4c78a8"),
    ("cache", "#b279a2"),
    ("tables", "#72b7b2"),
    ("activations", "#eeca3b"),
)
TENSORS, BUFFERS, FREE, OVER = "#54a24b", "#f58518", "#eeeeee", "#e45756"
FONT = 'font-family="sans-serif"'
WIDTH, BAR, STEP, HEIGHT, LABELS = 40, 36, 26, 260, 190


def memory_svg(plan: ModelPlan) -> str:
    """One panel for the DRAM of a chip, and one for each mode and kind of layer with a bar for each operation."""
    panels = [_dram(plan)]
    for mode in ("decode", "prefill"):
        for section in plan.sections:
            if section.name.startswith("layer"):
                panels.append(_l1(section, mode, section.plans[mode]))
    width = max(width for width, _, _ in panels)
    parts, y = [], 0
    for _, height, lines in panels:
        parts.append(f'<g transform="translate(0 {y})">')
        parts += lines
        parts.append("</g>")
        y += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}">'
        f'<rect width="{width}" height="{y}" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, *, size: int = 12, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" {more}>{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="white" '
        f'stroke-width="0.5"><title>{escape(title)}</title></rect>'
    )


def _dram(plan: ModelPlan) -> tuple[int, int, list[str]]:
    memory, wide = plan.memory, 640
    scale = wide / max(memory.capacity, memory.total)
    lines = [
        _text(
            10,
            22,
            f"DRAM of a chip: {plan.board.name} {plan.board.mesh_text}, {memory.total / GB:.2f} of "
            f"{memory.capacity / GB:.2f} GB",
            size=14,
        )
    ]
    x = 10.0
    sizes = [(name, getattr(memory, name), colour) for name, colour in KINDS]
    sizes.append(("free", memory.capacity - memory.total, FREE) if memory.fits else ("too many", 0, OVER))
    for name, size, colour in sizes:
        lines.append(_box(x, 34, size * scale, BAR, colour, f"{name}: {size:,} bytes"))
        x += size * scale
    end = 10 + memory.capacity * scale
    lines.append(f'<line x1="{end:.1f}" y1="30" x2="{end:.1f}" y2="{38 + BAR}" stroke="black"/>')
    for index, (name, size, colour) in enumerate(sizes):
        at = 10 + index * 132
        lines.append(_box(at, 84, 10, 10, colour, name))
        lines.append(_text(at + 14, 93, f"{name} {(size or -memory.missing) / GB:.2f} GB", size=11))
    return wide + 40, 120, lines


def _l1(section: Section, mode: str, plan: BlockPlan) -> tuple[int, int, list[str]]:
    capacity = plan.board.l1_bytes_per_core
    steps = list(_steps(plan))
    times = f" × {section.count}" if section.count > 1 else ""
    lines = [_text(10, 22, f"L1 of the fullest core, {mode}: {section.name}{times}, {capacity:,} bytes", size=14)]
    for index, (colour, name) in enumerate(((TENSORS, "tensors that are alive"), (BUFFERS, "buffers of the program"))):
        lines.append(_box(10 + index * 180, 32, 10, 10, colour, name))
        lines.append(_text(24 + index * 180, 41, name, size=11))
    bottom, scale = 54 + HEIGHT, HEIGHT / capacity
    left = 10 + WIDTH
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - share * HEIGHT
        lines.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + STEP * len(steps)}" y2="{y:.1f}" stroke="#cccccc"/>')
        lines.append(_text(left - 6, y + 4, f"{share:.0%}", size=10, more='text-anchor="end"'))
    for index, (name, tensors, buffers) in enumerate(steps):
        x = left + index * STEP + 3
        lines.append(
            _box(x, bottom - tensors * scale, STEP - 6, tensors * scale, TENSORS, f"{name}: {tensors:,} bytes")
        )
        top = bottom - (tensors + buffers) * scale
        lines.append(_box(x, top, STEP - 6, buffers * scale, BUFFERS, f"{name}: {buffers:,} bytes"))
        lines.append(
            _text(x + 12, bottom + 10, name, size=10, more=f'transform="rotate(60 {x + 12:.1f} {bottom + 10})"')
        )
    return left + STEP * len(steps) + 120, bottom + LABELS, lines


def _steps(plan: BlockPlan) -> Iterator[tuple[str, int, int]]:
    """Name, bytes of tensors and bytes of buffers of each move and operation."""
    for op in plan.ops:
        for move in op.moves:
            yield f"{move.tensor} moves", move.l1_bytes - move.buffers, move.buffers
        yield op.request.name, op.l1_bytes - op.buffers, op.buffers
