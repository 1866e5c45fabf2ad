"""What a Hugging Face family calls its config keys and tensors: one declarative record each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ttt_patterns import Residual


@dataclass(frozen=True, slots=True)
class Fused:
    """One of several parts of a tensor: q, k and v, or gate and up, whose rows follow one another, `by_head` within each head."""

    name: str
    index: int
    by_head: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightNames:
    """Tensor names; `{layer}` and `{expert}` stand for their numbers. A bias is called as its weight is, except for the end.

    Experts are called as gate, up and down, where they have no names of their own. `ignored` are regular expressions of
    tensors that carry nothing; `modules` pairs what tensors call a module with what transformers calls it in its model.
    """

    embedding: str = "model.embed_tokens.weight"
    final_norm: str = "model.norm.weight"
    head: str = "lm_head.weight"
    q: str | Fused = "model.layers.{layer}.self_attn.q_proj.weight"
    k: str | Fused = "model.layers.{layer}.self_attn.k_proj.weight"
    v: str | Fused = "model.layers.{layer}.self_attn.v_proj.weight"
    o: str = "model.layers.{layer}.self_attn.o_proj.weight"
    q_norm: str = "model.layers.{layer}.self_attn.q_norm.weight"
    k_norm: str = "model.layers.{layer}.self_attn.k_norm.weight"
    q_down: str = "model.layers.{layer}.self_attn.q_a_proj.weight"
    q_up: str = "model.layers.{layer}.self_attn.q_b_proj.weight"
    kv_down: str = "model.layers.{layer}.self_attn.kv_a_proj_with_mqa.weight"
    kv_norm: str = "model.layers.{layer}.self_attn.kv_a_layernorm.weight"
    kv_up: str = "model.layers.{layer}.self_attn.kv_b_proj.weight"
    router: str = "model.layers.{layer}.mlp.gate.weight"
    gate: str | Fused = "model.layers.{layer}.mlp.gate_proj.weight"
    up: str | Fused = "model.layers.{layer}.mlp.up_proj.weight"
    down: str = "model.layers.{layer}.mlp.down_proj.weight"
    expert_gate: str | None = None
    expert_up: str | None = None
    expert_down: str | None = None
    selection_bias: str = "model.layers.{layer}.mlp.gate.e_score_correction_bias"
    shared_gate: str = "model.layers.{layer}.mlp.shared_experts.gate_proj.weight"
    shared_up: str = "model.layers.{layer}.mlp.shared_experts.up_proj.weight"
    shared_down: str = "model.layers.{layer}.mlp.shared_experts.down_proj.weight"
    attention_norm: str = "model.layers.{layer}.input_layernorm.weight"
    ffn_norm: str = "model.layers.{layer}.post_attention_layernorm.weight"
    attention_output_norm: str = "model.layers.{layer}.post_attention_layernorm.weight"
    ffn_output_norm: str = "model.layers.{layer}.post_feedforward_layernorm.weight"
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)
    modules: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A model_type of transformers.

    `defaults` are those of its config class, for keys that a file may leave out; `required` maps a key to the only value that
    ttt can express so far; `unused` are keys that do not change the forward pass.
    `keys` are its names for keys that are elsewhere called as in Llama's config. `window` says how the config speaks of sliding
    windows: not at all, by sliding_window for all layers, by layer_types, or by sliding_window for every other layer.
    `norm` multiplies by its weight (rms), by 1 + weight (rms_plus_one), or is a LayerNorm with bias (layer). `rotated` is the key
    of the rotated dims, or of their share of a head. `residual` parallel is pre_norm where use_parallel_residual says no.
    """

    architecture: str
    names: WeightNames = field(default_factory=WeightNames)
    keys: dict[str, str] = field(default_factory=dict)
    required: dict[str, object] = field(default_factory=dict)
    defaults: dict[str, object] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    qkv_bias: bool = False
    output_bias: bool = False
    attention_bias_key: bool = False
    """attention_bias, true by default, decides on the biases of attention."""
    head_norm: bool = False
    head_bias: bool = False
    head_dim_key: bool = True
    gated: bool = True
    ffn_bias: bool = False
    experts: bool = False
    latent: bool = False
    """Latent attention, and after first_k_dense_replace layers experts with shared ones."""
    expert_score: Literal["softmax", "sigmoid"] = "softmax"
    soft_caps: bool = False
    """Soft-caps of scores and logits, the scale of scores by query_pre_attn_scalar, embeddings times sqrt(hidden_size)."""
    norm: Literal["rms", "rms_plus_one", "layer"] = "rms"
    residual: Residual = "pre_norm"
    shared_norm: bool = False
    rope_types: tuple[str, ...] = ("default", "llama3")
    rope_style: Literal["half", "interleaved"] = "half"
    rotated: str | None = None
    window: Literal["none", "all_layers", "layer_types", "alternating"] = "none"


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

