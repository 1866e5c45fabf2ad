"""The blocks of a layer, from its spec and its weights."""

from __future__ import annotations

from typing import Any

from ttt_attention import (
    AttentionSpec,
    GroupedQueryAttention,
    LatentAttentionSpec,
    Masks,
    MultiLatentAttention,
    Rotary,
)
from ttt_core import Attention, FeedForward, Norm
from ttt_factory._weight_map import LayerWeights
from ttt_factory.spec import DecoderLayerSpec
from ttt_ffn import MLP, FFNSpec, GatedMLP, MoE, MoESpec
from ttt_hw import BlockPlans, DType, Plans
from ttt_norm import LayerNorm, NormSpec, NormType, RMSNorm
from ttt_patterns import DecoderLayer
from ttt_weights import Source


def norm_block(spec: NormSpec, weight: Source, bias: Source | None, *, device: Any, plans: Plans) -> Norm:
    if spec.kind is NormType.RMS:
        return RMSNorm(spec, weight, device=device, plans=plans)
    return LayerNorm(spec, weight, bias, device=device, plans=plans)


def ffn_block(spec: FFNSpec | MoESpec, weights: LayerWeights, *, device: Any, plans: Plans) -> FeedForward:
    if isinstance(spec, MoESpec):
        experts: dict[str, Any] = {role: weights.experts(role, spec.experts) for role in ("gate", "up", "down")}
        shared: dict[str, Any] = {}
        if spec.shared is not None:
            shared = {role: weights.weight(role) for role in ("shared_gate", "shared_up", "shared_down")}
        bias = weights.weight("selection_bias") if spec.selection_bias else None
        router = weights.weight("router")
        return MoE(spec, router=router, selection_bias=bias, **experts, **shared, device=device, plans=plans)
    up_down: dict[str, Any] = {role: weights.weight(role) for role in ("up", "down")}
    biases: dict[str, Any] = {f"{role}_bias": weights.bias(role, spec.bias) for role in up_down}
    if not spec.gated:
        return MLP(spec, **up_down, **biases, device=device, plans=plans)
    gate_bias = weights.bias("gate", spec.bias)
    gated = {"gate": weights.weight("gate"), "gate_bias": gate_bias, **up_down, **biases}
    return GatedMLP(spec, **gated, device=device, plans=plans)


class LayerBuilder:
    """Builds the layers of a model, which share tables."""

    def __init__(self, *, device: Any, cache_dtype: DType) -> None:
        self._device = device
        self._cache_dtype: DType = cache_dtype
        self._rotaries: dict[Any, Rotary] = {}
        self._masks: dict[AttentionSpec, Masks] = {}

    def layer(self, spec: DecoderLayerSpec, weights: LayerWeights, plans: BlockPlans) -> DecoderLayer:
        def norm(role: str, norm_spec: NormSpec | None) -> Norm | None:
            if norm_spec is None:
                return None
            weight, bias = weights.weight(role), weights.bias(role, norm_spec.bias)
            return norm_block(norm_spec, weight, bias, device=self._device, plans=plans.part(role))

        attention_norm = norm("attention_norm", spec.attention_norm)
        assert attention_norm is not None
        return DecoderLayer(
            attention=self._attention(spec.attention, weights, plans.part("attention")),
            ffn=ffn_block(spec.ffn, weights, device=self._device, plans=plans.part("ffn")),
            attention_norm=attention_norm,
            ffn_norm=norm("ffn_norm", None if spec.shared_norm else spec.ffn_norm),
            attention_output_norm=norm("attention_output_norm", spec.attention_output_norm),
            ffn_output_norm=norm("ffn_output_norm", spec.ffn_output_norm),
            residual_pattern=spec.residual,
            multiplier=spec.multiplier,
            plans=plans,
        )

    def _attention(self, spec: AttentionSpec | LatentAttentionSpec, weights: LayerWeights, plans: Plans) -> Attention:
        if isinstance(spec, LatentAttentionSpec):
            return self._latent(spec, weights, plans)
        key = (spec.rope, spec.head_dim, spec.max_context, spec.query_temperature)
        if key not in self._rotaries:
            self._rotaries[key] = Rotary.of(spec, device=self._device)
        if spec.stepwise and spec not in self._masks:
            self._masks[spec] = Masks(spec, device=self._device)
        normed = spec.head_norm is not None
        return GroupedQueryAttention(
            spec,
            q=weights.weight("q"),
            k=weights.weight("k"),
            v=weights.weight("v"),
            o=weights.weight("o"),
            q_bias=weights.bias("q", "q" in spec.biased),
            k_bias=weights.bias("k", "k" in spec.biased),
            v_bias=weights.bias("v", "v" in spec.biased),
            o_bias=weights.bias("o", spec.output_bias),
            q_norm=weights.weight("q_norm") if normed else None,
            k_norm=weights.weight("k_norm") if normed else None,
            device=self._device,
            cache_dtype=self._cache_dtype,
            rotary=self._rotaries[key],
            masks=self._masks.get(spec),
            plans=plans,
        )

    def _latent(self, spec: LatentAttentionSpec, weights: LayerWeights, plans: Plans) -> MultiLatentAttention:
        key = (spec.rope, spec.rope_dim, spec.max_context)
        if key not in self._rotaries:
            self._rotaries[key] = Rotary.of(spec.turning, device=self._device)
        queries = ("q",) if spec.q_rank is None else ("q_down", "q_norm", "q_up")
        given: dict[str, Any] = {role: weights.weight(role) for role in (*queries, "kv_down", "kv_norm", "kv_up", "o")}
        return MultiLatentAttention(
            spec,
            **given,
            q_bias=weights.bias("q_down", spec.latent_bias and spec.q_rank is not None),
            kv_bias=weights.bias("kv_down", spec.latent_bias),
            o_bias=weights.bias("o", spec.output_bias),
            device=self._device,
            cache_dtype=self._cache_dtype,
            rotary=self._rotaries[key],
            plans=plans,
        )
