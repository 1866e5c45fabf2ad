"""Decoder layers that also attend to what an encoder made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ttt_core import Attention, CrossAttention, FeedForward, KVCache, Norm, SpecError, Tensor, Weight
from ttt_hw import ComposedBlock, HardwareMode, Overrides, decoding, prefilling
from ttt_patterns._compose import Maker, load_parts
from ttt_patterns._parts import weights_of
from ttt_patterns._plain import PlainSums
from ttt_patterns._residual import Unchanged

__all__ = ["CrossAttentionLayer"]

_SUMS = ("attention_residual", "cross_residual", "ffn_residual")
_NORMS = ("attention_norm", "cross_norm", "ffn_norm")


class CrossAttentionLayer(ComposedBlock):
    """Self-attention, attention to a memory, and a feed-forward branch, each added to what comes in.

    pre_norm: h = x + attention(attention_norm(x)), c = h + cross_attention(cross_norm(h), memory), y = c + ffn(ffn_norm(c)).
    post_norm: h = attention_norm(x + attention(x)), and likewise.
    Shapes: x as in ttt_core.Layer, memory as in ttt_core.CrossAttention. Built from anything that keeps the Protocols; `norm`,
    `device`, `hw_mode` and `hw_config_overrides` are as in DecoderLayer. Sums are interleaved, in DRAM in prefill and in L1 in
    decode.
    Errors: SpecError for norms that are missing, or another pattern.
    Source: arXiv 1706.03762 section 3.1; WhisperDecoderLayer (pre_norm), BartDecoderLayer (post_norm) of transformers.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        cross_attention: CrossAttention,
        ffn: FeedForward,
        norm: Norm | None = None,
        attention_norm: Norm | None = None,
        cross_norm: Norm | None = None,
        ffn_norm: Norm | None = None,
        residual_pattern: Literal["pre_norm", "post_norm"] = "pre_norm",
        device: Any = None,
        hw_mode: HardwareMode | None = None,
        hw_config_overrides: Overrides | None = None,
    ) -> None:
        if residual_pattern not in ("pre_norm", "post_norm"):
            raise SpecError(
                f"CrossAttentionLayer(residual_pattern={residual_pattern!r}): it must be pre_norm or post_norm."
            )
        made = Maker(self, device, hw_mode, hw_config_overrides)
        given = (attention_norm, cross_norm, ffn_norm)
        norms = {name: made.norm(name, own, norm) for name, own in zip(_NORMS, given, strict=True)}
        if missing := [name for name, each in norms.items() if each is None]:
            raise SpecError(
                f"CrossAttentionLayer was not given {', '.join(missing)}. Give each, or norm= as their template."
            )
        self.attention = made("attention", attention)
        self.cross_attention = made("cross_attention", cross_attention)
        self.ffn = made("ffn", ffn)
        made.finish()
        self.attention_norm, self.cross_norm, self.ffn_norm = (norms[name] or Unchanged() for name in _NORMS)
        before = residual_pattern == "pre_norm"
        every = (self.attention_norm, self.cross_norm, self.ffn_norm)
        self._before = every if before else (Unchanged(),) * 3
        self._after = (Unchanged(),) * 3 if before else every
        self._parts = {
            "attention_norm": self.attention_norm,
            "attention": self.attention,
            "cross_norm": self.cross_norm,
            "cross_attention": self.cross_attention,
            "ffn_norm": self.ffn_norm,
            "ffn": self.ffn,
        }
        self._held = (
            6 if before else 4
        )  # x, what both attentions made, a sum; and what is normalised and read otherwise
        self._settings = {"residual_pattern": residual_pattern}
        self._plans = PlainSums(self._parts, sums=_SUMS)

    @property
    def weights(self) -> tuple[Weight, ...]:
        return weights_of(*self._parts.values())

    def load(self, weights: Mapping[str, Any], /) -> CrossAttentionLayer:
        """Give its parts the weights that were left out, by names as `cross_attention.q`; the layer itself.

        Errors: WeightError for a name that no part has, a weight that is missing or of the wrong shape.
        """
        load_parts(self._parts, weights)
        return self

    def prefill_forward(
        self,
        x: Tensor,
        /,
        *,
        memory: Tensor,
        cache: KVCache | None,
        memory_cache: KVCache | None,
        positions: Tensor,
        page_table: Tensor | None = None,
    ) -> Tensor:
        tokens = x.shape[-2]
        ops = self._plans(prefilling(tokens))
        (first, second, third), (last_1, last_2, last_3) = self._before, self._after
        read = first.prefill_forward(x)
        attended = self.attention.prefill_forward(read, cache=cache, positions=positions, page_table=page_table)
        h = last_1.prefill_forward(ops["attention_residual"](x, attended))
        seen = self.cross_attention.prefill_forward(second.prefill_forward(h), memory=memory, cache=memory_cache)
        c = last_2.prefill_forward(ops["cross_residual"](h, seen))
        narrowed = self.ffn.prefill_forward(third.prefill_forward(c))
        return last_3.prefill_forward(ops["ffn_residual"](c, narrowed))

    def decode_forward(
        self,
        x: Tensor,
        /,
        *,
        cache: KVCache,
        memory_cache: KVCache,
        positions: Tensor,
        page_table: Tensor | None = None,
    ) -> Tensor:
        ops = self._plans(decoding(x.shape[-2], cache.keys.shape[-2]))
        (first, second, third), (last_1, last_2, last_3) = self._before, self._after
        read = first.decode_forward(x)
        attended = self.attention.decode_forward(read, cache=cache, positions=positions, page_table=page_table)
        h = last_1.decode_forward(ops["attention_residual"](x, attended))
        seen = self.cross_attention.decode_forward(second.decode_forward(h), cache=memory_cache)
        c = last_2.decode_forward(ops["cross_residual"](h, seen))
        narrowed = self.ffn.decode_forward(third.decode_forward(c))
        return last_3.decode_forward(ops["ffn_residual"](c, narrowed))
