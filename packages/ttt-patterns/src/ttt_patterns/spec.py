"""What a layer computes, whatever its parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ttt_core import SpecError

__all__ = ["LayerSpec", "Residual"]

AttentionT = TypeVar("AttentionT")
Residual = Literal["pre_norm", "parallel", "sandwich"]
"""How a layer adds its attention and feed-forward: one after the other, both to the same input, each with a norm behind."""

FFNT = TypeVar("FFNT")
NormT = TypeVar("NormT")


@dataclass(frozen=True, kw_only=True)
class LayerSpec(Generic[AttentionT, FFNT, NormT]):
    """The specs of a layer's parts; equal layers are equal objects.

    pre_norm: h = x + attention(norm(x)), y = h + ffn(norm(h)). parallel: y = x + attention(norm(x)) + ffn(norm(x)), where
    with `shared_norm` both branches read the result of one norm, the attention's. sandwich: as pre_norm, each branch
    normalised once more before it is added, by `attention_output_norm` and `ffn_output_norm`.
    Errors: SpecError for output norms without sandwich or the reverse, a shared norm that is not parallel or not one spec.
    Source: arXiv 2002.04745 figure 1b; GPTJBlock of transformers; arXiv 2408.00118 section 2.
    """

    attention: AttentionT
    ffn: FFNT
    attention_norm: NormT
    ffn_norm: NormT
    residual: Residual = "pre_norm"
    shared_norm: bool = False
    attention_output_norm: NormT | None = None
    ffn_output_norm: NormT | None = None

    def __post_init__(self) -> None:
        if self.residual not in ("pre_norm", "parallel", "sandwich"):
            raise SpecError(f"LayerSpec(residual={self.residual!r}): it must be pre_norm, parallel or sandwich.")
        given = [norm is not None for norm in (self.attention_output_norm, self.ffn_output_norm)]
        if any(given) != (self.residual == "sandwich") or any(given) != all(given):
            raise SpecError(
                f"LayerSpec(residual={self.residual!r}) with {sum(given)} output norms: sandwich has two, the others none."
            )
        if self.shared_norm and (self.residual != "parallel" or self.attention_norm != self.ffn_norm):
            raise SpecError(
                "LayerSpec(shared_norm=True): only the branches of a parallel layer share a norm, and both name its spec."
            )
