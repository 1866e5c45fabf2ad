"""`ttt list-modules` and `ttt search`: what the installed packages offer, and where to import it from.

Importing this module must stay quick: rich is imported when a command runs.
"""

from __future__ import annotations

import json as json_format
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ttt_core.registry import GROUP, ModuleRecord, modules

if TYPE_CHECKING:
    from rich.text import Text

    from ttt_core.module_search import Match

__all__ = ["list_modules", "search"]

list_modules = App(help="List the blocks of the installed packages, by category.")
"""`ttt list-modules`."""
search = App(help="Find a block by words, and how to import it.")
"""`ttt search`."""


@list_modules.default
def _list_modules(
    *,
    category: str | None = None,
    tier: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the blocks of the installed packages, by category.

    Packages name them by entry points of the group ttt.modules; a block that is not listed works as well.

    Parameters
    ----------
    category
        Only those of one category, such as attention, ffn or norm.
    tier
        Only those of one tier: core (what most models are made of, on every mesh), extended (what some models need), or
        experimental (may change with any release).
    json
        Print one JSON document, and nothing else, on stdout.
    """
    found = modules(category, tier)
    if json:
        print(json_format.dumps({"schema": 1, "modules": [record.to_json() for record in found]}, indent=2))
    else:
        _print_modules(found)
    return 0


@search.default
def _search(*words: str, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """Find a block by words, and how to import it.

    Looked for in names, features, categories, and what docstrings say blocks do and are from. Exit code 1: nothing was found.

    Parameters
    ----------
    words
        Such as "flash attention", gqa, "sliding window", or a class of transformers.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    from ttt_core.errors import SpecError
    from ttt_core.module_search import search as find

    query = " ".join(words)
    if not query.strip():
        raise SpecError('ttt search was given no words. Give some, as in `ttt search "flash attention"`.')
    known = modules()
    found = find(query, known)
    if json:
        results = [
            {**match.record.to_json(), "score": match.score, "words": match.words, "meant": match.meant}
            for match in found
        ]
        print(json_format.dumps({"schema": 1, "query": query, "results": results}, indent=2))
    elif found:
        _print_matches(found)
    else:
        several = ", ".join(dict.fromkeys(record.category for record in known)) or "none"
        print(
            f"Nothing is called or described by {query!r}. `ttt list-modules` lists all; categories are {several}.",
            file=sys.stderr,
        )
    return 0 if found else 1


def _print_modules(found: tuple[ModuleRecord, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not found:
        console.print(f"None. Packages name modules by entry points of the group {GROUP}.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for no_wrap in (True, True, False):
        table.add_column(no_wrap=no_wrap)
    for (category, home), records in groupby(found, key=lambda record: (record.category, record.home)):
        table.add_row(f"[bold cyan]{category}[/]", "", f"[dim]from {home} import …[/]")
        for record in records:
            tier = record.tier.value
            table.add_row(f"  {record.name}", f"[dim]{'' if tier == 'core' else tier}[/]", _plain(record.summary))
        table.add_row()
    console.print(table)
    packages = ", ".join(f"{package} {version}" for package, version in sorted({(r.package, r.version) for r in found}))
    console.print(f"{len(found)} modules of {packages}. `ttt search WORDS` finds one and says how to import it.")


def _print_matches(found: tuple[Match, ...]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for word, close in found[0].meant.items():
        console.print(f"Nothing has {word!r}; this is what there is for {close!r}.\n", style="yellow")
    for match in found:
        record = match.record
        console.print(f"[bold]{record.name}[/]  [dim]{record.category}, {record.tier.value}[/]")
        console.print(_plain(f"  {record.summary}."))
        console.print(_plain(f"  {record.import_line}"), style="green")
        console.print(_plain(f"  {_reasons(match)}"), style="dim")
        console.print()


def _reasons(match: Match) -> str:
    """As in `flash, attention in its name; fused in its features`."""
    places: dict[str, list[str]] = {}
    for word, where in match.words.items():
        places.setdefault(where, []).append(match.meant.get(word, word))
    return "; ".join(f"{', '.join(words)} in its {where}" for where, words in places.items())


def _plain(text: str) -> Text:
    """Brackets in it are no markup."""
    from rich.text import Text

    return Text(text)
