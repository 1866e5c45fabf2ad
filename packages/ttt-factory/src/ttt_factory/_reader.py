"""The keys of a config file, read with types, each known."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from ttt_core import SpecError
from ttt_factory._families import UNUSED_EVERYWHERE, Family

CONFIG_FILE = "config.json"
Number = TypeVar("Number", int, float)


class ConfigReader:
    """Reads keys with types and defaults, and remembers which were read. Keys are Llama's, whatever the family calls them."""

    def __init__(self, config: Mapping[str, Any], family: Family) -> None:
        self._config = config
        self._family = family
        self._read: set[str] = set()

    def name(self, key: str) -> str:
        """What the family calls a key."""
        return self._family.keys.get(key, key)

    def get(self, key: str) -> Any:
        key = self.name(key)
        self._read.add(key)
        value = self._config.get(key)
        return self._family.defaults.get(key) if value is None else value

    def optional(self, key: str) -> Any:
        """A key whose null means none, and not the default."""
        key = self.name(key)
        self._read.add(key)
        return self._config[key] if key in self._config else self._family.defaults.get(key)

    def number(self, key: str, kind: type[Number], *, default: Number | None = None, most: int = 2**31 - 1) -> Number:
        """A positive number; an integer is at most `most`, by default what ttnn's sizes and positions can hold."""
        value = self.get(key)
        value = default if value is None else value
        key = self.name(key)
        allowed = (int,) if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value <= sys.float_info.max:
            word = "a positive integer" if kind is int else "a positive number"
            raise SpecError(f"{CONFIG_FILE}: {key} is {shown(value)}, {word} is wanted.")
        if kind is int and value > most:
            raise SpecError(f"{CONFIG_FILE}: {key} is {shown(value)}, at most {most:,} is wanted.")
        return kind(value)

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise SpecError(f"{CONFIG_FILE}: {key} is {value!r}, true or false is wanted.")
        return value

    def cap(self, key: str) -> float | None:
        """A positive number; null means none."""
        return None if self.optional(key) is None else self.number(key, float)

    def finish(self) -> None:
        """Every key is read, without influence, or an error; an unknown key that says no (null, false, empty) is let pass."""
        for key, wanted in self._family.required.items():
            value = self._config.get(key, wanted)
            if value != wanted:
                raise SpecError(
                    f"{CONFIG_FILE}: {key} is {value!r}; of {self._family.architecture} only {wanted!r} is supported so far."
                )
        known = self._read | UNUSED_EVERYWHERE | self._family.unused | self._family.required.keys()
        for key, value in self._config.items():
            if key not in known and value:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {close[0]}?" if close else ""
                raise SpecError(
                    f"{CONFIG_FILE}: {key} = {value!r} is not understood and could change the result, so it is not passed "
                    f"over.{hint} Remove it if it has no influence."
                )


def shown(value: object) -> str:
    """Not more than a line of it: a config can hold a number of any length."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
