"""Blocks from keywords: the fields of their spec, instead of the spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from ttt_core.errors import SpecError

__all__ = ["SpecKeywords"]

SpecT = TypeVar("SpecT")


@dataclass(frozen=True)
class SpecKeywords(Generic[SpecT]):
    """How the keywords of a block become a spec of type `kind`.

    A field that is a spec itself is given whole, or by its own fields behind its name (`rope_theta=…` is
    `rope=RopeSpec(theta=…)`); those of the field `inline` need no name before them. An enum may be given by its value.
    `defaults` are the block's, where they differ from the spec's: values, or functions of the fields that are there.
    """

    kind: type[SpecT]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    inline: str | None = None

    def __call__(self, spec: SpecT | None, given: Mapping[str, Any], *, block: str) -> SpecT:
        """The spec that `block` was given, or the one that its keywords describe.

        Errors: SpecError for both, neither, a keyword that is no field of the spec (with the closest that is), a value that is
        none of an enum's, a field that is missing; those of the spec.
        """
        if spec is not None:
            if given:
                raise SpecError(
                    f"{block} was given a spec and {', '.join(f'{name}=' for name in given)} beside it. Give the spec alone "
                    "(dataclasses.replace makes one with other values), or keywords alone."
                )
            return spec
        values = _grouped(self.kind, given, inline=self.inline, block=block)
        for name, default in self.defaults.items():
            if name not in values and not (callable(default) and _missing(self.kind, values, self.defaults)):
                values[name] = default(values) if callable(default) else default
        if missing := _missing(self.kind, values, {}):
            raise SpecError(
                f"{block} was not given {', '.join(missing)}. Give {self.kind.__name__}(…), or its fields as keywords: "
                f"{', '.join(each.name for each in fields(self.kind) if each.compare)}."  # type: ignore[arg-type]
            )
        return self.kind(**values)


def _missing(kind: Any, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The fields that have no value and no default."""
    return [
        each.name
        for each in fields(kind)
        if each.default is MISSING
        and each.default_factory is MISSING
        and each.name not in values
        and each.name not in defaults
    ]


def _grouped(kind: Any, given: Mapping[str, Any], *, inline: str | None, block: str) -> dict[str, Any]:
    """The given values by the fields of `kind`, with nested specs built."""
    own = {each.name for each in fields(kind)}
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        if key in own:
            values[key] = _as_enum(hints[key], value, key=key, block=block)
            continue
        owner = _owner(hints, key, inline)
        if owner is None:
            known = sorted(_all_names(kind, inline))
            close = get_close_matches(key, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise SpecError(f"{block} has no keyword {key}; its {kind.__name__} has {', '.join(known)}.{hint}")
        nested.setdefault(owner[0], {})[owner[1]] = value
    for name, parts in nested.items():
        if name in values:
            raise SpecError(
                f"{block} was given {name}= and {', '.join(f'{name}_{part}' for part in parts)} of it beside it. Give one of the "
                "two."
            )
        inner = next(each for each in _specs_in(hints[name]) if all(_accepts(each, part) for part in parts))
        values[name] = SpecKeywords(inner)(None, parts, block=f"{block}'s {name}")
    return values


def _owner(hints: Mapping[str, Any], key: str, inline: str | None) -> tuple[str, str] | None:
    """The field whose spec has the keyword, and the keyword's name there."""
    for name, hint in hints.items():
        for rest in (key.removeprefix(f"{name}_") if key.startswith(f"{name}_") else "", key if name == inline else ""):
            if rest and any(_accepts(inner, rest) for inner in _specs_in(hint)):
                return name, rest
    return None


def _accepts(kind: Any, key: str) -> bool:
    return key in {each.name for each in fields(kind)} or _owner(get_type_hints(kind), key, None) is not None


def _specs_in(hint: Any) -> list[Any]:
    """The dataclasses that a type allows."""
    return [each for each in (hint, *get_args(hint)) if isinstance(each, type) and is_dataclass(each)]


def _all_names(kind: Any, inline: str | None) -> set[str]:
    hints = get_type_hints(kind)
    found = {each.name for each in fields(kind) if each.compare}  # metadata is not worth a line
    for name in tuple(found):
        for inner in _specs_in(hints[name]):
            names = (each.name for each in fields(inner) if each.compare)
            found |= {each if name == inline else f"{name}_{each}" for each in names}
    return found


def _as_enum(hint: Any, value: Any, *, key: str, block: str) -> Any:
    if not (isinstance(hint, type) and issubclass(hint, Enum)) or isinstance(value, hint):
        return value
    try:
        return hint(value)
    except ValueError:
        allowed = ", ".join(str(each.value) for each in hint)
        raise SpecError(f"{block} was given {key}={value!r}; it must be one of {allowed}.") from None
