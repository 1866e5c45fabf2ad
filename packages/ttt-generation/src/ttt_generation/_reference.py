"""The same checkpoint in Hugging Face transformers, in float32 on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from ttt_generation._report import Comparison
from ttt_generation.strategy import Completion


def load_reference(directory: Path) -> torch.nn.Module:
    """The checkpoint in transformers, in float32, without its progress bars."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model: torch.nn.Module = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model


def token_ids(ids: Sequence[int]) -> torch.Tensor:
    """[1, tokens], as torch models take them."""
    return torch.tensor([list(ids)])


def compare_with_transformers(
    directory: Path,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Completion],
    *,
    max_new_tokens: int,
    step: Callable[[], None],
) -> tuple[Comparison, list[list[int]]]:
    """Greedy `generate` for each prompt, and its tokens beside the completions' (which must have kept their logits).

    Logits are compared as long as the tokens agree, the first that differs included: until there both saw the same text.
    """
    model: Any = load_reference(directory)
    references, largest = [], 0.0
    for prompt, completion in zip(prompts, completions, strict=True):
        output = model.generate(
            torch.tensor([list(prompt)]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
        reference: list[int] = output.sequences[0, len(prompt) :].tolist()
        references.append(reference)
        for ours, theirs, token, other in zip(
            completion.logits, output.logits, completion.tokens, reference, strict=False
        ):
            largest = max(largest, float((torch.from_numpy(ours) - theirs[0]).abs().max()))
            if token != other:
                break
        step()
    identical = all(
        completion.tokens == reference for completion, reference in zip(completions, references, strict=True)
    )
    return Comparison(tokens_identical=identical, largest_logit_difference=largest), references
