"""Decoder layers."""

from __future__ import annotations

import ttnn
from ttt_core import Attention, FeedForward, KVCache, Norm, Tensor


class DecoderLayer:
    """h = x + attention(attention_norm(x)); y = h + ffn(ffn_norm(h)): a layer that normalises before each branch.

    Built from anything that keeps the Protocols; shapes as in ttt_core.Layer. A sum stays where its branch's output lies.
    Source: arXiv 2002.04745 figure 1b; LlamaDecoderLayer of transformers.
    """

    def __init__(self, *, attention: Attention, ffn: FeedForward, attention_norm: Norm, ffn_norm: Norm) -> None:
        self.attention = attention
        self.ffn = ffn
        self.attention_norm = attention_norm
        self.ffn_norm = ffn_norm

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        attended = self.attention.prefill_forward(
            self.attention_norm.prefill_forward(x), cache=cache, positions=positions, page_table=page_table
        )
        h = ttnn.add(x, attended, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        y: Tensor = ttnn.add(
            h, self.ffn.prefill_forward(self.ffn_norm.prefill_forward(h)), memory_config=ttnn.DRAM_MEMORY_CONFIG
        )
        return y

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        attended = self.attention.decode_forward(
            self.attention_norm.decode_forward(x), cache=cache, positions=positions, page_table=page_table
        )
        h = ttnn.add(x, attended, memory_config=ttnn.L1_MEMORY_CONFIG)
        y: Tensor = ttnn.add(
            h, self.ffn.decode_forward(self.ffn_norm.decode_forward(h)), memory_config=ttnn.L1_MEMORY_CONFIG
        )
        return y
