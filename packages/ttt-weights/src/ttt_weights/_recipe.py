"""What a function that builds a weight does, as a text that changes when it would do something else."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np


class _Unknown(Exception):
    """Something that may differ without looking different."""


def recipe_of(build: Callable[..., Any]) -> str | None:
    """The function's name, what it closes over, and a digest of all source files beside its own; None where that is not all."""
    try:
        return _text(build)
    except _Unknown:
        return None


def _text(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, range):
        return repr(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{_text(key)}={_text(held)}' for key, held in value.items())}}}"
    if is_dataclass(value) and not isinstance(value, type):
        held = ",".join(f"{field.name}={_text(getattr(value, field.name))}" for field in fields(value))
        return f"{_home(type(value))}({held})"
    if isinstance(value, partial):
        return f"{_text(value.func)}{_text(value.args)}{_text(value.keywords)}"
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        defaults = [value.__defaults__ or (), value.__kwdefaults__ or {}]
        return f"{_home(value)}@{_digest_of(value.__code__)}{_text(cells)}{_text(defaults)}"
    raise _Unknown


def _digest_of(code: CodeType) -> str:
    """Of one function's code, so that two on the same line are two."""
    constants = [_digest_of(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()[:16]


def _home(thing: Any) -> str:
    module = sys.modules.get(thing.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        raise _Unknown
    return f"{thing.__module__}.{thing.__qualname__}#{sources_beside(str(Path(file).parent))}"


@lru_cache(maxsize=256)
def sources_beside(folder: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
