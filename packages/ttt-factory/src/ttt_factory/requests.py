"""All operations of a model, as data for a planner: each distinct part once, with how often it occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ttt_attention import AttentionSpec, LatentAttentionSpec, latent_attention_request
from ttt_attention.requests import PROFILES as ATTENTION_PROFILES, attention_request
from ttt_core import SpecError
from ttt_embedding.requests import PROFILES as HEAD_PROFILES, embedding_request, head_request
from ttt_factory.spec import DecoderLayerSpec, ModelSpec
from ttt_ffn import FFNSpec
from ttt_ffn.requests import PROFILES as FFN_PROFILES, ffn_request
from ttt_hw import DType
from ttt_hw.requests import BlockRequest, MoveRequest, TensorType, Workload
from ttt_norm.requests import norm_request
from ttt_patterns.requests import layer_request

__all__ = ["ModelPart", "ModelRequest", "model_request", "precision_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPart:
    """A list of operations that the model runs `count` times."""

    name: str
    count: int
    block: BlockRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRequest:
    """`embedding`, then `layer`, or `layer_0`, `layer_1` … where layers differ, then `head`: the final norm and the logits.

    Distinct layers are in the order in which they first occur.
    """

    parts: tuple[ModelPart, ...]

    def part(self, name: str) -> BlockRequest:
        """Errors: SpecError for a name that is not there."""
        for part in self.parts:
            if part.name == name:
                return part.block
        raise SpecError(f"the model has no part {name!r}; it has {', '.join(part.name for part in self.parts)}.")


def precision_of(spec: ModelSpec, mode: str) -> dict[str, DType]:
    """The dtypes of a hardware mode by role, for the roles that the model has. Errors: SpecError for an unknown mode."""
    if mode not in ATTENTION_PROFILES:
        raise SpecError(f"hardware mode {mode!r} is not known; known are: {', '.join(ATTENTION_PROFILES)}.")
    roles = {**ATTENTION_PROFILES[mode], **FFN_PROFILES[mode], **HEAD_PROFILES[mode]}
    if all(isinstance(layer.ffn, FFNSpec) and not layer.ffn.gated for layer in spec.layers):
        del roles["gate_weights"]
    return roles


def model_request(spec: ModelSpec, work: Workload, precision: Mapping[str, DType]) -> ModelRequest:
    """What a forward of DecoderModel runs; `precision` as `precision_of` gives it.

    Prefill reads one prompt and computes the logits of its last token alone: a slice, then norm and head of one row.
    Errors: SpecError for a role that `precision` lacks, PlacementError for heads that do not split over the chips, ShapeError
    for a prompt longer than the cache.
    """
    missing = [role for role in precision_of(spec, "performance") if role not in precision]
    if missing:
        raise SpecError(
            f"no dtype is given for {', '.join(missing)}; see precision_of for all roles of a hardware mode."
        )
    kinds = Counter(spec.layers)
    several = len(kinds) > 1
    layers = [
        ModelPart(
            name=f"layer_{index}" if several else "layer",
            count=count,
            block=decoder_layer_request(layer, work, precision),
        )
        for index, (layer, count) in enumerate(kinds.items())
    ]
    embedding = ModelPart(name="embedding", count=1, block=embedding_request(spec.embedding, work))
    head = ModelPart(name="head", count=1, block=_head(spec, work, precision))
    return ModelRequest(parts=(embedding, *layers, head))


def decoder_layer_request(spec: DecoderLayerSpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    """One layer: x [1, 1, rows, D] → the same. Errors as `model_request`."""
    output_norms = (spec.attention_output_norm, spec.ffn_output_norm)
    attention_output_norm, ffn_output_norm = (
        None if norm is None else norm_request(norm, work) for norm in output_norms
    )
    return layer_request(
        residual=spec.residual,
        multiplier=spec.multiplier,
        attention=_attention(spec.attention, work, precision),
        ffn=ffn_request(spec.ffn, work, precision),
        attention_norm=norm_request(spec.attention_norm, work),
        ffn_norm=None if spec.shared_norm else norm_request(spec.ffn_norm, work),
        attention_output_norm=attention_output_norm,
        ffn_output_norm=ffn_output_norm,
    )


def _attention(
    spec: AttentionSpec | LatentAttentionSpec, work: Workload, precision: Mapping[str, DType]
) -> BlockRequest:
    if isinstance(spec, LatentAttentionSpec):
        return latent_attention_request(spec, work, precision)
    return attention_request(spec, work, precision)


def final_request(
    spec: ModelSpec, work: Workload, precision: Mapping[str, DType], *, rows: int, x: str = "x"
) -> BlockRequest:
    """The final norm and the logits of x [1, 1, rows, D]."""
    norm = norm_request(spec.final_norm, work, rows=rows).within("final_norm", x=x)
    head = head_request(spec.head, work, precision, rows=rows).within("head", x=norm.outputs[0])
    return BlockRequest(
        mode=work.mode,
        inputs=((x, TensorType(shape=(1, 1, rows, work.hidden(spec.hidden_dim)))),),
        stored=(*norm.stored, *head.stored),
        ops=(*norm.ops, *head.ops),
        outputs=head.outputs,
    )


def _head(spec: ModelSpec, work: Workload, precision: Mapping[str, DType]) -> BlockRequest:
    if work.mode == "decode":
        return final_request(spec, work, precision, rows=work.rows)
    x = TensorType(shape=(1, 1, work.rows, work.hidden(spec.hidden_dim)))
    last = MoveRequest(name="last_row", inputs=("x",), op="slice", source=x, rows=(work.tokens - 1, work.tokens))
    final = final_request(spec, work, precision, rows=1, x="last_row")
    return BlockRequest(
        mode=work.mode, inputs=(("x", x),), stored=final.stored, ops=(last, *final.ops), outputs=final.outputs
    )
