"""Configs of matmul patterns issued on a mock, here or in a process per board; no test module, so pytest is not imported."""

from __future__ import annotations

import multiprocessing
import random
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

from ttt_hw.catalogue import board_of
from ttt_hw.compute import ComputeKernel
from ttt_hw.layouts import bytes_per_core
from ttt_hw.mesh import open_mesh
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import BatchedMatmulRequest, MatmulRequest, OpRequest
from ttt_hw.verify import Verdict, verify

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # ttnn imports it where it is installed, which takes seconds

WEIGHTS = {  # k, n on one chip of so many
    "llama-1b qkv": (2048, 3072), "llama-1b down": (8192, 2048), "llama-3b gate_up": (3072, 16384),
    "llama-8b gate": (4096, 14336), "llama-8b o": (4096, 4096), "llama-70b qkv, 8": (8192, 1280),
    "llama-70b gate_up, 32": (8192, 1792), "llama-70b down, 8": (3584, 8192), "qwen-7b qkv": (3584, 4608),
    "qwen-7b down": (18944, 3584), "qwen-72b down, 32": (960, 8192), "qwen3-32b o, 8": (1024, 5120), "phi-3 qkv": (3072, 12288),
    "phi-4 qkv": (5120, 7680), "gemma-9b gate": (3584, 14336), "gpt-j up": (4096, 16384), "neox-20b qkv, 8": (6144, 3072),
    "mixtral gate, 8": (4096, 1792), "mistral o": (4096, 4096),
}  # fmt: skip
HEADS = {"llama": (4096, 128256), "qwen, 4": (3584, 38016), "gemma, 8": (3584, 32000), "gpt-j": (4096, 50432)}
ROWS = (1, 8, 32, 128, 1024, 2048, 8192)


def matmul(m: int, k: int, n: int, **changes: Any) -> MatmulRequest:
    inputs = ("x", "weight", "bias") if changes.get("bias_dtype") else ("x", "weight")
    return replace(MatmulRequest(name="mm", inputs=inputs, m=m, k=k, n=n, weight_dtype="bfloat8_b"), **changes)


def varied(rng: random.Random, rows: tuple[int, ...], *, head: bool = False) -> MatmulRequest:
    """A real shape with some dtypes, perhaps a bias, perhaps an activation."""
    k, n = rng.choice(list((HEADS if head else WEIGHTS).values()))
    return matmul(
        rng.choice(rows), k, n,
        weight_dtype=rng.choice(["bfloat16", "bfloat8_b", "bfloat8_b", "bfloat4_b"]),
        input_dtype=rng.choice(["bfloat16", "bfloat16", "bfloat8_b"]),
        output_dtype=rng.choice(["bfloat16", "bfloat16", "bfloat8_b"]),
        bias_dtype=rng.choice([None, None, "bfloat16"]),
        activation=rng.choice([None, "silu", "gelu", "relu"]),
    )  # fmt: skip


def fits(request: OpRequest, config: Pattern[Any], board: Board) -> bool:
    """Whether the program and the operation's own tensors leave each other room: what a planner looks after."""
    reads = [layouts[0] for layouts in config.accepts(request, board)]
    tensors = [*zip(reads, request.operands), *zip(config.results(request, board), request.results.values())]  # noqa: B905
    taken = config.circular_buffers(request, board, reads) + bytes_per_core(tensors, board)
    return taken <= board.l1_bytes_per_core - 4096


def legal(pattern: type[Pattern[Any]], request: OpRequest, board: Board) -> list[Pattern[Any]]:
    """The candidates that break no rule."""
    configs = []
    for config in pattern.candidates(request, board):
        reads = [layouts[0] for layouts in config.accepts(request, board)]
        if not any(config.problems(request, board, reads)):
            configs.append(config)
    return configs


def issue_some(
    pattern: type[Pattern[Any]], requests: list[Any], mesh: Any, rng: random.Random, each: int
) -> list[tuple[str, Verdict]]:
    """A few legal configs of each request that fit, issued."""
    board = board_of(mesh)
    found = []
    for request in requests:
        configs = [config for config in legal(pattern, request, board) if fits(request, config, board)]
        assert configs, f"{pattern.__name__} has nothing for {request} on {board.name}"
        for config in rng.sample(configs, min(each, len(configs))):
            found.append((f"{request} as {config}", verify(request, config, mesh)))
    return found


def sweep(
    name: str, module: str, pattern: str, rows: tuple[int, ...], count: int, seed: int
) -> list[tuple[str, Verdict]]:
    """`count` requests on a board, two configs each."""
    rng = random.Random(seed)
    found = getattr(import_module(f"ttt_hw.patterns.{module}"), pattern)
    with open_mesh(name, backend="mock") as mesh:
        return issue_some(found, [varied(rng, rows) for _ in range(count)], mesh, rng, 2)


def batched(rng: random.Random) -> BatchedMatmulRequest:
    """Scores or values of attention, of a prompt or of users with a cache."""
    head_dim, length = rng.choice([64, 128, 256]), rng.choice([128, 1024, 2048])
    decode = rng.random() < 0.4
    context = 1024 if decode else length
    scores = rng.random() < 0.5
    return BatchedMatmulRequest(
        name="mm",
        inputs=("a", "b"),
        batch=rng.choice([1, 8, 32]) if decode else 1,
        heads=rng.choice([1, 2, 8]),
        m=rng.choice([1, 32]) if decode else length,
        k=head_dim if scores else context,
        n=context if scores else head_dim,
        transpose_b=scores,
        a_dtype=rng.choice(["bfloat16", "bfloat8_b"]),
        b_dtype=rng.choice(["bfloat16", "bfloat8_b"]),
        kernel=rng.choice([ComputeKernel(fidelity="hifi4"), ComputeKernel(fp32_accumulate=False)]),
    )


def sweep_batched(name: str, count: int, seed: int) -> list[tuple[str, Verdict]]:
    from ttt_hw.patterns.batched_matmul import BatchedMatmul

    rng = random.Random(seed)
    with open_mesh(name, backend="mock") as mesh:
        return issue_some(BatchedMatmul, [batched(rng) for _ in range(count)], mesh, rng, 2)


def rings(name: str, shapes: list[tuple[int, int]]) -> list[tuple[str, Verdict]]:
    from ttt_hw.patterns.ring_matmul import RingMatmul

    with open_mesh(name, backend="mock") as mesh:
        return issue_some(RingMatmul, [matmul(32, k, n) for k, n in shapes], mesh, random.Random(0), 3)


def gathered(name: str) -> list[tuple[str, Verdict]]:
    """On all chips of a board in a line whose ends meet."""
    from ttt_hw.patterns.gather_matmul import GatherMatmul, GatherMatmulRequest

    with open_mesh(name, backend="mock") as mesh:
        chips = board_of(mesh).num_chips
        requests = [
            GatherMatmulRequest(name="mm", m=m, k=k, n=n, chips=chips, weight_dtype="bfloat8_b")
            for m, k, n in ((32, 2048, 256), (128, 8192, 1280), (1024, 4096, 3584))
        ]
        return issue_some(GatherMatmul, requests, mesh, random.Random(0), 2)
