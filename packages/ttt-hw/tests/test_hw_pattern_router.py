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


def request(rows: int, experts: int = 8, active: int = 2, **more: Any) -> RouterRequest:
    inputs = ("logits", *("bias",) * more.get("selection_bias", False), *("table",) * (more.get("groups", 1) > 1))
    return RouterRequest(name="r", inputs=inputs, rows=rows, experts=experts, active=active, **more)


KINDS: dict[str, dict[str, Any]] = {
    "softmax of all": {"experts": 128, "active": 8, "renormalise": False},
    "sigmoid": {"experts": 64, "active": 6, "score": "sigmoid", "scale": 2.5},
    "groups by their maximum": {"experts": 160, "active": 6, "groups": 8, "active_groups": 3, "renormalise": False},
    "groups by their best two": {
        "experts": 256, "active": 8, "score": "sigmoid", "selection_bias": True, "groups": 8, "active_groups": 4,
        "group_score": "top2", "scale": 2.5,
    },
    "sparsemixer": {"experts": 16, "active": 2, "score": "sparsemixer", "jitter": 0.1},
    "sparsemixer of many": {"experts": 160, "active": 3, "score": "sparsemixer", "scale": 1.5},
    "capped logits": {"experts": 8, "active": 2, "logit_cap": 0.7},
}  # fmt: skip
PAIRS = [
    (request(rows, experts, active), Router(memory=memory))
    for rows in (1, 32, 128, 2048)
    for experts, active in ((8, 2), (16, 1), (64, 4), (128, 8))
    for memory in ("dram", "l1")
]
PAIRS += [(request(rows, **kind), Router(memory="l1")) for rows in (1, 33) for kind in KINDS.values()]


def test_exact(mesh: Any, probe: Any) -> None:
    assert not probe.inexact(mesh, PAIRS)


