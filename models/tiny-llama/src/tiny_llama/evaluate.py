"""How many of the held-out prompts does a checkpoint answer right?

``python -m tiny_llama.evaluate CHECKPOINT`` prints the count and exits with 1 under 99 %.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_llama.checkpoint import load
from tiny_llama.errors import InputError, Parser, fail
from tiny_llama.task import check, held_out

REQUIRED_ACCURACY = 0.99
MAX_NEW_TOKENS = 8  # the longest answer, 1998, and </s> are 5


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> list[str]:
    """Greedy completions of the prompts, generated as one left-padded batch."""
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    tokens = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    completions = tokens[:, batch["input_ids"].shape[1] :]
    return [tokenizer.decode(completion, skip_special_tokens=True) for completion in completions]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit code."""
    parser = Parser(prog="python -m tiny_llama.evaluate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a directory that tiny_llama.train wrote")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="to compute in")
    options = parser.parse_args(arguments)
    try:
        model, tokenizer = load(options.checkpoint, getattr(torch, options.dtype))
    except (InputError, OSError) as error:
        fail(str(error))
    examples = held_out()
    completions = answer(model, tokenizer, [example.prompt for example in examples])
    right = 0
    for example, completion in zip(examples, completions, strict=True):
        if check(example.prompt, completion):
            right += 1
        else:
            print(f"{example.prompt}{completion} is wrong, the answer is {example.answer}")
    print(f"{right} of {len(examples)} held-out prompts answered right in {options.dtype}")
    return 0 if right >= REQUIRED_ACCURACY * len(examples) else 1


if __name__ == "__main__":
    raise SystemExit(main())
