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

    def materialize(self, device: Any, /) -> ModuleT:
        """The module on `device`; another one each time."""
        return self.cls(*self._positional, device=device, **self._keywords)

    def __repr__(self) -> str:
        given = [*map(repr, self._positional), *(f"{name}={value!r}" for name, value in self._keywords.items())]
        return f"LazyModule({', '.join([_name(self.cls), *given])})"


def _name(cls: Callable[..., Any]) -> str:
    return getattr(cls, "__name__", repr(cls))
