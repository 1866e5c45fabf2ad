"""Which tokens end a completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ttt_core import SpecError

__all__ = ["stop_tokens"]

GENERATION_CONFIG_FILE = "generation_config.json"


def stop_tokens(directory: str | Path, config: dict[str, Any]) -> frozenset[int]:
    """eos_token_id of generation_config.json, or of config.json where the former is absent or does not say; one or several.

    Source: GenerationConfig.from_pretrained and from_model_config of transformers.
    """
    path = Path(directory) / GENERATION_CONFIG_FILE
    generation: Any = {}
    if path.is_file():
        try:
            generation = json.loads(path.read_text())
        except ValueError as error:
            raise SpecError(f"{path} is not valid JSON: {error}. Fetch the checkpoint again.") from error
    eos = generation.get("eos_token_id") if isinstance(generation, dict) else None
    where = path
    if eos is None:
        eos, where = config.get("eos_token_id"), Path(directory) / "config.json"
    tokens = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in tokens):
        raise SpecError(f"{where}: eos_token_id is {eos!r}; a token id or a list of them is wanted.")
    return frozenset(tokens)
