"""Modules that are described now and made for a device later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from ttt_core.errors import SpecError

__all__ = ["LazyModule"]

ModuleT = TypeVar("ModuleT")


class LazyModule(Generic[ModuleT]):
    """A module that is made when `materialize(device)` is called; until then it needs no device and no ttnn.

    `config` is what the class takes first, as its spec, or a mapping of keywords. Other keywords are passed on. A composer
    (ttt_patterns.DecoderLayer) takes it in the place of a module.
    Errors: SpecError for a `device` here, or for a name in the config and beside it; those of the class.
    """

    def __init__(self, cls: Callable[..., ModuleT], config: Any = None, /, **arguments: Any) -> None:
        keywords = dict(config) if isinstance(config, Mapping) else {}
        if twice := sorted(keywords.keys() & arguments.keys()):
            raise SpecError(f"{_name(cls)}: {', '.join(twice)} is in the config and beside it. Give it once.")
        if "device" in keywords or "device" in arguments:
            raise SpecError(f"LazyModule({_name(cls)}) was given a device. Give it to materialize(device).")
        self.cls = cls
        self.config = config
        self._positional = () if config is None or isinstance(config, Mapping) else (config,)
        self._keywords = {**keywords, **arguments}

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The keywords that the class will get, beside the device."""
        return dict(self._keywords)

    def given(self, **arguments: Any) -> LazyModule[ModuleT]:
        """The same with more keywords. Errors: SpecError for one that it has."""
        return LazyModule(self.cls, *self._positional, **{**self._keywords, **self._anew(arguments)})

    def _anew(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if twice := sorted(self._keywords.keys() & arguments.keys()):
            raise SpecError(f"{_name(self.cls)} has {', '.join(twice)} already. Give it once.")
        return arguments

    def materialize(self, device: Any, /) -> ModuleT:
        """The module on `device`; another one each time."""
        return self.cls(*self._positional, device=device, **self._keywords)

    def __repr__(self) -> str:
        given = [*map(repr, self._positional), *(f"{name}={value!r}" for name, value in self._keywords.items())]
        return f"LazyModule({', '.join([_name(self.cls), *given])})"


def _name(cls: Callable[..., Any]) -> str:
    return getattr(cls, "__name__", repr(cls))