@pytest.mark.parametrize("name", ["p150", "t3k"])
def test_exact_on_other_boards(name: str, probe: Any) -> None:
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, PAIRS[::5], device=name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_its_operations_make_fits_its_scratch(kind: str, mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where all of it is held, as when the calls are written down."""
    import ttnn

    from ttt_hw.verify import empty

    record, router, operation = board("n150"), Router(memory="l1"), ttnn.decorators.FastOperation
    run, held, lowest = operation.__call__, [], []

    def free() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).largest_contiguous_bytes_free_per_bank)

    def call(one: Any, *args: Any, **kwargs: Any) -> Any:
        held.append(run(one, *args, **kwargs))
        lowest.append(free())
        return held[-1]

    for rows in (1, 128, 1024):
        asked = request(rows, **KINDS[kind])
        reads = [layouts[0] for layouts in router.accepts(asked, record)]
        tensors = [empty(text, type_, record, mesh) for text, type_ in zip(reads, asked.operands, strict=True)]
        before = free()
        lowest.clear()
        with monkeypatch.context() as patch:
            patch.setattr(operation, "__call__", call)
            router.issue(asked, record, tensors)
        held.clear()
        assert 0 < before - min(lowest) <= router.scratch(asked, record)


@pytest.mark.parametrize("name", BOARDS)
def test_mixtral_is_served(name: str, probe: Any) -> None:
    for rows in (1, 8, 32, 128, 1024, 2048, 8192):
        probe.first_legal(Router, request(rows), board(name))


def test_each_rule(probe: Any) -> None:
    assert probe.problems(Router(), request(32, 8, 9)) == ["9 active experts must be at least 1 and at most 8 of 8"]
    assert probe.problems(Router(), request(32, 1024)) == [
        "1024 experts must be at most 512: beyond, topk runs another program"
    ]
    assert probe.problems(Router(), request(32, 64, groups=8, active_groups=9)) == [
        "9 of 8 groups of 64 experts by max: groups must be of one size, at least 2 for top2, and no more active than there are"
    ]
    assert probe.problems(Router(), request(32, 64, score="sparsemixer", selection_bias=True)) == [
        "a sparsemixer chooses among all experts, by their logits alone: it has no selection bias and no groups"
    ]
    assert probe.problems(Router(), request(32, 64, 9, groups=8, active_groups=1)) == [
        "9 active experts are more than the 8 of the active groups"
    ]


def expected(asked: RouterRequest, logits: Any, bias: Any) -> Any:
    """Row by row, expert by expert. Source: DeepseekV3TopkRouter, sparsemixer of transformers."""
    import torch

    weights = torch.zeros_like(logits)
    if asked.logit_cap:
        logits = asked.logit_cap * (logits / asked.logit_cap).tanh()
    for row, own in enumerate(logits[0, 0]):
        if asked.score == "sparsemixer":
            left = list(range(asked.experts))
            for _ in range(asked.active):
                top = max(left, key=lambda expert: float(own[expert]))
                gaps = {each: (own[top] - own[each]) / max(abs(own[each]), own[top]) for each in left}
                near = [each for each in left if gaps[each] <= 2 * asked.jitter]
                weights[0, 0, row, top] = own[near].softmax(0)[near.index(top)] * asked.scale
                left.remove(top)
            continue
        scores = own.softmax(-1) if asked.score == "softmax" else own.sigmoid()
        choice = scores + bias[0, 0, 0] if asked.selection_bias else scores.clone()
        size = asked.experts // asked.groups
        of_group = [
            choice[start : start + size].sort(descending=True).values for start in range(0, asked.experts, size)
        ]
        worth = [float(best[:2].sum() if asked.group_score == "top2" else best[0]) for best in of_group]
        kept = sorted(range(asked.groups), key=lambda group: -worth[group])[: asked.active_groups]
        allowed = [expert for expert in range(asked.experts) if expert // size in kept]
        chosen = sorted(allowed, key=lambda expert: -float(choice[expert]))[: asked.active]
        share = scores[chosen] / scores[chosen].sum() if asked.renormalise else scores[chosen]
        weights[0, 0, row, chosen] = share * asked.scale
    return weights


@pytest.mark.parametrize("kind", ["softmax of the chosen", *KINDS])
def test_the_values(kind: str, mesh: Any) -> None:
    """What the golden functions of the operations make, chained as the pattern chains them."""
    torch = pytest.importorskip("torch")
    testing = pytest.importorskip("ttt_testing")
    from ttt_hw import upload

    asked = request(33, **KINDS.get(kind, {"experts": 8, "active": 2, "scale": 1.5}))
    generator = torch.Generator().manual_seed(0)
    logits, bias = (
        torch.randn(1, 1, 33, asked.experts, generator=generator),
        torch.randn(1, 1, 1, asked.experts, generator=generator),
    )
    table = torch.eye(asked.groups).repeat_interleave(asked.experts // asked.groups, 1)[None, None]
    given = [logits, *[0.3 * bias] * asked.selection_bias, *[table] * (asked.groups > 1)]
    with testing.shadow() as values:
        tensors = [upload(each.numpy(), mesh, dtype="bfloat16") for each in given]
        weights = values.to_torch(Router().issue(asked, board("n150"), tensors))
    assert torch.allclose(weights, expected(asked, logits, 0.3 * bias), atol=1e-5)
    assert ((weights > 0).sum(-1) == asked.active).all()


def test_equal_scores_still_choose_as_many(mesh: Any) -> None:
    torch = pytest.importorskip("torch")
    testing = pytest.importorskip("ttt_testing")
    from ttt_hw import upload

    with testing.shadow() as values:
        logits = upload(torch.ones(1, 1, 32, 8).numpy(), mesh, dtype="bfloat16")
        weights = values.to_torch(Router().issue(request(32), board("n150"), [logits]))
    assert ((weights == 0.5).sum(-1) == 2).all()
    assert ((weights > 0).sum(-1) == 2).all()
