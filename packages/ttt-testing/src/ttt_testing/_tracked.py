"""The module of another model that a block's spec tracks, or that its weights' names lead to, as a function of an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from ttt_core import SpecError
from ttt_testing._finding import weights_of

GROUP = "ttt.references"
DEFAULT = "huggingface"


def checkpoint_of(module: Any) -> Path | None:
    """The checkpoint that a module's weights were read from; None for weights from elsewhere, or from several."""
    sources = [source for weight in weights_of(module) for source in getattr(weight, "sources", ())]
    found = {Path(directory) for source in sources if (directory := getattr(source, "directory", None)) is not None}
    return found.pop() if len(found) == 1 else None


def tracked_reference(
    module: Any, path_in: Callable[[Any, Any], str | None]
) -> tuple[str, Callable[[torch.Tensor], torch.Tensor]] | None:
    """The place of a module in the model of its checkpoint, and what it makes of an input there; None without a checkpoint.

    `path_in` finds the place of a module whose spec tracks none. Errors: SpecError for a type of reference that nothing
    installed loads, a path that leads nowhere.
    """
    directory = checkpoint_of(module)
    if directory is None:
        return None
    spec = getattr(module, "spec", None)
    model = _load(getattr(spec, "reference_type", None) or DEFAULT, directory)
    path = getattr(spec, "reference_path", None) or path_in(module, model)
    if path is None:
        return None
    try:
        found = model.get_submodule(path)
    except AttributeError:
        raise SpecError(
            f"{type(module).__name__}'s spec says reference_path={path!r}, and {type(model).__name__} has no such module. "
            f"Its modules are called as {', '.join(_examples(model))}."
        ) from None
    return f"{path} ({type(found).__name__})", lambda x: result_at(model, found, x)


def result_at(model: torch.nn.Module, found: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a module within a model makes of x [1, tokens, …] in place of what the model would give it.

    The model reads as many tokens, so that positions and masks are the module's own.
    """
    results: list[Any] = []

    def instead(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (x, *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, ("hidden_states" if "hidden_states" in kwargs else first): x}

    def keep(_module: Any, _args: Any, result: Any) -> None:
        results.append(result)
        raise _Reached

    handles = [
        found.register_forward_pre_hook(instead, with_kwargs=True),
        found.register_forward_hook(keep),
    ]
    try:
        with torch.no_grad():
            model(torch.zeros(1, x.shape[1], dtype=torch.long))
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    (result,) = results
    return torch.as_tensor(result[0] if isinstance(result, (tuple, list)) else result)


class _Reached(Exception):
    pass


@lru_cache(maxsize=1)
def _load(kind: str, directory: Path) -> torch.nn.Module:
    found = next(iter(entry_points(group=GROUP, name=kind)), None)
    if found is None:
        known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        raise SpecError(
            f"nothing that is installed loads a reference of type {kind!r} (entry points of {GROUP}: {known}). "
            "Install ttt-generation for huggingface, or give a reference."
        )
    model: torch.nn.Module = found.load()(directory)
    return model


def _examples(model: torch.nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if name][:4]
