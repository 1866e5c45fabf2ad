"""Decoder layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttt_core import Attention, Cached, FeedForward, KVCache, Norm, Referenced, SpecError, Tensor, Weight
from ttt_hw import ComposedBlock, HardwareMode, Overrides, Plans, prompt_workload, step_workload
from ttt_patterns._compose import Maker, load_parts
from ttt_patterns._parts import weights_of
from ttt_patterns._plain import PlainSums
from ttt_patterns._residual import ONE_NORM, PLACES, Junction, Unchanged
from ttt_patterns.spec import Residual

__all__ = ["DecoderLayer"]


class DecoderLayer(ComposedBlock, Referenced):
    """Attention and a feed-forward branch, each added to what comes in, with norms where `residual_pattern` has them.

    With a branch's result times `multiplier` wherever it is added:
    pre_norm: h = x + attention(attention_norm(x)), y = h + ffn(ffn_norm(h)). post_norm: h = attention_norm(x + attention(x)),
    y = ffn_norm(h + ffn(h)). branch_output: h = x + attention_norm(attention(x)), y = h + ffn_norm(ffn(h)). sandwich: as
    pre_norm, with each branch's result normalised by `attention_output_norm` and `ffn_output_norm` before it is added.
    parallel: h as in pre_norm, y = h + ffn(ffn_norm(x)), or without `ffn_norm` h + ffn(attention_norm(x)).
    Built from anything that keeps the Protocols; shapes as in ttt_core.Layer. `norm` is a template (ttt_core.Template) of all
    the norms that the layer has and that are not given: each is another like it. A part may be one that is yet to be made for
    `device`: something with `materialize(device)`. With `plans` of the whole layer its parts must have been built from parts of
    them; without, sums are interleaved, in DRAM in prefill and in L1 in decode. `hw_mode` and `hw_config_overrides` are of parts
    that are yet to be made as a ttt_core.LazyModule: overrides begin with the part's name, as in decode.attention.qkv_matmul,
    and a part that says its own hardware mode keeps it.
    Errors: SpecError for norms that the residual has no use for or lacks, a norm that is no template, a part yet to be made
    without a device, a hardware mode with no part to be made; PlacementError for overrides of no such part.
    Source: arXiv 2002.04745 figure 1, LlamaDecoderLayer, OpenAIGPT's Block; Olmo2DecoderLayer; Gemma2DecoderLayer; GPTNeoXLayer,
    GPTJBlock; GraniteDecoderLayer (multiplier) of transformers.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        ffn: FeedForward,
        norm: Norm | None = None,
        attention_norm: Norm | None = None,
        ffn_norm: Norm | None = None,
        attention_output_norm: Norm | None = None,
        ffn_output_norm: Norm | None = None,
        residual_pattern: Residual = "pre_norm",
        multiplier: float = 1.0,
        device: Any = None,
        hw_mode: HardwareMode | None = None,
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
    ) -> None:
        made = Maker(self, device, hw_mode, hw_config_overrides)
        sandwich = residual_pattern == "sandwich"
        behind = norm if sandwich else None
        attention, ffn = made("attention", attention), made("ffn", ffn)
        first, ffn_norm = made.norm("attention_norm", attention_norm, norm), made.norm("ffn_norm", ffn_norm, norm)
        attention_output_norm = made.norm("attention_output_norm", attention_output_norm, behind)
        ffn_output_norm = made.norm("ffn_output_norm", ffn_output_norm, behind)
        made.finish()
        if first is None:
            raise SpecError("DecoderLayer was given neither norm= nor attention_norm=. Give one of them.")
        output_norms = [attention_output_norm is not None, ffn_output_norm is not None]
        needless = ffn_norm is None and residual_pattern != "parallel"
        if output_norms != [sandwich] * 2 or needless:
            raise SpecError(
                f"DecoderLayer(residual_pattern={residual_pattern!r}) with {sum(output_norms)} output norms and "
                f"{'no' if ffn_norm is None else 'an'} ffn_norm: sandwich has two output norms, the others none, and only a "
                "parallel layer may do without ffn_norm."
            )
        self.attention = attention
        self.ffn = ffn
        norms = {
            "attention_norm": first,
            "ffn_norm": ffn_norm,
            "attention_output_norm": attention_output_norm,
            "ffn_output_norm": ffn_output_norm,
        }
        self.attention_norm, self.ffn_norm = first, ffn_norm
        self.attention_output_norm, self.ffn_output_norm = attention_output_norm, ffn_output_norm
        places = PLACES[residual_pattern] if ffn_norm is not None else ONE_NORM

        def norm_at(name: str | None) -> Norm:
            return Unchanged() if name is None else norms[name] or Unchanged()

        self._before_attention, self._after_attention = (
            norm_at(places.before_attention),
            norm_at(places.after_attention),
        )
        self._between, self._after_ffn, self._last = (
            norm_at(name) for name in (places.between, places.after_ffn, places.last)
        )
        self._junction: Junction = places.joined
        parts = {
            "attention_norm": first,
            "attention": attention,
            "attention_output_norm": attention_output_norm,
            "ffn_norm": ffn_norm,
            "ffn": ffn,
            "ffn_output_norm": ffn_output_norm,
        }
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._held = places.held
        self._settings = {"residual_pattern": residual_pattern, "multiplier": multiplier}
        self._plans: Plans = plans or PlainSums(self._parts, multiplier=multiplier)

    @property
    def weights(self) -> tuple[Weight, ...]:
        return weights_of(*self._parts.values())

    def load(self, weights: Mapping[str, Any], /) -> DecoderLayer:
        """Give its parts the weights that were left out, by names as `attention.q`; the layer itself.

        Errors: WeightError for a name that no part has, a weight that is missing or of the wrong shape.
        """
        load_parts(self._parts, weights)
        return self

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
        ops = self._plans(prompt_workload(x, cache, page_table))
        normalised = self._before_attention.prefill_forward(x)
        attended = self.attention.prefill_forward(normalised, cache=cache, positions=positions, page_table=page_table)
        attended = self._after_attention.prefill_forward(attended)
        h, read = self._junction(ops, self._between.prefill_forward, x, normalised, attended)
        narrowed = self._after_ffn.prefill_forward(self.ffn.prefill_forward(read))
        y: Tensor = self._last.prefill_forward(ops["ffn_residual"](h, narrowed))
        return y

    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor:
        ops = self._plans(step_workload(x, cache, page_table))
        normalised = self._before_attention.decode_forward(x)
        attended = self.attention.decode_forward(normalised, cache=cache, positions=positions, page_table=page_table)
        attended = self._after_attention.decode_forward(attended)
        h, read = self._junction(ops, self._between.decode_forward, x, normalised, attended)
        narrowed = self._after_ffn.decode_forward(self.ffn.decode_forward(read))
        y: Tensor = self._last.decode_forward(ops["ffn_residual"](h, narrowed))
        return y
