"""How the parts of a layer come to be: from a template, or made for the layer's device."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast, get_args, runtime_checkable

from ttt_core import LazyModule, Mode, Norm, PlacementError, SpecError, Template, WeightError
from ttt_hw import HardwareMode, Overrides

PartT = TypeVar("PartT")


@runtime_checkable
class Unmade(Protocol):
    """A part that is yet to be made for a device."""

    def materialize(self, device: Any, /) -> Any: ...


@runtime_checkable
class Loads(Protocol):
    """A part whose weights may be given later."""

    def load(self, weights: Mapping[str, Any], /) -> Any: ...


class Maker:
    """Makes those parts of a layer that are yet to be made, for its device.

    Each as the layer's hardware mode says, unless it says otherwise, and with those of the layer's overrides that begin with
    its name.
    """

    def __init__(
        self, layer: object, device: Any, hw_mode: HardwareMode | None = None, overrides: Overrides | None = None
    ) -> None:
        self._layer = type(layer).__name__
        self._device = device
        self._mode = {} if hw_mode is None else {"hw_mode": hw_mode}
        self._overrides = dict(overrides or {})
        self._made: list[str] = []

    def __call__(self, name: str, part: PartT) -> PartT:
        """The part, made if it is yet to be made. Errors: SpecError without a device."""
        if not isinstance(part, Unmade):
            return part
        if self._device is None:
            raise SpecError(
                f"{part} is yet to be made, and the layer was given no device to make it for. Give device=."
            )
        if not isinstance(part, LazyModule):
            return cast("PartT", part.materialize(self._device))
        self._made.append(name)
        mode = {} if "hw_mode" in part.arguments or not _takes(part.cls, "hw_mode") else self._mode
        own = {key: of_part for key in self._overrides if (of_part := _of_part(key, name))}
        overrides = {of_part: self._overrides.pop(key) for key, of_part in own.items()}
        return cast("PartT", part.given(**mode, **_some(hw_config_overrides=overrides)).materialize(self._device))

    def norm(self, name: str, own: Norm | None, template: Norm | None) -> Norm | None:
        """The norm that was given, or another like the template. Errors: SpecError for a template that has no `another`."""
        if own is not None or template is None or isinstance(template, LazyModule):
            return self(name, template if own is None else own)
        return _like(self("norm", template))

    def finish(self) -> None:
        """When all parts are there. Errors: SpecError for a hardware mode that no part takes, PlacementError for an override that
        is of none."""
        if self._mode and not self._made:
            raise SpecError(
                f"{self._layer} was given hw_mode={self._mode['hw_mode']!r}, and its parts are made already. Give it to them, or "
                "give ttt_core.LazyModules in their places."
            )
        for key in self._overrides:
            those = f"it makes {', '.join(self._made)}" if self._made else "its parts are made already"
            raise PlacementError(
                f"hw_config_overrides of {self._layer} names {key!r}; it passes on what begins with the name of a part that it "
                f"makes, as in decode.attention.qkv_matmul, and {those}. Give it to the part, or to who plans the whole layer."
            )


def _takes(cls: Any, name: str) -> bool:
    return name in inspect.signature(cls).parameters


def _of_part(key: str, part: str) -> str:
    """decode.attention.qkv_matmul is decode.qkv_matmul of attention; empty for another part's."""
    first, _, rest = key.partition(".")
    if first == part:
        return rest
    return f"{first}.{rest.removeprefix(f'{part}.')}" if first in get_args(Mode) and rest.startswith(f"{part}.") else ""


def _some(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value}


def _like(template: Norm) -> Norm:
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
