"""How the parts of a layer come to be: from a template, or made for the layer's device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from ttt_core import Norm, SpecError, Template, WeightError

PartT = TypeVar("PartT")


@runtime_checkable
class Unmade(Protocol):
    """A part that is yet to be made for a device."""

    def materialize(self, device: Any, /) -> Any: ...


@runtime_checkable
class Loads(Protocol):
    """A part whose weights may be given later."""

    def load(self, weights: Mapping[str, Any], /) -> Any: ...


def made(part: PartT, device: Any) -> PartT:
    """The part, made for the device if it is yet to be made. Errors: SpecError without a device."""
    if not isinstance(part, Unmade):
        return part
    if device is None:
        raise SpecError(f"{part} is yet to be made, and the layer was given no device to make it for. Give device=.")
    return cast("PartT", part.materialize(device))


def from_template(template: Norm | None, norm: Norm | None) -> Norm | None:
    """The norm that was given, or another like the template. Errors: SpecError for a template that has no `another`."""
    if norm is not None or template is None:
        return norm
    if not isinstance(template, Template):
        raise SpecError(
            f"norm= is the template of a layer's norms, and {type(template).__name__} has no another() (ttt_core.Template). "
            "Give each norm its own: attention_norm=, ffn_norm=."
        )
    return cast("Norm", template.another())


def load_parts(parts: Mapping[str, object], weights: Mapping[str, Any]) -> None:
    """Give each part the weights whose names begin with its own, as in `attention.q`.

    Errors: WeightError for a name that begins with no part's, or weights of a part that takes none; those of the parts.
    """
    for name in weights:
        part = name.partition(".")[0]
        if part not in parts:
            raise WeightError(f"the layer has no part for a weight {name}; its parts are {', '.join(parts)}.")
    for name, each in parts.items():
        own = _Within(weights, f"{name}.")
        if isinstance(each, Loads):
            each.load(own)
        elif len(own):
            raise WeightError(f"{name} is a {type(each).__name__}, which has no load; give it its weights yourself.")


class _Within(Mapping[str, Any]):
    """The weights whose names begin so, without that beginning. Weights may answer to names that they do not list."""

    def __init__(self, weights: Mapping[str, Any], prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix

    def __getitem__(self, name: str) -> Any:
        return self._weights[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._weights if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
