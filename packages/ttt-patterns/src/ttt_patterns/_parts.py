"""What a composition knows of its parts."""

from __future__ import annotations

from dataclasses import replace

from ttt_core import Mode, Weight, Weighted
from ttt_hw import OpTime, Timed


def weights_of(*parts: object) -> tuple[Weight, ...]:
    """The weights of all parts that have some, each once although parts may share it."""
    found = {id(weight): weight for part in parts if isinstance(part, Weighted) for weight in part.weights}
    return tuple(found.values())


def times_of(part: object, name: str, mode: Mode, rows: int, context: int) -> tuple[OpTime, ...]:
    """The operations of a part called `name` and how long each takes; one of unknown time for a part that does not say."""
    if not isinstance(part, Timed):
        return (OpTime(name=name),)
    return tuple(replace(op, name=f"{name}.{op.name}") for op in part.op_times(mode, rows, context=context))
