"""Where each part of a model stands in transformers' model, by the names of its tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ttt_attention import LatentAttentionSpec
from ttt_core import TrackedSpec
from ttt_factory._families import Fused, WeightNames
from ttt_factory.spec import DecoderLayerSpec
from ttt_ffn import MoESpec

SpecT = TypeVar("SpecT", bound=TrackedSpec)


class Tracker:
    """Writes reference paths into specs."""

    def __init__(self, names: WeightNames) -> None:
        self._names = names

    def part(self, spec: SpecT, *roles: str, number: int = 0) -> SpecT:
        """A spec that tracks the module which has the tensors of all those roles."""
        names = [getattr(self._names, role) for role in roles]
        tensors = [name.name if isinstance(name, Fused) else name for name in names]
        owners = [tensor.format(layer=number, expert=0).rpartition(".")[0].split(".") for tensor in tensors]
        shared = []
        for level in zip(*owners, strict=False):
            if len(set(level)) > 1:
                break
            shared.append(level[0])
        called = dict(self._names.modules)
        path = ".".join(called.get(name, name) for name in shared)
        return replace(spec, reference_path=path, reference_type="huggingface")

    def layer(self, spec: DecoderLayerSpec, number: int) -> DecoderLayerSpec:
        ffn = ("router", "gate", "up", "down") if isinstance(spec.ffn, MoESpec) else ("up", "down")
        norms = {"attention_norm": spec.attention_norm, "ffn_norm": spec.ffn_norm}
        outputs = {"attention_output_norm": spec.attention_output_norm, "ffn_output_norm": spec.ffn_output_norm}
        given = norms | {role: norm for role, norm in outputs.items() if norm is not None}
        tracked: dict[str, Any] = {role: self.part(norm, role, number=number) for role, norm in given.items()}
        latent = isinstance(spec.attention, LatentAttentionSpec)
        roles = ("kv_down", "kv_up", "o") if latent else ("q", "k", "v", "o")
        attention = self.part(spec.attention, *roles, number=number)
        return replace(spec, attention=attention, ffn=self.part(spec.ffn, *ffn, number=number), **tracked)
