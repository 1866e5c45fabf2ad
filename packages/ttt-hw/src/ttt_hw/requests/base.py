"""What every request is made of: typed tensors, what is stored, and an operation with its edges."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from ttt_hw.transfer import DType

__all__ = ["OpRequest", "Stored", "StoredKind", "TensorType"]

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "tanh", "exp", "sigmoid", "softplus"]
StoredKind = Literal["weight", "cache", "table", "index"]
"""What a stored tensor holds: weights, keys or values, a table or indices; layers share the last two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorType:
    """A tensor of one chip, wherever it lies."""

    shape: tuple[int, ...]
    dtype: DType = "bfloat16"
    tiled: bool = True

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} {self.dtype}" + ("" if self.tiled else " row-major")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What stays in a chip's memory between forwards: a weight, a cache, a table, the positions of the users."""

    name: str
    type: TensorType
    kind: StoredKind = "weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpRequest:
    """One operation. `inputs` are names: of stored tensors, of the block's inputs, or of results of operations before it.

    The result has the operation's own name; several results are told apart by what `results` calls them, as in `heads.q`.
    """

    name: str
    inputs: tuple[str, ...]

    @property
    def operands(self) -> tuple[TensorType, ...]:
        """The types of `inputs`."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    @property
    def results(self) -> dict[str, TensorType]:
        """What it makes, by name; empty for an operation that writes into one of its inputs."""
        raise TypeError(f"{type(self).__name__} does not say what it makes")


def field_names(request: OpRequest) -> tuple[str, ...]:
    """What an override of a request may change."""
    return tuple(field.name for field in fields(request))
