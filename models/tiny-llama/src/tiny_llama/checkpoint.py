"""Write and read a checkpoint directory, whole or not at all."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from tiny_llama.errors import InputError
from tiny_llama.task import held_out

_NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_SCRATCH_PREFIX = ".tiny-llama-"


def require_free(out: Path) -> None:
    """Raise ``InputError`` unless a checkpoint can be written to ``out``: new or empty, in a directory."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already and is not an empty directory. Name a new directory.")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{out} cannot be written: {parent} is not a directory. Make it first.")
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=_SCRATCH_PREFIX) as scratch:
            Path(scratch, out.absolute().name).mkdir()
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}. Name another directory.") from error


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights, configuration, tokenizer and the held-out prompts.

    All files are written beside ``out`` and renamed in one step, so an interrupted run leaves nothing.
    """
    require_free(out)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=_SCRATCH_PREFIX) as scratch:
        staged = Path(scratch, "checkpoint")
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        prompts = [asdict(example) for example in held_out()]
        (staged / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n", encoding="utf-8")
        os.replace(staged, out)


def load(directory: Path, dtype: torch.dtype) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, in ``dtype`` and ready to generate, and its tokenizer.

    Raises ``InputError`` when the directory does not hold a whole, readable checkpoint.
    """
    missing = [name for name in _NEEDED if not (directory / name).is_file()]
    if missing:
        raise InputError(
            f"{directory} is not a checkpoint: it has no {', '.join(missing)}. "
            "Name a directory that python -m tiny_llama.train wrote."
        )
    logging.set_verbosity(logging.CRITICAL)  # what is wrong is told once, by the error below
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # tokenizers raises a bare Exception
        raise InputError(f"{directory} cannot be read as a checkpoint: {error}") from error
    return model.eval(), tokenizer
