"""Decoder layers."""

from __future__ import annotations

from ttt_core import Attention, Cached, FeedForward, KVCache, Norm, SpecError, Tensor, Weight
from ttt_hw import Plans, TimedByPlans, Workload
from ttt_patterns.parts import weights_of
from ttt_patterns.plain import PlainSums
from ttt_patterns.spec import Residual


class DecoderLayer(TimedByPlans):
    """h = x + attention(attention_norm(x)); y = h + ffn(ffn_norm(h)): a layer that normalises before each branch.

    Built from anything that keeps the Protocols; shapes as in ttt_core.Layer. With `plans` of the whole layer its parts must
    have been built from parts of them; without, sums are interleaved, in DRAM in prefill and in L1 in decode.
    Source: arXiv 2002.04745 figure 1b; LlamaDecoderLayer of transformers.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        ffn: FeedForward,
        attention_norm: Norm,
        ffn_norm: Norm,
        residual: Residual = "sequential",
        plans: Plans | None = None,
    ) -> None:
        if residual != "sequential":
            raise SpecError(
                f"DecoderLayer adds one branch after the other, the spec says residual={residual!r}. "
                "Use a layer that computes it."
            )
        self.attention = attention
        self.ffn = ffn
        self.attention_norm = attention_norm
        self.ffn_norm = ffn_norm
        self._plans: Plans = plans or PlainSums(
            attention_norm=attention_norm, attention=attention, ffn_norm=ffn_norm, ffn=ffn
        )

    @property
    def weights(self) -> tuple[Weight, ...]:
        return weights_of(self.attention, self.ffn, self.attention_norm, self.ffn_norm)

    def allocate_cache(self, *, users: int, context: int) -> KVCache:
        """The attention's cache. Raises SpecError for an attention that keeps none."""
        if not isinstance(self.attention, Cached):
            raise SpecError(
                f"{type(self.attention).__name__} has no allocate_cache, so this layer cannot decode. "
                "Add it (ttt_core.Cached), or make the caches yourself and pass them to the forwards."
            )
        return self.attention.allocate_cache(users=users, context=context)

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        tokens = x.shape[-2]
        ops = self._plans(Workload(mode="prefill", tokens=tokens, context=tokens))
        attended = self.attention.prefill_forward(
            self.attention_norm.prefill_forward(x), cache=cache, positions=positions, page_table=page_table
        )
        h = ops["attention_residual"](x, attended)
        narrowed = self.ffn.prefill_forward(self.ffn_norm.prefill_forward(h))
        y: Tensor = ops["ffn_residual"](h, narrowed)
        return y

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        ops = self._plans(Workload(mode="decode", users=x.shape[-2], context=cache.keys.shape[-2]))
        attended = self.attention.decode_forward(
            self.attention_norm.decode_forward(x), cache=cache, positions=positions, page_table=page_table
        )
        h = ops["attention_residual"](x, attended)
        narrowed = self.ffn.decode_forward(self.ffn_norm.decode_forward(h))
        y: Tensor = ops["ffn_residual"](h, narrowed)
        return y
