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
            assert not re.search(rf"(?<!class )\b({'|'.join(PATTERNS)})\(", text), file


FORWARDS = ("prefill_forward", "decode_forward")


def reached(trees: list[ast.Module]) -> list[ast.FunctionDef]:
    """The forwards of a package, and the functions of it that they call, by name, whoever calls them."""
    named: dict[str, list[ast.FunctionDef]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                named.setdefault(node.name, []).append(node)
    found: dict[str, list[ast.FunctionDef]] = {}
    open_names = [name for name in FORWARDS if name in named]
    while open_names:
        name = open_names.pop()
        found[name] = named[name]
        for function in found[name]:
            for call in (node.func for node in ast.walk(function) if isinstance(node, ast.Call)):
                called = call.id if isinstance(call, ast.Name) else call.attr if isinstance(call, ast.Attribute) else ""
                if called in named and called not in found and called not in open_names:
                    open_names.append(called)
    return [function for functions in found.values() for function in functions]


def operands(test: ast.expr) -> list[ast.expr]:
    """The conditions of which one is made by and, or, not."""
    match test:
        case ast.BoolOp(values=values):
            return [part for value in values for part in operands(value)]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operands(operand)
    return [test]


def static_branches(function: ast.FunctionDef) -> list[str]:
    """Conditions that are the same in each call: of what belongs to the object, or of nothing that the call brings."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    brought = {argument.arg for argument in arguments} - {"self", "cls"}
    brought |= {
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    found = []
    for node in ast.walk(function):
        tests: list[ast.expr] = []
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                tests = [test]
            case ast.Match(subject=subject):
                tests = [subject]
            case ast.comprehension(ifs=ifs):
                tests = ifs
            case ast.BoolOp(values=values):  # `a or b` chooses too
                tests = values[:-1]
        for test in (part for each in tests for part in operands(each)):
            if not {each.id for each in ast.walk(test) if isinstance(each, ast.Name)} & brought:
                found.append(f"{function.name}: {ast.unparse(test)}")
    return found


@pytest.mark.parametrize("package", BLOCKS)
def test_no_forward_branches_on_what_is_known_when_the_block_is_made(package: str) -> None:
    lists = ("requests", "listing")  # of operations, for the planner: made once for each workload, whatever their names
    files = [file for file in sources(package) if not file.stem.endswith(lists)]
    functions = reached([ast.parse(file.read_text()) for file in files])
    assert {function.name for function in functions} >= set(FORWARDS)
    assert [branch for function in functions for branch in static_branches(function)] == []


def test_branches_are_seen() -> None:
    tree = ast.parse(
        "class Block:\n"
        "    def prefill_forward(self, x, /, *, cache):\n"
        "        if cache is not None: fill(cache)\n"
        "        y = self.norm(x) if self.norm else x\n"
        "        z = self.gate or y\n"
        "        return self._last([a for a in (y, z) if SPLIT])\n"
        "    def decode_forward(self, x, /): return x\n"
        "    def _last(self, ys):\n"
        "        match self.kind:\n"
        "            case 1: return ys[0]\n"
        "        rows = ys[0].shape[-2]\n"
        "        return ys[1] if rows > 32 else ys[0]\n"
        "    def never_called(self):\n"
        "        if self.norm: return 1\n"
    )
    found = [branch for function in reached([tree]) for branch in static_branches(function)]
    expected = [
        "prefill_forward: SPLIT",
        "prefill_forward: self.gate",
        "prefill_forward: self.norm",
        "_last: self.kind",
    ]
    assert sorted(found) == sorted(expected)
