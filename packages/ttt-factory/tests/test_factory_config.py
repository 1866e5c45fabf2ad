"""Configs to specs: both spellings of the rotary embedding, defaults, and every refusal word for word."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaConfig

from ttt_attention import LatentAttentionSpec, Llama3Scaling, LongRopeScaling, RopeSpec
from ttt_core import SpecError
from ttt_factory import ModelFactory, ModelSpec, read_config
from ttt_ffn import ActivationType, FFNSpec, MoESpec
from ttt_norm import NormSpec, NormType

LLAMA_3_2_1B: dict[str, Any] = {  # as published with the model, in the older spelling
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
SUPPORTED = "deepseek_v2, deepseek_v3, gemma2, gpt_neox, gptj, llama, mistral, mixtral, phi3, qwen2, qwen3"
STRETCHED = RopeSpec(
    theta=500_000.0,
    scaling=Llama3Scaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192),
)


def test_a_published_config() -> None:
    spec = ModelFactory.from_huggingface(LLAMA_3_2_1B)
    attention = spec.layers[0].attention
    assert (attention.num_heads, attention.num_kv_heads, attention.head_dim) == (32, 8, 64)
    assert attention.rope == STRETCHED
    assert spec.head.tied
    assert len(spec.layers) == 16
    assert len(set(spec.layers)) == 1
    assert hash(spec) == hash(ModelFactory.from_huggingface(dict(LLAMA_3_2_1B)))


def test_both_spellings_of_rope_mean_the_same() -> None:
    new = {key: value for key, value in LLAMA_3_2_1B.items() if key not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**LLAMA_3_2_1B["rope_scaling"], "rope_theta": 500000.0}
    assert ModelFactory.from_huggingface(new) == ModelFactory.from_huggingface(LLAMA_3_2_1B)
    old = {**LLAMA_3_2_1B, "rope_scaling": {**LLAMA_3_2_1B["rope_scaling"], "type": "llama3"}}
    del old["rope_scaling"]["rope_type"]
    assert ModelFactory.from_huggingface(old) == ModelFactory.from_huggingface(LLAMA_3_2_1B)


MISTRAL = {"model_type": "mistral", "num_hidden_layers": 3}
QWEN2 = {"model_type": "qwen2", "num_hidden_layers": 3}


def windows(config: dict[str, Any]) -> list[int | None]:
    return [layer.attention.window for layer in ModelFactory.from_huggingface(config).layers]


def test_sliding_windows() -> None:
    assert windows(MISTRAL) == [4096] * 3
    assert windows({**MISTRAL, "sliding_window": None}) == [None] * 3
    assert windows({**MISTRAL, "sliding_window": 128}) == [128] * 3
    assert windows(QWEN2) == [None] * 3
    assert windows({**QWEN2, "use_sliding_window": True, "max_window_layers": 1}) == [None, 4096, 4096]
    types = ["full_attention", "sliding_attention", "full_attention"]
    assert windows({**QWEN2, "use_sliding_window": True, "sliding_window": 64, "layer_types": types}) == [
        None,
        64,
        None,
    ]
    with pytest.raises(SpecError, match=r"layer_types is \['x'\]; a list of 3 is wanted, each one of full_attention, "):
        windows({**QWEN2, "layer_types": ["x"]})
    with pytest.raises(SpecError, match=r"layer_types is \[\[\], \[\], \[\]\]; a list of 3 is wanted"):
        windows({**QWEN2, "layer_types": [[], [], []]})
    with pytest.raises(SpecError, match=r"sliding_window is 0, a positive integer or null is wanted\."):
        windows({**MISTRAL, "sliding_window": 0})


def test_what_families_add() -> None:
    qwen2 = ModelFactory.from_huggingface(QWEN2).layers[0].attention
    assert (qwen2.qkv_bias, qwen2.head_norm) == (True, None)
    qwen3 = ModelFactory.from_huggingface({"model_type": "qwen3", "rms_norm_eps": 1e-5}).layers[0].attention
    assert not qwen3.qkv_bias
    assert qwen3.head_norm is not None
    assert qwen3.head_norm.eps == 1e-5
    for kind in (transformers.MistralConfig, transformers.Qwen2Config, transformers.Qwen3Config):
        config = kind(num_hidden_layers=3)
        bare = {"model_type": config.model_type, "num_hidden_layers": 3}
        assert ModelFactory.from_huggingface(bare) == ModelFactory.from_huggingface(config.to_dict())


def test_null_key_value_heads_are_as_many_as_query_heads() -> None:
    for kind in (transformers.LlamaConfig, transformers.Qwen2Config, transformers.Qwen3Config):
        config = kind(num_hidden_layers=1, num_attention_heads=16, num_key_value_heads=None)
        bare = {
            "model_type": config.model_type,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "num_key_value_heads": None,
        }
        attention = ModelFactory.from_huggingface(bare).layers[0].attention
        assert attention.num_kv_heads == config.num_key_value_heads == 16


def test_a_key_that_is_left_out_has_the_default_of_transformers() -> None:
    bare = ModelFactory.from_huggingface({"model_type": "llama"})
    assert bare == ModelFactory.from_huggingface(LlamaConfig().to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, f"config.json has model_type 'mamba'; supported are: {SUPPORTED}."),
        ({"model_type": None}, f"config.json has no model_type; supported are: {SUPPORTED}."),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "config.json names the architecture ['LlamaForSequenceClassification']; of model_type 'llama' only "
            "LlamaForCausalLM is supported.",
        ),
        ({"hidden_size": "2048"}, "config.json: hidden_size is '2048', a positive integer is wanted."),
        ({"num_hidden_layers": 0}, "config.json: num_hidden_layers is 0, a positive integer is wanted."),
        ({"num_attention_heads": True}, "config.json: num_attention_heads is True, a positive integer is wanted."),
        ({"rms_norm_eps": -1}, "config.json: rms_norm_eps is -1, a positive number is wanted."),
        ({"tie_word_embeddings": "yes"}, "config.json: tie_word_embeddings is 'yes', true or false is wanted."),
        (
            {"attention_bias": True},
            "config.json: attention_bias is True; of LlamaForCausalLM only False is supported so far.",
        ),
        (
            {"hidden_act": "gelu"},
            "config.json: hidden_act is 'gelu'; of LlamaForCausalLM only 'silu' is supported so far.",
        ),
        (
            {"num_key_value_heads": 5},
            "AttentionSpec(num_heads=32, num_kv_heads=5): the query heads must be a multiple of the key-value heads.",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "config.json: rope scaling 'yarn' is not supported; supported are: default, llama3.",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "config.json: low_freq_factor of the rotary embedding is None, a positive number is wanted.",
        ),
        ({"rope_scaling": "llama3"}, "config.json: rope_scaling is 'llama3', a JSON object is wanted."),
        (
            {"rope_scaling": {**LLAMA_3_2_1B["rope_scaling"], "partial_rotary_factor": 0.5}},
            "config.json: partial_rotary_factor = 0.5 of the rotary embedding is not understood with rope type 'llama3' and "
            "could change the result; understood are: rope_theta, rope_type, type, factor, low_freq_factor, "
            "high_freq_factor, original_max_position_embeddings. Remove it if it has no influence.",
        ),
        (
            {"rope_scaling": {**LLAMA_3_2_1B["rope_scaling"], "original_max_position_embeddings": math.nan}},
            "config.json: original_max_position_embeddings of the rotary embedding is nan, a positive number is wanted.",
        ),
        (
            {"rope_scaling": {**LLAMA_3_2_1B["rope_scaling"], "original_max_position_embeddings": 8192.5}},
            "config.json: original_max_position_embeddings of the rotary embedding is 8192.5, a whole number is wanted.",
        ),
        (
            {"rope_theta": math.inf},
            "config.json: rope_theta of the rotary embedding is inf, a positive number is wanted.",
        ),
        ({"rms_norm_eps": math.inf}, "config.json: rms_norm_eps is inf, a positive number is wanted."),
        (
            {"rms_norm_eps": 10**400},
            f"config.json: rms_norm_eps is 1{'0' * 99}…, a positive number is wanted.",
        ),
        ({"hidden_size": 10**12}, "config.json: hidden_size is 1000000000000, at most 2,147,483,647 is wanted."),
        ({"num_hidden_layers": 10**9}, "config.json: num_hidden_layers is 1000000000, at most 1,000 is wanted."),
        (
            {"sliding_windw": 4096},
            "config.json: sliding_windw = 4096 is not understood and could change the result, so it is not passed over. "
            "Remove it if it has no influence.",
        ),
        (
            {"num_key_value_head": 8},
            "config.json: num_key_value_head = 8 is not understood and could change the result, so it is not passed over. "
            "Did you mean num_key_value_heads? Remove it if it has no influence.",
        ),
        (
            {"quantization_config": {"quant_method": "awq"}},
            "config.json: quantization_config = {'quant_method': 'awq'} is not understood and could change the result, so "
            "it is not passed over. Remove it if it has no influence.",
        ),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ModelFactory.from_huggingface({**LLAMA_3_2_1B, **change})
    assert str(caught.value) == message


def test_an_unknown_key_that_says_no_is_let_pass() -> None:
    assert ModelFactory.from_huggingface({**LLAMA_3_2_1B, "use_sliding_window": False, "extra": None}) == (
        ModelFactory.from_huggingface(LLAMA_3_2_1B)
    )


def test_reading_a_config_file(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"nowhere is not a directory\. Give the directory of a Hugging Face checkpoint"
    ):
        read_config(tmp_path / "nowhere")
    with pytest.raises(SpecError, match=r"has no config\.json\. Give the directory"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(SpecError, match=r"config\.json is not valid JSON: Expecting value.*Fetch the checkpoint again"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(SpecError, match=r"config\.json is not valid JSON: maximum recursion depth exceeded"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(SpecError, match=r"config\.json holds a list, a JSON object is wanted"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_2_1B))
    assert read_config(tmp_path) == LLAMA_3_2_1B


def test_a_config_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")

    def refuse(_path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        SpecError, match=r"config\.json cannot be read: Permission denied\. Give a file that this user may read\."
    ):
        read_config(tmp_path)


CONFIGS = Path(__file__).with_name("configs")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_a_spec_has_as_many_parameters_as_transformers_makes(path: Path) -> None:
    config = json.loads(path.read_text())
    kind = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        model = kind(kind.config_class.from_dict(config))
    spec = ModelFactory.from_huggingface(config)
    biases = [buffer for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
    assert spec.num_parameters == sum(each.numel() for each in (*model.parameters(), *biases))
    # The same config as transformers writes it.
    written = {**kind.config_class.from_dict(config).to_dict(), "architectures": config["architectures"]}
    assert ModelFactory.from_huggingface(written) == spec


def published(name: str, **change: Any) -> ModelSpec:
    return ModelFactory.from_huggingface({**json.loads((CONFIGS / f"{name}.json").read_text()), **change})


def test_gemma2() -> None:
    spec = published("gemma-2-9b")
    layer = spec.layers[0]
    assert [layer.attention.window for layer in spec.layers[:4]] == [4096, None, 4096, None]
    assert (layer.attention.soft_cap, layer.attention.scale, spec.head.soft_cap) == (50.0, 1 / 16, 30.0)
    assert (layer.residual, layer.attention_norm.offset, layer.attention_output_norm) == (
        "sandwich",
        1,
        spec.final_norm,
    )
    assert (spec.embedding.scale, spec.head.tied) == (3584**0.5, True)
    assert layer.ffn == FFNSpec(hidden_dim=3584, intermediate_dim=14336, activation=ActivationType.GELU_TANH)
    bare = published("gemma-2-9b", attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (bare.layers[0].attention.soft_cap, bare.head.soft_cap) == (None, None)
    with pytest.raises(SpecError, match=r"use_bidirectional_attention = True is not understood"):
        published("gemma-2-9b", use_bidirectional_attention=True)


def test_gptj() -> None:
    spec = published("gpt-j-6b")
    layer = spec.layers[0]
    assert (layer.residual, layer.shared_norm) == ("parallel", True)
    assert layer.attention.rope == RopeSpec(style="interleaved", dim=64)
    assert (layer.attention.qkv_bias, layer.attention.output_bias, spec.head.bias) == (False, False, True)
    assert layer.ffn == FFNSpec(
        hidden_dim=4096, intermediate_dim=16384, activation=ActivationType.GELU_TANH, gated=False, bias=True
    )
    assert layer.attention_norm == NormSpec(dim=4096, kind=NormType.LAYER, bias=True)
    assert published("gpt-j-6b", n_inner=1000).layers[0].ffn.num_parameters == 1000 * 2 * 4096 + 1000 + 4096
    with pytest.raises(
        SpecError, match=r"activation_function is 'mish'; supported are: silu, gelu, gelu_fast, gelu_new, "
    ):
        published("gpt-j-6b", activation_function="mish")
    with pytest.raises(SpecError, match=r"n_embd is 'x', a positive integer is wanted\."):
        published("gpt-j-6b", n_embd="x")
    with pytest.raises(SpecError, match=r"rotary is False; of GPTJForCausalLM only True is supported so far\."):
        published("gpt-j-6b", rotary=False)


def test_gpt_neox() -> None:
    layer = published("gpt-neox-20b").layers[0]
    assert (layer.residual, layer.shared_norm) == ("parallel", False)
    assert layer.attention.rope == RopeSpec(dim=24)
    assert (layer.attention.qkv_bias, layer.attention.output_bias) == (True, True)
    assert published("gpt-neox-20b", use_parallel_residual=False).layers[0].residual == "pre_norm"
    assert published("gpt-neox-20b", rotary_pct=1.0).layers[0].attention.rope == RopeSpec()
    assert not published("gpt-neox-20b", attention_bias=False).layers[0].attention.qkv_bias


def test_phi3() -> None:
    attention = published("phi-3-mini-4k").layers[0].attention
    assert (attention.head_dim, attention.window, attention.rope) == (96, 2047, RopeSpec())
    attention = published("phi-4").layers[0].attention
    assert (attention.num_heads, attention.num_kv_heads, attention.window) == (40, 10, None)
    rope = {"type": "su", "short_factor": [1.0] * 48, "long_factor": [2] * 48}
    attention = published("phi-3-mini-4k", rope_scaling=rope, max_position_embeddings=131072).layers[0].attention
    assert attention.rope == RopeSpec(
        scaling=LongRopeScaling(
            short_factors=(1.0,) * 48,
            long_factors=(2.0,) * 48,
            original_context=4096,
            attention_factor=math.sqrt(1 + math.log(32) / math.log(4096)),
        )
    )
    with pytest.raises(SpecError, match=r"the longrope scaling has 48 factors for 36 pairs of rotated elements\."):
        published("phi-3-mini-4k", rope_scaling=rope, partial_rotary_factor=0.75)
    with pytest.raises(SpecError, match=r"long_factor of the rotary embedding is None, a list is wanted\."):
        published("phi-3-mini-4k", rope_scaling={"type": "longrope", "short_factor": [1.0]})
    with pytest.raises(SpecError, match=r"rope scaling 'llama3' is not supported; supported are: default, longrope\."):
        published("phi-3-mini-4k", rope_scaling={"rope_type": "llama3"})


def test_deepseek() -> None:
    spec = published("deepseek-v3")
    dense, sparse = spec.layers[2], spec.layers[3]
    assert (len(set(spec.layers)), dense.attention == sparse.attention) == (2, True)
    attention = dense.attention
    assert isinstance(attention, LatentAttentionSpec)
    assert (attention.q_rank, attention.row, attention.rope and attention.rope.style) == (1536, 576, "interleaved")
    assert attention.scale == pytest.approx(192**-0.5 * 1.3688879**2)  # 0.1 · ln(40) + 1
    assert dense.ffn == FFNSpec(hidden_dim=7168, intermediate_dim=18432)
    experts = sparse.ffn
    assert isinstance(experts, MoESpec)
    assert (experts.experts, experts.active, experts.groups, experts.active_groups) == (256, 8, 8, 4)
    assert (experts.score, experts.group_score, experts.selection_bias, experts.scale) == ("sigmoid", "top2", True, 2.5)
    assert experts.shared == FFNSpec(hidden_dim=7168, intermediate_dim=2048)
    assert sparse.ffn.reference_path == "model.layers.3.mlp"
    plain = published("deepseek-v3", q_lora_rank=None, rope_interleave=False, rope_scaling=None, n_shared_experts=0)
    attention = plain.layers[0].attention
    assert isinstance(attention, LatentAttentionSpec)
    assert (attention.q_rank, attention.rope, attention.score_scale) == (None, RopeSpec(theta=10000.0), None)
    assert isinstance(plain.layers[3].ffn, MoESpec)
    assert plain.layers[3].ffn.shared is None
    with pytest.raises(SpecError, match=r"quantization_config = .* is not understood and could change the result"):
        published("deepseek-v3", quantization_config={"quant_method": "fp8"})
    with pytest.raises(SpecError, match="first_k_dense_replace is -1, a number of layers is wanted"):
        published("deepseek-v3", first_k_dense_replace=-1)
    with pytest.raises(
        SpecError, match="topk_method is 'greedy'; of DeepseekV3ForCausalLM only 'noaux_tc' is supported"
    ):
        published("deepseek-v3", topk_method="greedy")


def test_deepseek_of_the_second_version() -> None:
    config = {"model_type": "deepseek_v2", "num_experts_per_tok": 6, "n_group": 8, "topk_group": 3}
    greedy = ModelFactory.from_huggingface(config).layers[0].ffn
    grouped = ModelFactory.from_huggingface({**config, "topk_method": "group_limited_greedy"}).layers[0].ffn
    assert isinstance(greedy, MoESpec)
    assert isinstance(grouped, MoESpec)
    assert (greedy.groups, grouped.groups, grouped.group_score, grouped.score) == (1, 8, "max", "softmax")
    assert (greedy.renormalise, greedy.selection_bias) == (False, False)
    with pytest.raises(SpecError, match="topk_method is 'best'; supported are: greedy, group_limited_greedy"):
        ModelFactory.from_huggingface({**config, "topk_method": "best"})


def test_mixtral() -> None:
    ffn = published("mixtral-8x7b").layers[0].ffn
    assert ffn == MoESpec(experts=8, active=2, ffn=FFNSpec(hidden_dim=4096, intermediate_dim=14336))
    with pytest.raises(SpecError, match=r"MoESpec\(experts=8, active=9\): 1 to 8 experts can be active\."):
        published("mixtral-8x7b", num_experts_per_tok=9)


@pytest.mark.parametrize("kind", ["Phi3", "Gemma2", "GPTJ", "GPTNeoX", "Mixtral", "DeepseekV3"])
def test_defaults_of_the_newer_families(kind: str) -> None:
    config = getattr(transformers, f"{kind}Config")()
    assert ModelFactory.from_huggingface({"model_type": config.model_type}) == ModelFactory.from_huggingface(
        config.to_dict()
    )
