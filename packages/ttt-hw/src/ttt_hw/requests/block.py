"""The operations of a block with the tensors between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ttt_core import Mode, ShapeError
from ttt_hw.requests.base import OpRequest, Stored, TensorType

__all__ = ["BlockRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRequest:
    """All operations of a block in one mode, in the order in which its forward issues them.

    `inputs` are the activations that enter, by name; `outputs` the names of what leaves.
    Errors: ShapeError where a name is unknown, given twice, or of another type than its reader wants.
    """

    mode: Mode
    inputs: tuple[tuple[str, TensorType], ...]
    stored: tuple[Stored, ...]
    ops: tuple[OpRequest, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known = dict(self.inputs)
        for stored in self.stored:
            known[stored.name] = stored.type
        for op in self.ops:
            for name, wanted in zip(op.inputs, op.operands, strict=True):
                if name not in known:
                    raise ShapeError(
                        f"{op.name} reads {name!r}, which nothing before it makes; there are {sorted(known)}."
                    )
                if known[name] != wanted:
                    raise ShapeError(f"{op.name} reads {name!r} as {wanted}, but it is {known[name]}.")
            for name, made in op.results.items():
                if name in known:
                    raise ShapeError(
                        f"{op.name} makes {name!r}, which is there already. Names must be unique in a block."
                    )
                known[name] = made
        for name in self.outputs:
            if name not in known:
                raise ShapeError(f"the block gives out {name!r}, which no operation makes.")

    @property
    def types(self) -> dict[str, TensorType]:
        """Of every tensor, by name."""
        made = {name: type_ for op in self.ops for name, type_ in op.results.items()}
        return {**dict(self.inputs), **{stored.name: stored.type for stored in self.stored}, **made}

    def within(self, prefix: str, **inputs: str) -> BlockRequest:
        """The same block as part of a larger one: its names begin with `prefix.`, and its inputs are called as given."""

        def renamed(name: str) -> str:
            return inputs.get(name, f"{prefix}.{name}")

        return BlockRequest(
            mode=self.mode,
            inputs=tuple((renamed(name), type_) for name, type_ in self.inputs),
            stored=tuple(replace(stored, name=renamed(stored.name)) for stored in self.stored),
            ops=tuple(
                replace(op, name=f"{prefix}.{op.name}", inputs=tuple(renamed(name) for name in op.inputs))
                for op in self.ops
            ),
            outputs=tuple(renamed(name) for name in self.outputs),
        )
