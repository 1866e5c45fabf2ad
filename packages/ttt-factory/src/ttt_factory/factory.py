"""From a checkpoint or a spec to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttt_embedding import LMHead, TokenEmbedding
from ttt_factory._blocks import LayerBuilder, norm_block
from ttt_factory._families import FAMILIES
from ttt_factory._model_plans import plan_blocks
from ttt_factory._weight_map import LayerWeights, UsedWeights, WithoutValues, bias_name
from ttt_factory.huggingface import read_config, spec_of_config
from ttt_factory.requests import precision_of
from ttt_factory.spec import ModelSpec
from ttt_hw import DType, Overrides, board_of
from ttt_patterns import DecoderModel
from ttt_weights import Checkpoint, Source

__all__ = ["ModelFactory"]


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
        used = UsedWeights(WithoutValues() if weights is None else weights)
        roles = precision_of(spec, "performance")
        precision: dict[str, DType] = {**dict.fromkeys(roles, weight_dtype), "kv_cache": cache_dtype}
        plans = plan_blocks(spec, board_of(device), precision, hw_config_overrides)
        embedding = TokenEmbedding(spec.embedding, used[names.embedding], device=device, plans=plans.embedding)
        blocks = LayerBuilder(device=device, cache_dtype=cache_dtype)
        layers = [
            blocks.layer(layer, LayerWeights(used, names, layer, number), plans.layers[layer])
            for number, layer in enumerate(spec.layers)
        ]
        final_norm = norm_block(
            spec.final_norm,
            used[names.final_norm],
            used[bias_name(names.final_norm)] if spec.final_norm.bias else None,
            device=device,
            plans=plans.head.part("final_norm"),
        )
        head = LMHead(
            spec.head,
            used[names.embedding if spec.head.tied else names.head],
            bias=used[bias_name(names.head)] if spec.head.bias else None,
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
