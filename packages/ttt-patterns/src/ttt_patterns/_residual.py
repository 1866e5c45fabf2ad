"""How the branches of a layer meet: what the feed-forward branch reads, and what it is added to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ttt_core import Tensor
from ttt_hw import Operations

NormCall: TypeAlias = Callable[[Tensor], Tensor]
Junction: TypeAlias = Callable[[Operations, NormCall, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(operations, the ffn's norm, x, x as the attention read it, what the attention made) → h, and what the ffn reads."""


def sequential(
    ops: Operations, ffn_norm: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    h = ops["attention_residual"](x, attended)
    return h, ffn_norm(h)


def parallel(
    ops: Operations, ffn_norm: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    read = ffn_norm(x)
    return ops["attention_residual"](x, attended), read


def parallel_with_one_norm(
    ops: Operations, ffn_norm: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    return ops["attention_residual"](x, attended), normalised


class Unchanged:
    """Stands where a norm is left out; keeps ttt_core.Norm."""

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return x

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return x
