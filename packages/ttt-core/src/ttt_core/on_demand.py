"""Public names that are imported when they are first used: a package whose modules take seconds to import takes none itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["on_demand"]


def on_demand(package: str, homes: Mapping[str, Iterable[str]], namespace: dict[str, Any]) -> Callable[[str], Any]:
    """A package's `__getattr__` [PEP 562]: `homes` has the names that each of its modules defines, `namespace` is its globals().

    Write the same imports under `if TYPE_CHECKING:`, where type checkers see them.
    """
    modules = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(f"{package}.{modules[name]}"), name)
        return value

    return get
