"""What patterns without a matmul keep, on real shapes: ttnn accepts them, with the predicted buffers, and one always fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttt_hw import PATTERNS, Pattern
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process

NAMES = (
    "EltwiseGate",
    "Embedding",
    "HeadConcat",
    "HeadSplit",
    "InterleavedNorm",
    "Move",
    "RotaryEmbedding",
    "ShardedNorm",
    "Softmax",
    "Unary",
)
KINDS: list[type[Pattern[Any]]] = [PATTERNS[name] for name in NAMES]
NOT_ALWAYS = {"ShardedNorm"}  # a prompt's rows are too many for shards; InterleavedNorm takes them


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pattern_probe

    return pattern_probe


@pytest.mark.parametrize("kind", KINDS)
def test_real_shapes_are_accepted_and_predicted(kind: type[Pattern[Any]], probe: Any, mesh: Any) -> None:
    done = [each for seed in range(4) for each in probe.issue_some([kind], mesh, seed=seed, count=10)]
    assert len(done) > 15
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    done = run_in_process(probe.on_board, name, KINDS, 1, 8, device=name)
    assert len(done) > 4 * len(KINDS)
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.__name__ not in NOT_ALWAYS])
def test_every_shape_has_a_legal_config_that_fits(kind: type[Pattern[Any]], name: str, probe: Any) -> None:
    for rows in probe.DECODE + probe.PREFILL:
        for model in probe.MODELS:
            for request in probe.requests(kind, rows, model):
                assert probe.options(kind, request, board(name)), f"{request} on {name}"
