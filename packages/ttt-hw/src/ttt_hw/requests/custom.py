"""An operation of a user."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_hw.requests.base import OpRequest, TensorType

__all__ = ["CustomRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomRequest(OpRequest):
    """What a block's own function computes from tensors of types `reads`, giving one of type `makes`; when it is issued, the
    function follows the tensors."""

    reads: tuple[TensorType, ...]
    makes: TensorType

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return self.reads

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: self.makes}
