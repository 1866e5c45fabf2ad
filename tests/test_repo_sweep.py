"""A sample of the sweep: every operation of these models is planned and accepted, and takes the memory that was predicted."""

from typing import Any

import pytest
from tools.sweep import check, meshes

from ttt_hw import BOARDS, board_as, open_mesh, run_in_process

SAMPLE = ((8, 128), (1, 2048))  # users and prompt


def accepted(cells: list[dict[str, Any]]) -> None:
    assert {cell["status"] for cell in cells} <= {"accepted", "exceeds DRAM"}, cells
    assert any(cell["status"] == "accepted" for cell in cells), cells
    ops = sum(cell.get("ops", 0) for cell in cells)
    inexact = [text for cell in cells for text in cell.get("inexact", ())]
    assert len(inexact) <= 0.01 * ops, inexact


@pytest.mark.parametrize("model", ["llama-3.2-1b", "qwen2.5-7b", "phi-3-mini-4k", "gpt-j-6b", "gemma-2-9b"])
def test_n150(model: str, mesh: Any) -> None:
    accepted(list(check(model, mesh, SAMPLE)))


def sample(board: str, shape: str, models: tuple[str, ...]) -> list[dict[str, Any]]:
    with open_mesh(board, shape=board_as(board, shape).mesh, backend="mock") as opened:
        return [cell for model in models for cell in check(model, opened, SAMPLE)]


@pytest.mark.parametrize(
    ("board", "shape", "models"),
    [
        ("t3k", "1x8", ("llama-3.1-8b", "llama-3.1-70b")),
        ("t3k", "2x4", ("qwen2.5-7b",)),
        ("p150x8", "1x8", ("mixtral-8x7b", "gemma-2-9b")),
        ("p100", "1x1", ("phi-4", "mistral-7b-v0.1")),
        ("bh-galaxy", "8x4", ("qwen3-32b", "gpt-neox-20b")),
    ],
)
def test_boards(board: str, shape: str, models: tuple[str, ...]) -> None:
    accepted(run_in_process(sample, board, shape, models, device=board))


def test_every_degree_of_every_board_is_swept() -> None:
    """A degree is the length of a mesh axis of a shape that the board opens as; the columns split the model."""
    wanted = {(name, axis) for name, board in BOARDS.items() for shape in board.shapes for axis in shape}
    swept = meshes()
    assert {(name, shape[1]) for name, shape in swept} == wanted
    assert all(shape in BOARDS[name].shapes for name, shape in swept)
    assert len(swept) == len(wanted)
