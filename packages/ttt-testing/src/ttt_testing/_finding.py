"""What a module is, by what it can do: its place in the model, the inputs it takes, its sizes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from ttt_core import Attention, CausalLM, Norm, SpecError

Role = Literal["rows", "head", "embedding", "attention", "model"]
"""Rows in, rows out (a Norm, a FeedForward); rows to logits; ids to rows; rows with positions and a cache (an Attention, a
Layer); ids to logits with caches (a CausalLM)."""

_DEEPEST = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """`width`: elements of a row that goes in, None where ids do; `vocabulary`: of the ids or the logits."""

    width: int | None
    vocabulary: int | None
    max_context: int | None


def parts(model: Any) -> Iterator[tuple[str, Any]]:
    """Every module of a model with its path (`layers.0.attention`), itself first with the path ""; each object once."""
    seen: set[int] = set()

    def walk(found: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
        if id(found) in seen or depth > _DEEPEST:
            return
        if isinstance(found, (list, tuple, dict)):
            seen.add(id(found))
            pairs = found.items() if isinstance(found, dict) else enumerate(found)
            for key, value in pairs:
                yield from walk(value, f"{path}.{key}".lstrip("."), depth + 1)
        elif path == "" or is_module(found):
            seen.add(id(found))
            yield path, found
            for name, value in attributes(found).items():
                yield from walk(value, f"{path}.{name}".lstrip("."), depth + 1)

    yield from walk(model, "", 0)


def attributes(found: Any) -> dict[str, Any]:
    """An object's own attributes, also those in slots."""
    if is_dataclass(found) and not isinstance(found, type):
        return {field.name: getattr(found, field.name) for field in fields(found)}
    return dict(getattr(found, "__dict__", {}))


def is_module(found: Any) -> bool:
    """Whether it has the two forwards that all modules have."""
    return isinstance(found, Norm) and not isinstance(found, type)


def path_of(model: Any, module: Any) -> str | None:
    """Where the module stands in the model; "" for the model itself, None if it is no part of it."""
    return next((path for path, found in parts(model) if found is module), None)


def ancestors_of(model: Any, path: str) -> tuple[Any, ...]:
    """The layers and models that the module at that path is part of, the nearest first."""
    found = {known: module for known, module in parts(model) if path.startswith(f"{known}.") or known == ""}
    above = [module for known, module in found.items() if known != path and is_module(module)]
    return tuple(module for module in reversed(above) if role_of(module) in ("attention", "model"))


def role_of(module: Any) -> Role:
    """By the arguments of its forwards; those that take one tensor alone are told apart by the spec and the tensor's name.

    Errors: SpecError for something without forwards.
    """
    if not is_module(module):
        raise SpecError(
            f"{type(module).__name__} has no prefill_forward and decode_forward, so it cannot be tested. Give a module: a "
            "Norm, FeedForward, Attention, Layer, Embedding, Head or CausalLM of ttt_core."
        )
    if isinstance(module, CausalLM):
        return "model"
    takes = list(inspect.signature(module.prefill_forward).parameters.values())
    if isinstance(module, Attention) and any(parameter.name == "positions" for parameter in takes):
        return "attention"
    if takes and "ids" in takes[0].name:
        return "embedding"
    return "head" if _of_spec(module, "vocab_size") else "rows"


def sizes_of(module: Any) -> Sizes:
    """From the module's spec, or its own attributes without one, else from its parts; what none says is None."""
    role = role_of(module)
    if role == "model":
        return Sizes(width=None, vocabulary=int(module.vocab_size), max_context=int(module.max_context))
    width = None if role == "embedding" else _of_parts(module, "hidden_dim", "dim")
    vocabulary = _of_spec(module, "vocab_size", "num_positions") if role in ("head", "embedding") else None
    context = _of_parts(module, "max_context") if role == "attention" else None
    return Sizes(width=width, vocabulary=vocabulary, max_context=context)


def block_name(module: Any) -> str:
    """`attention.GroupedQueryAttention`: the package without its prefix, and the class."""
    kind = type(module)
    return f"{kind.__module__.split('.')[0].removeprefix('ttt_')}.{kind.__qualname__.rpartition('.')[2]}"


def weights_of(module: Any) -> tuple[Any, ...]:
    """Its weights, if it says which."""
    return tuple(getattr(module, "weights", ()))


def _of_spec(module: Any, *names: str) -> int | None:
    spec = getattr(module, "spec", module)
    return next((int(value) for name in names if isinstance(value := getattr(spec, name, None), int)), None)


def _of_parts(module: Any, *names: str) -> int | None:
    found = (_of_spec(part, *names) for _, part in parts(module))
    return next((value for value in found if value is not None), None)
