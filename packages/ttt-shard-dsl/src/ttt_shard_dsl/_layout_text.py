"""The text form of a layout, `(4,(8,2)):(38page,(core.x,bank+2page))`, read.

layout := tuple(INT) [":" tuple(stride)]          tuple(x) := x | "(" tuple(x) ("," tuple(x))* ")"
stride := ["-"] term (("+"|"-") term)*            term := INT | [INT] NAME ("." NAME)*
"""

from __future__ import annotations

import re

from ttt_shard_dsl._nesting import IntTuple, StrideTuple
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout
from ttt_shard_dsl.vector import Stride, stride_of

_TOKEN = re.compile(r"\s*(?:([0-9]+)|([A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_0-9]+)*)|([-+(),:]))")


def parse_layout(text: str) -> Layout:
    """The layout of a text. Errors: `LayoutError` that points at the wrong part."""
    reader = _Reader(text)
    shape = reader.shape()
    stride = reader.stride() if reader.take(":") else None
    if reader.token:
        raise reader.error("the layout ends here" if stride is not None else "':' and the strides are expected")
    return Layout(shape, stride)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.end)
        if match is None:
            rest = self.text[self.end :]
            self.start = self.end + len(rest) - len(rest.lstrip())
            self.token = self.text[self.start : self.start + 1]
            self.end = self.start + len(self.token)
        else:
            self.token = match[match.lastindex or 0]
            self.start, self.end = match.span(match.lastindex or 0)

    def take(self, token: str) -> bool:
        found = self.token == token
        if found:
            self.advance()
        return found

    def error(self, reason: str) -> LayoutError:
        found = f"not '{self.token}'" if self.token else "and the text ends"
        return LayoutError(f"{reason}, {found}", self.text, (self.start, self.end))

    def shape(self) -> IntTuple:
        if not self.take("("):
            return self.integer()
        parts = [self.shape()]
        while self.take(","):
            parts.append(self.shape())
        self.close()
        return tuple(parts)

    def stride(self) -> StrideTuple:
        if not self.take("("):
            return self.vector()
        parts = [self.stride()]
        while self.take(","):
            parts.append(self.stride())
        self.close()
        return tuple(parts)

    def close(self) -> None:
        if not self.take(")"):
            raise self.error("',' or ')' is expected")

    def integer(self) -> int:
        if not self.token.isdecimal():
            raise self.error("an extent is expected")
        value = int(self.token)
        self.advance()
        return value

    def vector(self) -> Stride:
        terms: dict[str, int] = {}
        sign = -1 if self.take("-") else 1
        while True:
            name, count = self.term()
            terms[name] = terms.get(name, 0) + sign * count
            if self.take("+"):
                sign = 1
            elif self.take("-"):
                sign = -1
            else:
                return stride_of(terms)

    def term(self) -> tuple[str, int]:
        count = self.integer() if self.token.isdecimal() else None
        name = ""
        if self.token and (self.token[0].isalpha() or self.token[0] == "_"):
            name = self.token
            self.advance()
        elif count is None:
            raise self.error("a stride is expected")
        return name, 1 if count is None else count
