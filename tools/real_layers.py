"""Does ttnn accept a layer of a real model on a board, in both modes? `nox -s layers`.

A layer is built from its spec alone, by blocks with plans of their own: weights have shapes and no values, which is all that ttnn
looks at. Prefill of 128 and 1024 tokens, decode of 1 and 32 users, every operation validated on a mock of the board; the
first layer of each kind that a model has. A process has one board.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "packages/ttt-factory/tests/configs"
DENSE = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "gemma-2-9b")
CASES = {"t3k": (*DENSE, "mixtral-8x7b", "gpt-oss-20b", "deepseek-v3"), "p150x8": DENSE, "tg": DENSE}
PROMPTS, USERS, CONTEXT = (128, 1024), (1, 32), 1024


def layers(model: str) -> list[Any]:
    """The first of each kind. The shapes of gpt-oss-20b are those of its config.json at Hugging Face."""
    from ttt_attention import AttentionSpec, RopeSpec
    from ttt_factory.huggingface import read_json, spec_of_config
    from ttt_ffn import FFNSpec, MoESpec
    from ttt_norm import NormSpec
    from ttt_patterns import LayerSpec

    if model != "gpt-oss-20b":
        return list(dict.fromkeys(spec_of_config(read_json(CONFIGS / f"{model}.json")).layers))
    hidden = 2880
    full = AttentionSpec(
        hidden_dim=hidden, num_heads=64, num_kv_heads=8, head_dim=64, max_context=131072, rope=RopeSpec(theta=150000.0),
        qkv_bias=True, output_bias=True, sinks=True,
    )  # fmt: skip
    expert = FFNSpec(
        hidden_dim=hidden, intermediate_dim=2880, bias=True, limit=7.0, steepness=1.702, up_offset=1.0
    )  # fmt: skip
    ffn, norm = MoESpec(experts=32, active=4, ffn=expert, router_bias=True), NormSpec(dim=hidden, eps=1e-5)
    return [
        LayerSpec(attention=attention, ffn=ffn, attention_norm=norm, ffn_norm=norm)
        for attention in (replace(full, window=128), full)
    ]


def build(spec: Any, mesh: Any) -> Any:
    """A DecoderLayer without weights."""
    from ttt_attention import GroupedQueryAttention, LatentAttentionSpec, MultiLatentAttention
    from ttt_ffn import MLP, GatedMLP, MoE, MoESpec
    from ttt_norm import LayerNorm, NormType, RMSNorm
    from ttt_patterns import DecoderLayer

    names = ("attention_norm", "ffn_norm", "attention_output_norm", "ffn_output_norm")
    norms = {name: norm for name in names if (norm := getattr(spec, name)) is not None}
    kind: Any = MoE if isinstance(spec.ffn, MoESpec) else GatedMLP if spec.ffn.gated else MLP
    attention: Any = MultiLatentAttention if isinstance(spec.attention, LatentAttentionSpec) else GroupedQueryAttention
    blocks: dict[str, Any] = {
        name: (RMSNorm if norm.kind is NormType.RMS else LayerNorm)(norm, device=mesh) for name, norm in norms.items()
    }
    return DecoderLayer(
        attention=attention(spec.attention, device=mesh, hw_mode="performance"),
        ffn=kind(spec.ffn, device=mesh, hw_mode="performance"),
        **blocks,
        residual_pattern=spec.residual,
        multiplier=spec.multiplier,
    )


def check(model: str, mesh: Any, prompts: tuple[int, ...] = PROMPTS, users: tuple[int, ...] = USERS) -> Iterator[str]:
    """A line for each forward that ttnn accepted. Errors: those of a plan or of ttnn."""
    import numpy as np
    import ttnn

    from ttt_hw import record_operations, upload

    def empty(rows: int, width: int) -> Any:
        return ttnn.empty([1, 1, rows, width], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)

    def indices(values: Any) -> Any:
        return upload(np.asarray(values, np.int32), mesh, dtype="int32", layout="row_major")

    for number, spec in enumerate(layers(model)):
        layer, width = build(spec, mesh), spec.attention.hidden_dim
        for tokens in prompts:
            with record_operations(mesh) as recorder:
                layer.prefill_forward(empty(tokens, width), cache=None, positions=indices([range(tokens)]))
            yield f"{model}, kind {number}, prefill {tokens}: {len(recorder.operations)} operations"
        for count in users:
            cache = layer.allocate_cache(users=count, context=CONTEXT)
            with record_operations(mesh) as recorder:
                layer.decode_forward(empty(count, width), cache=cache, positions=indices([0] * count))
            yield f"{model}, kind {number}, decode {count}: {len(recorder.operations)} operations"


def work(board: str, models: list[str]) -> int:
    from ttt_core import TttError
    from ttt_hw import open_mesh

    failed = 0
    with open_mesh(board, backend="mock") as mesh:
        for model in models:
            start = time.perf_counter()
            try:
                for line in check(model, mesh):
                    print(f"{board}: {line}", flush=True)
            except (TttError, RuntimeError) as error:
                failed = 1
                print(f"{board}: {model} REFUSED: {str(error)[:600]}", flush=True)
            print(f"{board}: {model} {time.perf_counter() - start:.0f} s", flush=True)
            mesh.clear_program_cache()  # programs keep semaphores in L1
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", nargs="+", default=list(CASES), choices=CASES, metavar="NAME")
    parser.add_argument("--models", nargs="+", metavar="NAME")
    parser.add_argument("--worker", metavar="BOARD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    def chosen(board: str) -> list[str]:
        return [model for model in CASES[board] if arguments.models is None or model in arguments.models]

    if arguments.worker:
        return work(arguments.worker, chosen(arguments.worker))

    def run(board: str) -> int:
        command = [sys.executable, "-m", "tools.real_layers", "--worker", board, "--models", *chosen(board)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOGURU_LEVEL": "ERROR"}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return int(any(list(pool.map(run, arguments.boards))))


if __name__ == "__main__":
    sys.exit(main())
