"""What a layer computes, whatever its parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from ttt_core import SpecError

__all__ = ["LayerSpec", "Residual"]

AttentionT = TypeVar("AttentionT")
Residual = Literal["pre_norm", "post_norm", "branch_output", "sandwich", "parallel"]
"""Where the norms of a layer are: before its branches, behind the sums, behind the branches, before and behind them; or before
branches that both read the layer's input."""

FFNT = TypeVar("FFNT")
NormT = TypeVar("NormT")


@dataclass(frozen=True, kw_only=True)
class LayerSpec(Generic[AttentionT, FFNT, NormT]):
    """The specs of a layer's parts; equal layers are equal objects.

    With a branch's result times `multiplier` wherever it is added:
    pre_norm: h = x + attention(attention_norm(x)), y = h + ffn(ffn_norm(h)). post_norm: h = attention_norm(x + attention(x)),
    y = ffn_norm(h + ffn(h)). branch_output: h = x + attention_norm(attention(x)), y = h + ffn_norm(ffn(h)). sandwich: as
    pre_norm, each branch normalised once more before it is added, by `attention_output_norm` and `ffn_output_norm`. parallel:
    y = x + attention(attention_norm(x)) + ffn(ffn_norm(x)), where with `shared_norm` both read the result of the attention's.
    Errors: SpecError for output norms without sandwich or the reverse, a shared norm that is not parallel or not one spec, a
    multiplier of 0.
    Source: arXiv 2002.04745 figure 1; Olmo2DecoderLayer, GraniteDecoderLayer (multiplier), GPTJBlock of transformers;
    arXiv 2408.00118 section 2.
    """

    attention: AttentionT
    ffn: FFNT
    attention_norm: NormT
    ffn_norm: NormT
    residual: Residual = "pre_norm"
    shared_norm: bool = False
    attention_output_norm: NormT | None = None
    ffn_output_norm: NormT | None = None
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.residual not in get_args(Residual):
            raise SpecError(
                f"LayerSpec(residual={self.residual!r}): it must be one of {', '.join(get_args(Residual))}."
            )
        if self.multiplier == 0.0:
            raise SpecError("LayerSpec(multiplier=0.0): a branch that is multiplied by 0 is none; leave the layer out.")
        given = [norm is not None for norm in (self.attention_output_norm, self.ffn_output_norm)]
        if any(given) != (self.residual == "sandwich") or any(given) != all(given):
            raise SpecError(
                f"LayerSpec(residual={self.residual!r}) with {sum(given)} output norms: sandwich has two, the others none."
            )
        if self.shared_norm and (self.residual != "parallel" or self.attention_norm != self.ffn_norm):
            raise SpecError(
                "LayerSpec(shared_norm=True): only the branches of a parallel layer share a norm, and both name its spec."
            )
