"""Reads a layout text into its tree, in one pass over its tokens; every error points at the token it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import NoReturn

from ttt_shard_dsl.dtypes import SHORT_NAMES, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.tree import Axis, CoreRange, Cores, Dim, Place, Rule, Spec

__all__ = ["parse", "parse_rule"]

Path = tuple[str | int, ...]
"""The way from a spec to a part: `("dim", 3, "place", 0)`, `("pending", 0)`, `("range", 1)`, `("memory",)`."""

KEYWORDS = ("in", "on", "as")
MEMORIES = ("l1", "dram")


def parse(text: str) -> Spec:
    """The tree of one layout; a text that was read before costs a look-up.

    Errors: `LayoutError`, with a caret under the first part that the grammar does not allow.
    """
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Spec:
    return parse_with_spans(text)[0]


def parse_rule(text: str) -> Rule:
    """The tree of a change of layout, `source -> target`.

    Errors: `LayoutError`, as `parse`.
    """
    reader = _Reader(text)
    source = reader.spec()
    if not reader.take("->"):
        reader.fail("a rule has '->' between two layouts", choices="allowed: parse, for a single layout")
    reader.spans = {}
    target = reader.spec()
    reader.end()
    return Rule(source, target)


def parse_with_spans(text: str) -> tuple[Spec, Mapping[Path, tuple[int, int]]]:
    """The tree, and where in the text each part of it stands."""
    reader = _Reader(text)
    spec = reader.spec()
    reader.end()
    return spec, reader.spans


@cache
def _token_pattern() -> re.Pattern[str]:
    """Compiled when the first text is read: it takes as long as the rest of the import."""
    return re.compile(
        r"(?P<space>\s+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<int>[0-9]{1,18}(?![A-Za-z0-9_]))"
        r"|(?P<mark>->|\.\.|[()@~|:+.,-])"
    )


class _Reader:
    """A recursive-descent reader, one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: dict[Path, tuple[int, int]] = {}
        self.at = 0
        self.tokens: list[tuple[str, str, int]] = []  # (kind, token, start)
        start, end = 0, len(text)
        match = _token_pattern().match
        while start < end:
            found = match(text, start)
            if found is None:
                word = re.compile(r"[0-9A-Za-z_]+|.", re.DOTALL).match(text, start)
                assert word is not None
                reason = f"{word.group()!r} is neither a name nor a number" if word.end() - start > 1 else ""
                raise LayoutError(
                    reason or f"{word.group()!r} has no meaning in a layout",
                    text,
                    word.span(),
                    "allowed: names, integers of up to 18 digits, and ( ) @ ~ | : + . , - .. ->",
                )
            kind = found.lastgroup
            if kind != "space":
                token = found.group()
                self.tokens.append((token if kind == "mark" else str(kind), token, start))
            start = found.end()
        self.tokens.append(("end", "the end", end))

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def token(self) -> str:
        return self.tokens[self.at][1]

    @property
    def start(self) -> int:
        return self.tokens[self.at][2]

    def fail(self, reason: str, span: tuple[int, int] | None = None, choices: str = "") -> NoReturn:
        """Raise, with the caret under the current token unless a span is given."""
        size = 1 if self.kind == "end" else len(self.token)
        raise LayoutError(reason, self.text, span or (self.start, self.start + size), choices)

    def seen(self, start: int) -> tuple[int, int]:
        """From `start` to the end of the token that was read last."""
        _, token, last = self.tokens[self.at - 1]
        return start, last + len(token)

    def take(self, mark: str) -> bool:
        if self.tokens[self.at][0] != mark:
            return False
        self.at += 1
        return True

    def keyword(self, word: str) -> bool:
        if self.tokens[self.at][:2] != ("name", word):
            return False
        self.at += 1
        return True

    def integer(self, what: str, least: int) -> int:
        if self.kind != "int":
            self.fail(f"{what} is an integer, not {self._shown}", choices=f"allowed: an integer of at least {least}")
        value = int(self.token)
        if value < least:
            self.fail(f"{what} is at least {least}, not {value}", choices=f"nearest valid: {least}")
        self.at += 1
        return value

    def name(self, what: str, choices: str) -> str:
        if self.kind != "name":
            self.fail(f"{what} is a name, not {self._shown}", choices=choices)
        token = self.token
        self.at += 1
        return token

    @property
    def _shown(self) -> str:
        return self.token if self.kind == "end" else f"'{self.token}'"

    def spec(self) -> Spec:
        """spec := dim+ ("+" axis)* ["in" ("l1"|"dram") ["on" cores]] ["as" dtype]"""
        dims: list[Dim] = []
        names: set[str] = set()
        while self.kind in ("name", "int", "(") and self.token not in KEYWORDS:
            dims.append(self.dim(len(dims), names))
        if not dims:
            self.fail(f"a layout begins with a dim, not {self._shown}", choices="allowed: a name, an integer, (a b)")
        pending: list[Axis] = []
        while self.take("+"):
            start = self.start
            axis = self.axis()
            self.spans["pending", len(pending)] = self.seen(start)
            if axis in pending:
                self.fail(f"the sum over '{axis}' is pending twice", self.seen(start), "allowed: each axis once")
            pending.append(axis)
        memory = self.memory() if self.keyword("in") else None
        cores = self.cores() if memory is not None and self.keyword("on") else None
        dtype = self.dtype() if self.keyword("as") else None
        return Spec(tuple(dims), tuple(pending), memory, cores, dtype)

    def end(self) -> None:
        if self.kind == "end":
            return
        if self.kind == "->":
            self.fail("'->' makes this a rule of two layouts", choices="allowed: parse_rule, for a rule")
        if self.token == "on":
            self.fail("'on' gives cores, but no memory is named before it", choices="nearest valid: in l1 on …")
        order = "allowed, in this order: dims, +axis, in l1|dram, on cores, as dtype"
        self.fail(f"{self._shown} does not continue the layout", choices=order)

    def dim(self, index: int, names: set[str]) -> Dim:
        """dim := (NAME|INT|"(" NAME+ ")") ["|" INT] place*"""
        start = self.start
        size: int | None = None
        group: list[str] = []
        if self.kind == "int":
            size = self.integer("the size of a dim", 1)
        elif self.take("("):
            while not self.take(")"):
                group.append(self.dim_name(names))
            if not group:
                self.fail("a group has no dims", self.seen(start), "allowed: one name or more, as (b h)")
        else:
            group.append(self.dim_name(names))
        self.spans["dim", index] = self.seen(start)
        pad = self.integer("padding", 1) if self.take("|") else None
        places: list[Place] = []
        while self.kind in ("@", "~"):
            cyclic = self.kind == "~"
            self.at += 1
            start = self.start
            axis = self.axis()
            self.spans["dim", index, "place", len(places)] = self.seen(start)
            places.append(Place(axis, cyclic, self.integer("a block", 1) if self.take(":") else None))
        return Dim(tuple(group), size, pad, tuple(places))

    def dim_name(self, names: set[str]) -> str:
        name = self.name("a dim in a group", "allowed: one name or more, as (b h)")
        span = self.seen(self.tokens[self.at - 1][2])
        if name in KEYWORDS:
            self.fail(f"'{name}' is a keyword and cannot name a dim", span, f"nearest valid: {name}_")
        if name in names:
            self.fail(f"two dims are named '{name}'", span, f"nearest valid: {name}2")
        names.add(name)
        return name

    def axis(self) -> Axis:
        """axis := NAME ["." NAME]"""
        name = self.name("an axis", "allowed: core, core.x, core.y, bank, rows, cols")
        return Axis(name, self.name("a sub-axis", "allowed: core.x, core.y") if self.take(".") else None)

    def memory(self) -> str:
        start = self.start
        memory = self.name("a memory", "allowed: l1, dram")
        self.spans["memory",] = self.seen(start)
        if memory not in MEMORIES:
            self.fail(f"'{memory}' is not a memory", self.seen(start), nearest(memory, MEMORIES))
        return memory

    def dtype(self) -> str:
        start = self.start
        dtype = self.name("a dtype", f"allowed: {', '.join(TILE_BYTES)}")
        self.spans["dtype",] = self.seen(start)
        known = SHORT_NAMES.get(dtype, dtype)
        if known not in TILE_BYTES:
            self.fail(f"'{dtype}' is not a dtype", self.seen(start), nearest(dtype, (*TILE_BYTES, *SHORT_NAMES)))
        return known

    def cores(self) -> Cores:
        """cores := range ("," range)* [":col"] [":contiguous"]"""
        start = self.start
        ranges = [self.core_range(0)]
        while self.take(","):
            ranges.append(self.core_range(len(ranges)))
        flags = {"col": False, "contiguous": False}
        while self.take(":"):
            flag_start = self.start
            flag = self.name("an order of cores", "allowed: col, contiguous")
            if flag not in flags:
                self.fail(f"'{flag}' is not an order of cores", self.seen(flag_start), nearest(flag, tuple(flags)))
            if flags[flag] or (flag == "col" and flags["contiguous"]):
                self.fail(f"':{flag}' stands in the wrong place", self.seen(flag_start), "allowed: :col:contiguous")
            flags[flag] = True
        self.spans["cores",] = self.seen(start)
        return Cores(tuple(ranges), **flags)

    def core_range(self, index: int) -> CoreRange:
        start = self.start
        x0, y0 = self.corner()
        if not self.take(".."):
            self.fail(
                f"a core range has two corners, not {self._shown}", choices=f"nearest valid: {x0}-{y0}..{x0}-{y0}"
            )
        x1, y1 = self.corner()
        span = self.seen(start)
        self.spans["range", index] = span
        if x1 < x0 or y1 < y0:
            low, high = (min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))
            self.fail(
                f"the core range {x0}-{y0}..{x1}-{y1} ends before it starts",
                span,
                f"nearest valid: {CoreRange(*low, *high)}",
            )
        return CoreRange(x0, y0, x1, y1)

    def corner(self) -> tuple[int, int]:
        x = self.integer("the column of a core", 0)
        if not self.take("-"):
            self.fail(f"a core is column-row, not {x} and {self._shown}", choices="allowed: x-y, as 7-3")
        return x, self.integer("the row of a core", 0)
