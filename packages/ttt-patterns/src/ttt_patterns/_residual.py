"""How the branches of a layer meet: what the feed-forward branch reads, and what it is added to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ttt_core import Tensor
from ttt_hw import Operations
from ttt_patterns.spec import Residual

NormCall: TypeAlias = Callable[[Tensor], Tensor]
Junction: TypeAlias = Callable[[Operations, NormCall, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(operations, the norm between the branches, x, x as the attention read it, what the attention made) → h, and what the ffn
reads."""


def sequential(
    ops: Operations, between: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    h = ops["attention_residual"](x, attended)
    return h, between(h)


def after_the_sum(
    ops: Operations, between: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    h = between(ops["attention_residual"](x, attended))
    return h, h


def parallel(
    ops: Operations, between: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    read = between(x)
    return ops["attention_residual"](x, attended), read


def parallel_with_one_norm(
    ops: Operations, between: NormCall, x: Tensor, normalised: Tensor, attended: Tensor, /
) -> tuple[Tensor, Tensor]:
    return ops["attention_residual"](x, attended), normalised


@dataclass(frozen=True)
class Places:
    """Which norm of a layer, by its name, stands where; None nowhere. The last is behind the layer's last sum."""

    before_attention: str | None = None
    after_attention: str | None = None
    between: str | None = None
    after_ffn: str | None = None
    last: str | None = None
    joined: Junction = sequential

    @property
    def names(self) -> tuple[str, ...]:
        every = (self.before_attention, self.after_attention, self.between, self.after_ffn, self.last)
        return tuple(name for name in every if name is not None)

    @property
    def held(self) -> int:
        """How many hidden states there are while the ffn works, beside what it reads: x, what the attention made, and those of
        the sum and of what the attention read that are other tensors."""
        one_norm = self.joined is parallel_with_one_norm
        apart = one_norm or (self.between is not None and self.joined is not after_the_sum)
        return 2 + apart + (self.before_attention is not None and not one_norm)


PLACES: dict[Residual, Places] = {
    "pre_norm": Places(before_attention="attention_norm", between="ffn_norm"),
    "post_norm": Places(between="attention_norm", last="ffn_norm", joined=after_the_sum),
    "branch_output": Places(after_attention="attention_norm", after_ffn="ffn_norm"),
    "sandwich": Places(
        before_attention="attention_norm",
        after_attention="attention_output_norm",
        between="ffn_norm",
        after_ffn="ffn_output_norm",
    ),
    "parallel": Places(before_attention="attention_norm", between="ffn_norm", joined=parallel),
}
ONE_NORM = Places(before_attention="attention_norm", joined=parallel_with_one_norm)
"""Of a parallel layer whose branches share a norm."""


class Unchanged:
    """Stands where a norm is left out; keeps ttt_core.Norm."""

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        return x

    def decode_forward(self, x: Tensor, /) -> Tensor:
        return x
