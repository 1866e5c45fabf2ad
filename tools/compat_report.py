"""What the cells said: a terminal table, a page with the matrix as a picture, Markdown, JSON, and the known-good set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from packaging.version import Version
from rich import box
from rich.console import Console
from rich.table import Table

from tools.compat_cell import STEPS, Result

TITLE = "Which versions go together"
COMMAND = "nox -s compat"
MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
COLOURS = {True: "#2e7d4f", False: "#c0392b"}
UNSUPPORTED = (
    (Version("0.75"), "a board opened as a mock crashes at the first operation, so nothing can be checked"),
    (Version("0.80"), "no golden functions of attention, slices and other operations, so that values cannot be compared; "
                      "a tensor is split over a mesh only with the device open"),
)  # fmt: skip
"""Up to which release, without it, ttnn cannot be supported, and why."""


def shown(version: str) -> str:
    """A version as people write it: what is not released has the id of its content, and is shown as newer.

    >>> shown("0.1.1+g5f0c12345678")
    '0.1.1 (next)'
    """
    public, _, local = version.partition("+")
    return f"{public} (next)" if local else public


def column_of(result: Result) -> tuple[str, str, str]:
    return result.cell.python, result.cell.ttnn or "", result.cell.third_party


def column_name(column: tuple[str, str, str]) -> str:
    python, ttnn, end = column
    return f"Python {python}, {f'ttnn {ttnn}' if ttnn else 'no ttnn'}, {end}"


def grid(results: Sequence[Result]) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Rows, a version of a subject each, and columns, an environment each."""
    rows = {(result.cell.subject, dict(result.cell.versions)[result.cell.subject]) for result in results}
    ordered = sorted(rows, key=lambda row: (row[0], Version(row[1])))
    columns = sorted(
        {column_of(result) for result in results}, key=lambda each: (each[2] == "highest", each[0], each[1])
    )
    return ordered, columns


def of(results: Sequence[Result], row: tuple[str, str], column: tuple[str, str, str]) -> list[Result]:
    mine = (result for result in results if result.cell.subject == row[0] and column_of(result) == column)
    return [result for result in mine if row in result.cell.versions]


