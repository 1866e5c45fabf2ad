"""A program: random checkpoints of every family on one board, against transformers in float32; prints JSON.

One process has one cluster, so the tests run this once a board.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from ttt_factory import ModelFactory
from ttt_generation import PrefillDecodeStrategy
from ttt_hw import board_as, open_mesh
from ttt_testing import max_difference, shadow

NEW_TOKENS = 32
PROMPT_LENGTHS = (37, 1, 64)
# Sizes that are no multiple of a tile, nor of tiles times chips.
ODD: dict[str, Any] = {"hidden_size": 72, "intermediate_size": 100, "vocab_size": 131}
LEFT_OUT = object()
OWN_HEADS: dict[str, Any] = {**ODD, "hidden_size": 96, "head_dim": LEFT_OUT}  # a head is the hidden size by the heads
PLAIN: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 512, "vocab_size": 512}
DEEPSEEK: dict[str, Any] = {
    **PLAIN, "head_dim": LEFT_OUT, "hidden_size": 96, "moe_intermediate_size": 48, "kv_lora_rank": 64, "q_lora_rank": 48,
    "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 20, "num_experts_per_tok": 3, "num_key_value_heads": 8,
    "first_k_dense_replace": 1, "n_routed_experts": 16, "num_hidden_layers": 3,
}  # fmt: skip
YARN: dict[str, Any] = {
    "rope_type": "yarn", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16, "mscale": 0.7,
    "mscale_all_dim": 1.0, "beta_fast": 32.0, "beta_slow": 1.0,
}  # fmt: skip
WINDOW = 24  # crossed by the longer prompts, and by decoding after the shortest

CASES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {**ODD, "num_key_value_heads": 8}),
    "llama-tied-shared-kv": (
        transformers.LlamaConfig,
        {**PLAIN, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "mistral-window": (transformers.MistralConfig, {**ODD, "num_key_value_heads": 8, "sliding_window": WINDOW}),
    "mistral": (transformers.MistralConfig, {**PLAIN, "num_key_value_heads": 8, "sliding_window": None}),
    "qwen2": (transformers.Qwen2Config, {**ODD, "num_key_value_heads": 4}),
    "qwen2-window": (
        transformers.Qwen2Config,
        {
            **PLAIN,
            "num_key_value_heads": 8,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
    ),
    "qwen3": (transformers.Qwen3Config, {**ODD, "num_key_value_heads": 8, "head_dim": 80}),
    "phi3": (
        transformers.Phi3Config,
        {**OWN_HEADS, "num_key_value_heads": 2, "sliding_window": WINDOW, "pad_token_id": 0},
    ),
    "phi3-partial": (
        transformers.Phi3Config,
        {**PLAIN, "head_dim": LEFT_OUT, "num_key_value_heads": 8, "partial_rotary_factor": 0.75, "pad_token_id": 0},
    ),
    "gpt_neox": (transformers.GPTNeoXConfig, {**OWN_HEADS, "hidden_size": 320}),
    "gpt_neox-sequential": (
        transformers.GPTNeoXConfig,
        {**PLAIN, "head_dim": LEFT_OUT, "use_parallel_residual": False, "rotary_pct": 0.5},
    ),
    "gptj": (
        transformers.GPTJConfig,
        {
            **OWN_HEADS,
            "rotary_dim": 4,
            "n_inner": 100,
            "intermediate_size": LEFT_OUT,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
    ),
    "gptj-plain": (
        transformers.GPTJConfig,
        {**PLAIN, "head_dim": LEFT_OUT, "rotary_dim": 4, "n_inner": 512, "intermediate_size": LEFT_OUT},
    ),
    "gemma2": (
        transformers.Gemma2Config,
        {
            **ODD,
            "num_key_value_heads": 4,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2-multi-head": (
        transformers.Gemma2Config,
        {**PLAIN, "num_key_value_heads": 8, "sliding_window": WINDOW, "attn_logit_softcapping": 5.0},
    ),
    "mixtral": (
        transformers.MixtralConfig,
        {**ODD, "hidden_size": 96, "num_key_value_heads": 4, "num_local_experts": 4, "sliding_window": None},
    ),
    "deepseek_v3": (
        transformers.DeepseekV3Config,
        {**DEEPSEEK, "n_group": 4, "topk_group": 2, "rope_parameters": YARN},
    ),
    "deepseek_v2": (
        transformers.DeepseekV2Config,
        {**DEEPSEEK, "q_lora_rank": None, "n_group": 4, "topk_group": 2, "topk_method": "group_limited_greedy"},
    ),
    "qwen3-plain": (transformers.Qwen3Config, {**PLAIN, "num_key_value_heads": 4, "head_dim": 32}),
}
ON_TWO_BOARDS = (
    "phi3",
    "gpt",
    "gemma2",
    "mixtral",
    "deepseek_v3",
)  # families that are tried on one chip and on eight, to save time
ON_ONE = ("deepseek_v2",)  # whose blocks are those of another family


# On a mesh whose rows split the hidden dim: tied weights; soft-caps and norms with an offset; biases everywhere; q and k norms.
SPLIT_TWICE = ("llama-tied-shared-kv", "gemma2-multi-head", "gptj-plain", "gpt_neox-sequential", "qwen3-plain")


def cases_on(device: str) -> list[str]:
    """`device`: a board, or a board and a mesh, as in t3k/2x4:hidden."""
    if device.endswith(":hidden"):
        return list(SPLIT_TWICE)
    fewer = (*ON_TWO_BOARDS, *ON_ONE) if device != "t3k" else ON_ONE
    return [name for name in CASES if device == "n150" or not name.startswith(fewer)]


def checkpoint(name: str, directory: Path) -> Any:
    """A random model of a case, saved; norms and biases are random too, so that leaving one out shows."""
    kind, sizes = CASES[name]
    torch.manual_seed(0)
    options = {
        "num_attention_heads": 8,
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.15,
    }
    config = kind(
        **{key: value for key, value in {"head_dim": 16, **options, **sizes}.items() if value is not LEFT_OUT}
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("e_score_correction_bias"):
            buffer.normal_(0, 0.2)
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            parameter.data.uniform_(0.5, 1.5)
        elif parameter_name.endswith("bias"):
            parameter.data.normal_(0, 0.5)
    model.save_pretrained(directory)
    return model


def run(name: str, mesh: Any) -> dict[str, Any]:
    """The largest logit difference of a prefill on any chip, and whether all greedy tokens agree."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        reference = checkpoint(name, Path(folder))
        vocabulary = reference.config.vocab_size
        prompts = [torch.randint(0, vocabulary, (length,)).tolist() for length in PROMPT_LENGTHS]
        model = ModelFactory.from_pretrained(folder, device=mesh)
        with shadow("none") as values:
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
            chips = values.shards(model.prefill_forward(padded, logits="all"))
            completions = PrefillDecodeStrategy(model, max_new_tokens=NEW_TOKENS).generate(prompts)
        difference, tokens = 0.0, True
        for user, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            ids = torch.tensor([prompt])
            expected = reference(ids).logits[0]
            difference = max([difference, *(max_difference(chip[user, 0, : len(prompt)], expected) for chip in chips)])
            generated = reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
            )
            tokens = tokens and completion.tokens == generated[0, len(prompt) :].tolist()
        return {"chips": len(chips), "difference": difference, "tokens": tokens}


def main(device: str) -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    name, _, text = device.partition("/")
    board = board_as(name, text or None)
    with open_mesh(name, shape=board.mesh, rows=board.rows, backend="mock") as mesh:
        print(json.dumps({name: run(name, mesh) for name in cases_on(device)}))


if __name__ == "__main__":
    main(sys.argv[1])
