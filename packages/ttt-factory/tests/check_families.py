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
from ttt_hw import open_mesh
from ttt_testing import max_difference, shadow

NEW_TOKENS = 32
PROMPT_LENGTHS = (37, 1, 64)
# Sizes that are no multiple of a tile, nor of tiles times chips.
ODD: dict[str, Any] = {"hidden_size": 72, "intermediate_size": 100, "vocab_size": 131}
PLAIN: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 512, "vocab_size": 512}
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
    "qwen3-plain": (transformers.Qwen3Config, {**PLAIN, "num_key_value_heads": 4, "head_dim": 32}),
}


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
    config = kind(**{"head_dim": 16, **options, **sizes})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
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
    with open_mesh(device, backend="mock") as mesh:
        print(json.dumps({name: run(name, mesh) for name in CASES}))


if __name__ == "__main__":
    main(sys.argv[1])
