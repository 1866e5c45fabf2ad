"""What a Hugging Face family calls its config keys and tensors: one declarative record each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightNames:
    """Tensor names; `{layer}` stands for the layer's number. `ignored` are regular expressions of tensors that carry nothing."""

    embedding: str = "model.embed_tokens.weight"
    final_norm: str = "model.norm.weight"
    head: str = "lm_head.weight"
    q: str = "model.layers.{layer}.self_attn.q_proj.weight"
    k: str = "model.layers.{layer}.self_attn.k_proj.weight"
    v: str = "model.layers.{layer}.self_attn.v_proj.weight"
    o: str = "model.layers.{layer}.self_attn.o_proj.weight"
    q_bias: str = "model.layers.{layer}.self_attn.q_proj.bias"
    k_bias: str = "model.layers.{layer}.self_attn.k_proj.bias"
    v_bias: str = "model.layers.{layer}.self_attn.v_proj.bias"
    q_norm: str = "model.layers.{layer}.self_attn.q_norm.weight"
    k_norm: str = "model.layers.{layer}.self_attn.k_norm.weight"
    gate: str = "model.layers.{layer}.mlp.gate_proj.weight"
    up: str = "model.layers.{layer}.mlp.up_proj.weight"
    down: str = "model.layers.{layer}.mlp.down_proj.weight"
    attention_norm: str = "model.layers.{layer}.input_layernorm.weight"
    ffn_norm: str = "model.layers.{layer}.post_attention_layernorm.weight"
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A model_type of transformers.

    `defaults` are those of its config class, for keys that a file may leave out; `required` maps a key to the only value that
    ttt can express so far; `unused` are keys that do not change the forward pass.
    `window` says how the config speaks of sliding windows: not at all, by sliding_window for all layers, or by layer_types.
    """

    architecture: str
    names: WeightNames = field(default_factory=WeightNames)
    required: dict[str, object] = field(default_factory=dict)
    defaults: dict[str, object] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    qkv_bias: bool = False
    head_norm: bool = False
    window: Literal["none", "all_layers", "layer_types"] = "none"


# Keys of any family that concern training, files, sampling or transformers itself.
UNUSED_EVERYWHERE = frozenset(
    {
        "_attn_implementation_autoset", "_name_or_path", "architectures", "attention_dropout", "auto_map", "bos_token_id",
        "dtype", "eos_token_id", "id2label", "initializer_range", "label2id", "model_type", "output_attentions",
        "output_hidden_states", "pad_token_id", "pretraining_tp", "problem_type", "return_dict", "torch_dtype",
        "transformers_version", "unk_token_id", "use_cache",
    }
)  # fmt: skip

_COMMON: dict[str, object] = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}  # fmt: skip
_QWEN: dict[str, object] = {
    **_COMMON, "vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768,
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28,
}  # fmt: skip

FAMILIES: dict[str, Family] = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        required={"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"},
        defaults={**_COMMON, "vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048},
    ),
    "mistral": Family(
        architecture="MistralForCausalLM",
        required={"hidden_act": "silu"},
        defaults={
            **_COMMON, "vocab_size": 32000, "intermediate_size": 14336, "max_position_embeddings": 131072,
            "num_key_value_heads": 8, "sliding_window": 4096,
        },
        window="all_layers",
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        required={"hidden_act": "silu"},
        defaults={**_QWEN, "num_key_value_heads": 32},
        qkv_bias=True,
        window="layer_types",
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        required={"hidden_act": "silu", "attention_bias": False},
        defaults={**_QWEN, "num_key_value_heads": 32, "head_dim": 128},
        head_norm=True,
        window="layer_types",
    ),
}  # fmt: skip