_DROPOUTS = frozenset(
    {
        "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "embd_pdrop", "hidden_dropout",
        "hidden_dropout_prob", "resid_pdrop",
    }
)  # fmt: skip

_PHI3, _GPTJ, _NEOX = "model.layers.{layer}.", "transformer.h.{layer}.", "gpt_neox.layers.{layer}."
_EXPERTS = "model.layers.{layer}.mlp.experts.{expert}."
_DEEPSEEK = WeightNames(
    q_norm="model.layers.{layer}.self_attn.q_a_layernorm.weight",
    expert_gate=f"{_EXPERTS}gate_proj.weight",
    expert_up=f"{_EXPERTS}up_proj.weight",
    expert_down=f"{_EXPERTS}down_proj.weight",
)
_LATENT_UNUSED = frozenset(
    {
        "aux_loss_alpha",
        "ep_size",
        "head_dim",
        "moe_layer_freq",
        "num_key_value_heads",
        "num_nextn_predict_layers",
        "output_router_logits",
        "qk_head_dim",
        "router_aux_loss_coef",
        "seq_aux",
    }
)  # for training, for prediction of several tokens, or what other keys say too
_MIXTRAL = "model.layers.{layer}.block_sparse_moe."
_MASKS = (r".*\.rotary_emb\.inv_freq", r".*\.attn\.(masked_)?bias", r".*\.attention\.(masked_)?bias")

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
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        names=WeightNames(
            q=Fused(f"{_PHI3}self_attn.qkv_proj.weight", 0),
            k=Fused(f"{_PHI3}self_attn.qkv_proj.weight", 1),
            v=Fused(f"{_PHI3}self_attn.qkv_proj.weight", 2),
            gate=Fused(f"{_PHI3}mlp.gate_up_proj.weight", 0),
            up=Fused(f"{_PHI3}mlp.gate_up_proj.weight", 1),
        ),
        required={"hidden_act": "silu", "attention_bias": False},
        defaults={
            **_COMMON, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "partial_rotary_factor": 1.0,
        },
        unused=_DROPOUTS,
        head_dim_key=False,
        rope_types=("default", "longrope"),
        rotated="partial_rotary_factor",
        window="all_layers",
    ),
    "gemma2": Family(
        architecture="Gemma2ForCausalLM",
        names=WeightNames(ffn_norm="model.layers.{layer}.pre_feedforward_layernorm.weight"),
        required={"attention_bias": False},
        keys={"hidden_act": "hidden_activation"},
        defaults={
            "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "sliding_window": 4096, "query_pre_attn_scalar": 256,
            "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "hidden_activation": "gelu_pytorch_tanh",
        },
        # The model reads hidden_activation and sliding_window.
        unused=frozenset({"hidden_act", "cache_implementation", "sliding_window_size"}),
        soft_caps=True,
        norm="rms_plus_one",
        residual="sandwich",
        window="alternating",
    ),
    "gptj": Family(
        architecture="GPTJForCausalLM",
        names=WeightNames(
            embedding="transformer.wte.weight",
            final_norm="transformer.ln_f.weight",
            q=f"{_GPTJ}attn.q_proj.weight",
            k=f"{_GPTJ}attn.k_proj.weight",
            v=f"{_GPTJ}attn.v_proj.weight",
            o=f"{_GPTJ}attn.out_proj.weight",
            up=f"{_GPTJ}mlp.fc_in.weight",
            down=f"{_GPTJ}mlp.fc_out.weight",
            attention_norm=f"{_GPTJ}ln_1.weight",
            ignored=_MASKS,
        ),
        required={"rotary": True, "scale_attn_weights": True},
        keys={
            "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
            "max_position_embeddings": "n_positions", "intermediate_size": "n_inner", "hidden_act": "activation_function",
            "rms_norm_eps": "layer_norm_epsilon",
        },
        defaults={
            "vocab_size": 50400, "n_positions": 2048, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
        },
        unused=_DROPOUTS | {
            "gradient_checkpointing", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
            "summary_use_proj", "task_specific_params", "tokenizer_class",
        },
        head_bias=True,
        head_dim_key=False,
        gated=False,
        ffn_bias=True,
        norm="layer",
        residual="parallel",
        shared_norm=True,
        rope_types=("default",),
        rope_style="interleaved",
        rotated="rotary_dim",
    ),
    "gpt_neox": Family(
        architecture="GPTNeoXForCausalLM",
        names=WeightNames(
            embedding="gpt_neox.embed_in.weight",
            final_norm="gpt_neox.final_layer_norm.weight",
            head="embed_out.weight",
            q=Fused(f"{_NEOX}attention.query_key_value.weight", 0, by_head=True),
            k=Fused(f"{_NEOX}attention.query_key_value.weight", 1, by_head=True),
            v=Fused(f"{_NEOX}attention.query_key_value.weight", 2, by_head=True),
            o=f"{_NEOX}attention.dense.weight",
            up=f"{_NEOX}mlp.dense_h_to_4h.weight",
            down=f"{_NEOX}mlp.dense_4h_to_h.weight",
            attention_norm=f"{_NEOX}input_layernorm.weight",
            ffn_norm=f"{_NEOX}post_attention_layernorm.weight",
            ignored=_MASKS,
        ),
        keys={"rms_norm_eps": "layer_norm_eps", "rope_theta": "rotary_emb_base"},
        defaults={
            "vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64,
            "intermediate_size": 24576, "hidden_act": "gelu", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False, "use_parallel_residual": True, "rotary_pct": 0.25, "attention_bias": True,
        },
        unused=_DROPOUTS | {"is_decoder"},
        attention_bias_key=True,
        head_dim_key=False,
        gated=False,
        ffn_bias=True,
        norm="layer",
        residual="parallel",
        rope_types=("default",),
        rotated="rotary_pct",
    ),
    "mixtral": Family(
        architecture="MixtralForCausalLM",
        names=WeightNames(
            router=f"{_MIXTRAL}gate.weight",
            gate=f"{_MIXTRAL}experts.{{expert}}.w1.weight",
            up=f"{_MIXTRAL}experts.{{expert}}.w3.weight",
            down=f"{_MIXTRAL}experts.{{expert}}.w2.weight",
            modules=(("block_sparse_moe", "mlp"),),
        ),
        required={"hidden_act": "silu"},
        defaults={
            **_COMMON, "vocab_size": 32000, "intermediate_size": 14336, "max_position_embeddings": 131072,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "num_experts_per_tok": 2, "num_local_experts": 8,
            "rope_theta": 1_000_000.0,
        },
        unused=frozenset({"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"}),  # for training
        experts=True,
        window="all_layers",
    ),
    "deepseek_v3": Family(
        architecture="DeepseekV3ForCausalLM",
        names=replace(_DEEPSEEK, ignored=(r".*\.rotary_emb\.inv_freq", r"model\.layers\.61\..*")),  # of several tokens
        required={"hidden_act": "silu", "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
        defaults={
            **_COMMON, "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
            "num_hidden_layers": 61, "num_attention_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256,
            "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
            "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
            "norm_topk_prob": True, "max_position_embeddings": 4096, "rope_interleave": True, "attention_bias": False,
        },
        unused=_LATENT_UNUSED,
        latent=True,
        expert_score="sigmoid",
        rope_types=("default", "yarn"),
        rope_style="interleaved",
    ),
    "deepseek_v2": Family(
        architecture="DeepseekV2ForCausalLM",
        names=_DEEPSEEK,
        required={"hidden_act": "silu", "scoring_func": "softmax", "mlp_bias": False, "norm_topk_prob": False},
        defaults={
            **_COMMON, "vocab_size": 102400, "intermediate_size": 11008, "moe_intermediate_size": 1407,
            "n_shared_experts": 2, "n_routed_experts": 64, "routed_scaling_factor": 1.0, "kv_lora_rank": 512,
            "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
            "topk_method": "greedy", "first_k_dense_replace": 0, "max_position_embeddings": 2048, "attention_bias": False,
        },
        unused=_LATENT_UNUSED,
        latent=True,
        rope_types=("default", "yarn"),
        rope_style="interleaved",
    ),
}  # fmt: skip
