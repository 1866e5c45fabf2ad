"""From a checkpoint or a spec to a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ttt_attention import GroupedQueryAttention, Rotary
from ttt_core import WeightError
from ttt_embedding import LMHead, TokenEmbedding
from ttt_factory.families import FAMILIES, WeightNames
from ttt_factory.huggingface import read_config, spec_of_config
from ttt_factory.model_plans import plan_blocks
from ttt_factory.requests import precision_of
from ttt_factory.spec import ModelSpec
from ttt_ffn import SwiGLU
from ttt_hw import DType, Overrides, board_of
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer, DecoderModel
from ttt_weights import Checkpoint, NoValues, Source


class ModelFactory:
    """Makes specs and models; keeps no state."""

    @staticmethod
    def from_huggingface(config: Mapping[str, Any]) -> ModelSpec:
        """The spec that a Hugging Face config describes. Errors: SpecError."""
        return spec_of_config(config)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        device: Any,
        weight_dtype: DType = "bfloat8_b",
        cache_dtype: DType = "bfloat8_b",
        hw_config_overrides: Overrides | None = None,
    ) -> DecoderModel:
        """The model of a checkpoint directory; tensors are read when first used.

        Errors: SpecError for the config, WeightError for the files, PlacementError if no op config fits the device, or for
        overrides that are not legal.
        """
        spec = spec_of_config(read_config(directory))
        return cls.from_spec(
            spec,
            Checkpoint(directory),
            device=device,
            weight_dtype=weight_dtype,
            cache_dtype=cache_dtype,
            hw_config_overrides=hw_config_overrides,
        )

    @staticmethod
    def from_spec(
        spec: ModelSpec,
        weights: Mapping[str, Source] | None = None,
        *,
        device: Any,
        weight_dtype: DType = "bfloat8_b",
        cache_dtype: DType = "bfloat8_b",
        hw_config_overrides: Overrides | None = None,
    ) -> DecoderModel:
        """The model of a spec, with weights under the names of its family; without any, for checks of shapes and memory.

        `device` may be a ttt_hw.Board: the model then knows its configs and placements, but has nowhere to run.
        `hw_config_overrides` change the plans, by operation: {"decode.qkv_matmul": {"in0_block_w": 4}}; see ttt_hw.Overrides.
        Errors: WeightError for a tensor that is missing, of the wrong shape, or that nothing reads; PlacementError where an
        operation has no legal config, or for an override that is not legal or names no operation.
        """
        names = FAMILIES[spec.family].names
        used = _UsedWeights(_WithoutValues() if weights is None else weights)
        roles = precision_of(spec, "performance")
        precision: dict[str, DType] = {**dict.fromkeys(roles, weight_dtype), "kv_cache": cache_dtype}
        plans = plan_blocks(spec, board_of(device), precision, hw_config_overrides)
        embedding = TokenEmbedding(spec.embedding, used[names.embedding], device=device, plans=plans.embedding)
        rotaries: dict[Any, Rotary] = {}
        layers = []
        for number, layer in enumerate(spec.layers):
            layer_plans = plans.layers[layer]
            key = (layer.attention.rope, layer.attention.head_dim, layer.attention.max_context)
            if key not in rotaries:
                rope, head_dim, context = key
                rotaries[key] = Rotary(rope, head_dim=head_dim, context=context, device=device)
            optional = [
                *(("q_bias", "k_bias", "v_bias") if layer.attention.qkv_bias else ()),
                *(("q_norm", "k_norm") if layer.attention.head_norm else ()),
            ]
            part = {
                name: used[getattr(names, name).format(layer=number)]
                for name in ("q", "k", "v", "o", *optional, "gate", "up", "down", "attention_norm", "ffn_norm")
            }
            attention = GroupedQueryAttention(
                layer.attention,
                q=part["q"],
                k=part["k"],
                v=part["v"],
                o=part["o"],
                q_bias=part.get("q_bias"),
                k_bias=part.get("k_bias"),
                v_bias=part.get("v_bias"),
                q_norm=part.get("q_norm"),
                k_norm=part.get("k_norm"),
                device=device,
                cache_dtype=cache_dtype,
                rotary=rotaries[key],
                plans=layer_plans.part("attention"),
            )
            ffn = SwiGLU(
                layer.ffn,
                gate=part["gate"],
                up=part["up"],
                down=part["down"],
                device=device,
                plans=layer_plans.part("ffn"),
            )
            attention_norm, ffn_norm = (
                RMSNorm(getattr(layer, name), part[name], device=device, plans=layer_plans.part(name))
                for name in ("attention_norm", "ffn_norm")
            )
            layers.append(
                DecoderLayer(
                    attention=attention,
                    ffn=ffn,
                    attention_norm=attention_norm,
                    ffn_norm=ffn_norm,
                    residual=layer.residual,
                    plans=layer_plans,
                )
            )
        final_norm = RMSNorm(
            spec.final_norm, used[names.final_norm], device=device, plans=plans.head.part("final_norm")
        )
        head = LMHead(
            spec.head,
            used[names.embedding if spec.head.tied else names.head],
            device=device,
            plans=plans.head.part("head"),
        )
        used.finish(names, tied=spec.head.tied)
        return DecoderModel(
            embedding=embedding,
            layers=layers,
            final_norm=final_norm,
            head=head,
            vocab_size=spec.vocab_size,
            max_context=spec.max_context,
            device=device,
        )


class _WithoutValues(Mapping[str, Source]):
    """Every name, and no values."""

    def __getitem__(self, name: str) -> Source:
        return NoValues(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _UsedWeights:
    """Hands out weights and remembers which, so that none is passed over in silence."""

    def __init__(self, weights: Mapping[str, Source]) -> None:
        self._weights = weights
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> Source:
        self._used.add(name)
        return self._weights[name]

    def finish(self, names: WeightNames, *, tied: bool) -> None:
        ignored = [*names.ignored, *([re.escape(names.head)] if tied else [])]
        left = [
            name
            for name in self._weights
            if name not in self._used and not any(re.fullmatch(pattern, name) for pattern in ignored)
        ]
        if left:
            raise WeightError(
                f"the checkpoint has {len(left)} tensors that the model does not read, among them {sorted(left)[0]}; "
                "leaving them out would change its answers. The config and the weights do not belong together, or the "
                "architecture has a part that is not supported."
            )