def print_table(results: Sequence[Result], impossible: Sequence[str], console: Console, seconds: float) -> None:
    """A line for each cell: its versions, and how each step ended."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("package", "version", "Python", "ttnn", "others", "steps"):
        table.add_column(name, no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    for result in results:
        cell = result.cell
        table.add_row(
            cell.subject,
            shown(dict(cell.versions)[cell.subject]),
            cell.python,
            cell.ttnn or "–",
            cell.third_party,
            "".join(MARKS[step.status] for step in result.steps),
            f"{result.seconds:.1f}",
        )
    console.print(table)
    console.print(f"steps: {', '.join(STEPS)}")
    for line in impossible:
        console.print(f"impossible: {line}", markup=False)
    red = sum(not result.passed for result in results)
    spent = sum(result.seconds for result in results)
    console.print(f"{len(results)} cells, {red} red; {spent:,.0f} s of work, {seconds:,.0f} s now", markup=False)


def known_good(results: Sequence[Result]) -> dict[str, str]:
    """Versions that were tried together, all of them in green cells; empty if one is red."""
    whole = [result for result in results if result.cell.whole]
    if not whole or not all(result.passed for result in whole):
        return {}
    chosen: dict[str, str] = {}
    for result in sorted(whole, key=lambda each: -len(each.cell.versions)):
        versions = dict(result.cell.versions)
        if all(chosen.get(name, version) == version for name, version in versions.items()):
            chosen |= versions
    return dict(sorted(chosen.items()))


def constraints_file(versions: Mapping[str, str]) -> str:
    """The known-good set as pip and uv read it."""
    lines = [
        f"# Versions that were tried together; written by `{COMMAND}`. pip install -c known-good.txt ttt-generation"
    ]
    if any("+" in version for version in versions.values()):
        lines.append("# Some of these are not released yet: they are what the next release would be.")
    lines += [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]
    return "\n".join(lines) + "\n"


def markdown(results: Sequence[Result], impossible: Sequence[str], unsupported: Mapping[str, str]) -> str:
    rows, columns = grid(results)
    lines = [
        f"# {TITLE}",
        "",
        f"Written by `{COMMAND}`. Each cell is an empty environment with built wheels alone: bare import, the README's example,",
        "mypy, and the conformance kit on a mock device. ✓ all held, ✗ one did not. [As a page](matrix.html),",
        "[as JSON](matrix.json), [the known-good set](known-good.txt).",
        "",
    ]
    lines += ["| package | " + " | ".join(map(column_name, columns)) + " |", "|---|" + "---|" * len(columns)]
    for row in rows:
        marks = (" ".join("✓" if each.passed else "✗" for each in of(results, row, column)) for column in columns)
        lines.append(f"| {row[0]} {shown(row[1])} | " + " | ".join(marks) + " |")
    lines.append("")
    for result in results:
        if not result.passed:
            step = result.steps[-1]
            lines += [f"## {result.cell.name}: {step.name} failed", "", "```", step.detail, "```", ""]
    if impossible:
        lines += ["## Ranges that nobody can use", "", *(f"* {line}" for line in impossible), ""]
    lines += ["## ttnn releases out of range", "", *(f"* {name}: {why}" for name, why in unsupported.items()), ""]
    return "\n".join(lines)


def picture(results: Sequence[Result]) -> str:
    """The matrix as SVG: a row for each version of a package, a column for each environment, a square for each cell."""
    rows, columns = grid(results)
    left, top, size, gap = 230, 190, 30, 4
    step = size + gap
    width, height = left + step * len(columns) + 170, top + step * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{TITLE}" font-family="system-ui, sans-serif" font-size="13">'
    ]
    for x, column in enumerate(columns):
        at = left + x * step + size / 2
        parts.append(
            f'<text transform="translate({at + 4} {top - 10}) rotate(-45)" fill="currentColor" font-size="12">'
            f"{escape(column_name(column))}</text>"
        )
    for y, row in enumerate(rows):
        at = top + y * step
        parts.append(
            f'<text x="{left - 12}" y="{at + size * 0.65}" text-anchor="end" fill="currentColor">'
            f"{escape(row[0])} {escape(shown(row[1]))}</text>"
        )
        for x, column in enumerate(columns):
            cells = of(results, row, column)
            if not cells:
                parts.append(
                    f'<rect x="{left + x * step}" y="{at}" width="{size}" height="{size}" rx="4" fill="currentColor" '
                    'opacity="0.06"/>'
                )
            for i, result in enumerate(cells):
                share = size / len(cells)
                parts.append(
                    f'<g fill="{COLOURS[result.passed]}"><title>{escape(_tip(result))}</title>'
                    f'<rect x="{left + x * step + i * share:.1f}" y="{at}" width="{share - (len(cells) > 1):.1f}" '
                    f'height="{size}" rx="4"/></g>'
                )
                if not result.passed:
                    parts.append(
                        f'<text x="{left + x * step + (i + 0.5) * share:.1f}" y="{at + size * 0.67}" fill="white" '
                        'text-anchor="middle" pointer-events="none">✗</text>'
                    )
    return "\n".join([*parts, "</svg>"])


def _tip(result: Result) -> str:
    others = [f"{name} {shown(version)}" for name, version in result.cell.versions if name != result.cell.subject]
    steps = [f"{MARKS[step.status]} {step.name}{f': {step.detail}' if step.detail else ''}" for step in result.steps]
    return "\n".join([f"{result.cell.name} ({result.cell.why})", f"with {', '.join(others) or 'nothing'}", *steps])[
        :1500
    ]


def page(results: Sequence[Result], impossible: Sequence[str], unsupported: Mapping[str, str], good: str) -> str:
    red = [result for result in results if not result.passed]
    verdict = "all green" if not red else f"{len(red)} red"
    failures = "".join(
        f"<h3>{escape(result.cell.name)}: {result.steps[-1].name} failed</h3><pre>{escape(result.steps[-1].detail)}</pre>"
        for result in red
    )
    cannot = "".join(f"<li>{escape(line)}</li>" for line in impossible)
    older = "".join(f"<li>ttnn {escape(name)}: {escape(why)}</li>" for name, why in unsupported.items())
    return f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
svg {{ max-width: 100%; height: auto }}
pre {{ overflow-x: auto; padding: 0.8em; background: color-mix(in srgb, currentColor 7%, transparent); border-radius: 6px;
  font-size: 13px }}
</style></head><body>
<h1>{TITLE}</h1>
<p>{len(results)} cells, {verdict}. Each is an empty environment that holds built wheels alone, those of the row with what they
need: bare import, the README's example, mypy, and the conformance kit on a mock device. In a column “lowest” everything is as
old as the ranges let it be, in “highest” as new. Point at a square for its versions and steps.</p>
{picture(results)}
{failures}{f"<h2>Ranges that nobody can use</h2><ul>{cannot}</ul>" if cannot else ""}
<h2>Known-good set</h2>
<pre>{escape(good) or "None: a cell of it is red."}</pre>
<h2>ttnn releases out of range</h2>
<ul>{older}</ul>
</body></html>
"""


def unsupported_of(releases: Sequence[str]) -> dict[str, str]:
    """Why each ttnn release is in no cell; those before the first known one are together."""
    found = {f"before {UNSUPPORTED[0][0]}": UNSUPPORTED[0][1]}
    for release in releases:
        for end, why in UNSUPPORTED:
            if Version(release) < end:
                found[release] = why
                break
    return found


def write_report(results: Sequence[Result], impossible: Sequence[str], folder: Path, *, ttnn: Sequence[str]) -> None:
    """The page, the Markdown, the JSON and, if its cells are green, the known-good set."""
    folder.mkdir(parents=True, exist_ok=True)
    unsupported = unsupported_of(ttnn)
    versions = known_good(results)
    good = constraints_file(versions) if versions else ""
    (folder / "matrix.html").write_text(page(results, impossible, unsupported, good))
    (folder / "matrix.md").write_text(markdown(results, impossible, unsupported))
    cells = [result.to_json() for result in results]
    document = {"cells": cells, "impossible": list(impossible), "unsupported_ttnn": unsupported, "known_good": versions}
    (folder / "matrix.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if good:
        (folder / "known-good.txt").write_text(good)
