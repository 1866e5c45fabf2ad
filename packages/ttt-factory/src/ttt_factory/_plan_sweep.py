"""Speeds over the number of users, or over the context: a table with bars, curves as SVG, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from ttt_factory.plan import MAX_USERS, PlanDemand, plan_model
from ttt_hw import Board
from ttt_shard_dsl import TILE

Variable = Literal["batch", "context"]
SHORTEST, LONGEST_PROMPT = 128, 8192  # tokens
BAR = 8  # characters
WIDTH, HEIGHT, LEFT, TOP, GAP = 360, 200, 60, 46, 40  # of a panel's curve, in pixels, and around it
COLOUR, OVER = "#4c78a8", "#e45756"
FONT = 'font-family="sans-serif"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One plan of a sweep. Units: tokens per second of one user and of all of them on all chips; ms."""

    users: int
    context: int
    prompt: int
    tokens_per_second_per_user: float
    tokens_per_second: float
    ttft_ms: float
    fits: bool

    def at(self, variable: Variable) -> int:
        return self.users if variable == "batch" else self.context


CURVES = (
    ("tokens_per_second_per_user", "tokens/s/user"),
    ("tokens_per_second", "tokens/s"),
    ("ttft_ms", "ttft, ms"),
)


def sweep(demand: PlanDemand, board: Board, variable: Variable, *, whole_prompt: bool = True) -> list[Point]:
    """A plan for each power of two: of users up to 32, or of context from 128 up to what the demand has.

    Over contexts with `whole_prompt`, prompts fill the context, up to 8192 tokens; else they are the demand's. Errors: those
    of `plan_model`.
    """
    points = []
    for each in _demands(demand, variable, whole_prompt):
        plan = plan_model(each, board)
        speed = plan.tokens_per_second_per_user
        points.append(
            Point(
                users=each.users,
                context=each.context,
                prompt=each.prompt,
                tokens_per_second_per_user=speed,
                tokens_per_second=speed * each.users * board.replicas,
                ttft_ms=plan.ttft_ms,
                fits=plan.fits,
            )
        )
    return points


def _demands(demand: PlanDemand, variable: Variable, whole_prompt: bool) -> list[PlanDemand]:
    if variable == "batch":
        return [replace(demand, users=users) for users in _doublings(1, MAX_USERS)]
    contexts = [context for context in _doublings(SHORTEST, demand.context) if context >= TILE]
    prompts = [min(context, LONGEST_PROMPT if whole_prompt else demand.prompt) for context in contexts]
    return [replace(demand, context=context, prompt=prompt) for context, prompt in zip(contexts, prompts, strict=True)]


def _doublings(first: int, last: int) -> list[int]:
    """first, twice that, …, and `last` itself."""
    found, value = [], first
    while value < last:
        found.append(value)
        value *= 2
    return [*found, last]


def print_sweep(points: Sequence[Point], variable: Variable, board: Board) -> None:
    title = f"{board.name} {board.mesh_text}, over {variable}"
    first = points[0]
    if variable == "batch":
        title += f": context {first.context:,}, prompts of {first.prompt:,}"
    else:
        title += f": {first.users} users" if first.users > 1 else ": 1 user"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("users",) if variable == "batch" else ("context", "prompt"):
        table.add_column(name, justify="right")
    for name, heading in CURVES:
        table.add_column(heading, justify="right")
        if name != "tokens_per_second":
            table.add_column("", no_wrap=True, min_width=BAR)
    table.add_column("fits")
    most = {name: max(getattr(point, name) for point in points) for name, _ in CURVES}
    for point in points:
        cells = [f"{point.users}"] if variable == "batch" else [f"{point.context:,}", f"{point.prompt:,}"]
        for name, _ in CURVES:
            value = getattr(point, name)
            cells.append(f"{value:,.1f}")
            if name != "tokens_per_second":
                cells.append(bar(value / most[name]))
        table.add_row(*cells, "[green]yes[/]" if point.fits else "[red]no[/]")
    Console(highlight=False).print(table)


def bar(share: float) -> str:
    """A bar of BAR characters at most, to an eighth of one."""
    eighths = max(1, round(share * BAR * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def sweep_json(points: Sequence[Point], variable: Variable, board: Board) -> dict[str, Any]:
    return {
        "schema": 1,
        "device": board.name,
        "mesh": list(board.mesh),
        "rows": board.rows,
        "sweep": variable,
        "backend": "none",
        "values": "estimates",
        "points": [{name: getattr(point, name) for name in Point.__dataclass_fields__} for point in points],
    }


def sweep_svg(points: Sequence[Point], variable: Variable, board: Board) -> str:
    """A panel for each curve, over doublings; points that do not fit the memory are red."""
    width, height = len(CURVES) * (LEFT + WIDTH + GAP), TOP + HEIGHT + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, (name, title) in enumerate(CURVES):
        parts.append(f'<g transform="translate({index * (LEFT + WIDTH + GAP)} 0)">')
        parts += _panel(points, variable, name, f"{title}, {board.name} {board.mesh_text}")
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(points: Sequence[Point], variable: Variable, name: str, title: str) -> list[str]:
    values = [float(getattr(point, name)) for point in points]
    most, bottom = max(values), TOP + HEIGHT
    step = WIDTH / max(1, len(points) - 1)
    places = [(LEFT + index * step, bottom - value / most * HEIGHT) for index, value in enumerate(values)]
    lines = [_text(LEFT, 24, title, size=14)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - share * HEIGHT
        lines.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" stroke="#cccccc"/>')
        lines.append(_text(LEFT - 6, y + 4, f"{share * most:,.4g}", size=10, more='text-anchor="end"'))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    lines.append(f'<polyline points="{path}" fill="none" stroke="{COLOUR}" stroke-width="2"/>')
    for (x, y), point, value in zip(places, points, values, strict=True):
        at = point.at(variable)
        lines.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOUR if point.fits else OVER}">'
            f"<title>{variable} {at}: {value:,.1f}{'' if point.fits else ', does not fit'}</title></circle>"
        )
        lines.append(_text(x, bottom + 18, f"{at:,}", size=10, more='text-anchor="middle"'))
    lines.append(_text(LEFT + WIDTH / 2, bottom + 40, variable, size=12, more='text-anchor="middle"'))
    return lines


def _text(x: float, y: float, text: str, *, size: int, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" {more}>{escape(text)}</text>'
