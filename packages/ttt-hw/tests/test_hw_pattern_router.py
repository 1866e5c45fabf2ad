"""Router: exact buffers, and the numbers that its operations make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.router import Router
from ttt_hw.requests import RouterRequest


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def request(rows: int, experts: int = 8, active: int = 2) -> RouterRequest:
    return RouterRequest(name="r", inputs=("scores",), rows=rows, experts=experts, active=active)


PAIRS = [
    (request(rows, experts, active), Router(memory=memory))
    for rows in (1, 32, 128, 2048)
    for experts, active in ((8, 2), (16, 1), (64, 4))
    for memory in ("dram", "l1")
]


def test_exact(mesh: Any, probe: Any) -> None:
    assert not probe.inexact(mesh, PAIRS)


@pytest.mark.parametrize("name", ["p150", "t3k"])
def test_exact_on_other_boards(name: str, probe: Any) -> None:
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, PAIRS[::3], device=name)


@pytest.mark.parametrize("name", BOARDS)
def test_mixtral_is_served(name: str, probe: Any) -> None:
    for rows in (1, 8, 32, 128, 1024, 2048, 8192):
        probe.first_legal(Router, request(rows), board(name))


def test_each_rule(probe: Any) -> None:
    assert probe.problems(Router(), request(32, 8, 9)) == ["9 active experts must be at least 1 and at most 8 of 8"]
    assert probe.problems(Router(), request(32, 128)) == [
        "128 experts must be at most 64: beyond, topk runs another program"
    ]


def test_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden functions of the operations, chained as the pattern chains them, give the softmax of the largest."""
    torch = pytest.importorskip("torch")
    import ttnn

    for name in ("topk", "softmax", "scatter"):
        monkeypatch.setattr(ttnn, name, _golden(getattr(ttnn, name)))
    monkeypatch.setattr(ttnn, "zeros_like", lambda x, **_: torch.zeros_like(x))
    scores = torch.randn(1, 1, 32, 8)
    scores[0, 0, 0] = 1.0  # all equal: still two
    weights = Router().issue(request(32), board("n150"), [scores])
    best, where = scores.topk(2, dim=-1)
    assert torch.equal(weights, torch.zeros_like(scores).scatter(-1, where, best.softmax(-1)))
    assert ((weights > 0).sum(-1) == 2).all()


def _golden(operation: Any) -> Any:
    import torch

    plain = {
        "topk": lambda x, k, dim, **_: torch.topk(x, k, dim=dim),
        "softmax": lambda x, dim, **_: torch.softmax(x, dim=dim),
        "scatter": lambda x, dim, index, source, **_: torch.scatter(x, dim, index, source),
    }
    return plain[operation.python_fully_qualified_name.rpartition(".")[2]]
