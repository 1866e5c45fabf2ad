"""Blocks know neither chips nor models: both come to them as plans and specs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tools.workspace import ROOT

from ttt_hw import BOARDS, PATTERNS

BLOCKS = ("attention", "embedding", "ffn", "norm", "patterns")
ROPE = re.compile(r"Llama3Scaling|\bllama3\b")  # a formula by the name that transformers gives it
MODELS = re.compile(r"llama|mistral|mixtral|qwen|phi-?\d|gemma|gpt.?j|neox", re.IGNORECASE)
CHIPS = re.compile(rf"\b({'|'.join(map(re.escape, BOARDS))}|wormhole\w*|blackhole|galaxy)\b", re.IGNORECASE)


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / f"packages/ttt-{package}/src").rglob("*.py"))
    assert found
    return found


def constants(file: Path) -> set[object]:
    """Every literal of a module that is not documentation."""
    tree = ast.parse(file.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation}


def numbers_of_chips() -> set[int]:
    """What only a record of a chip may say: sizes that nothing else has."""
    found: set[int] = set()
    for board in BOARDS.values():
        chip = board.chip
        found |= {chip.l1_bytes_per_core, chip.l1_program_bytes, chip.dram_bytes_per_bank, chip.clock_hz}
    return found


@pytest.mark.parametrize("package", BLOCKS)
def test_no_block_names_a_board_or_a_model(package: str) -> None:
    for file in sources(package):
        texts = [value for value in constants(file) if isinstance(value, str)]
        assert not [text for text in texts if MODELS.search(ROPE.sub("", text)) or CHIPS.search(text)], file


@pytest.mark.parametrize("package", [*BLOCKS, "weights", "factory", "generation"])
def test_no_number_about_a_chip_outside_the_catalogue(package: str) -> None:
    for file in sources(package):
        numbers = {value for value in constants(file) if isinstance(value, int) and not isinstance(value, bool)}
        assert not numbers & numbers_of_chips(), file


def test_no_block_builds_a_program_config() -> None:
    for package in BLOCKS:
        for file in sources(package):
            text = file.read_text()
            assert "ProgramConfig" not in text, file
            assert not re.search(rf"\b({'|'.join(PATTERNS)})\(", text), file
