"""What a block's forward costs on the host beside the same ttnn calls written by hand, µs, in eager fast mode on a mock device.

A forward is recorded once, and written down as a method of the same arguments, as straight lines: each ttnn call with its
arguments, and each tensor given back where the forward does. Both are then called alike, in turns, and the least of each counts.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import ttnn

from ttt_attention import MultiHeadAttention, MultiHeadCrossAttention, MultiLatentAttention
from ttt_embedding import PositionEmbedding
from ttt_factory import ModelFactory, spec_of_config
from ttt_factory.huggingface import read_json
from ttt_ffn import MLP, MoE
from ttt_hw import open_mesh, upload
from ttt_norm import LayerNorm
from ttt_patterns import CrossAttentionLayer, EncoderLayer

CONFIGS = Path(__file__).parent.parent / "tests" / "configs"
MODELS = (
    "llama-3.2-1b",
    "gpt-j-6b",
    "gemma-2-9b",
)  # RMSNorm, SwiGLU; LayerNorm, MLP, biases; soft-caps, four norms, GeGLU
USERS, TOKENS, CONTEXT = 32, 128, 256
LIMIT = 1.05
SECONDS = 0.3  # at least, of each comparison: the least of a forward of 7 µs takes many

Forward = Callable[..., Any]
Arguments = tuple[Any, dict[str, Any]]  # x, and what else a forward is given, by name
Forwards = dict[str, tuple[Forward, Arguments]]  # by mode


class Tape:
    """The calls of a forward as the lines of a function."""

    def __init__(self, x: Any, others: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self._held: list[Any] = []
        self._parameters = ", ".join(["self", "x", *(["*", *others] if others else [])])
        self._names: dict[int, str] = {id(each): name for name, each in {"x": x, **others}.items()}

    def call(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        given = [self._text(each) for each in args] + [f"{name}={self._text(each)}" for name, each in kwargs.items()]
        many = isinstance(result, (list, tuple))
        targets = ", ".join(self._made(each) for each in result) if many else self._made(result)
        self.lines.append(f"{targets} = {self._constant(operation)}({', '.join(given)})")

    def free(self, tensor: Any) -> None:
        self.lines.append(f"{self._text(tensor)}.deallocate(False)")

    def forward(self, result: Any) -> Forward:
        body = "\n    ".join([*self.lines, f"return {self._text(result)}"])
        used = [*self.constants]
        source = f"def make({', '.join(used)}):\n  def forward({self._parameters}):\n    {body}\n  return forward"
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        return MethodType(namespace["make"](*self.constants.values()), self)

    def _made(self, tensor: Any) -> str:
        name = self._names[id(tensor)] = f"t{len(self._held)}"
        self._held.append(tensor)  # so that no other tensor has its id
        return name

    def _text(self, value: Any) -> str:
        if isinstance(value, ttnn.Tensor) and id(value) in self._names:
            return self._names[id(value)]
        if isinstance(value, list) and any(isinstance(each, ttnn.Tensor) for each in value):
            return f"[{', '.join(self._text(each) for each in value)}]"
        return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else self._constant(value)

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name


@contextmanager
def recording(tape: Tape) -> Iterator[None]:
    operations, tensors = ttnn.decorators.FastOperation, ttnn.Tensor
    run, deallocate, depth = operations.__call__, tensors.deallocate, 0

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            result = run(operation, *args, **kwargs)
        finally:
            depth -= 1
        if not depth:
            tape.call(operation, args, kwargs, result)
        return result

    def free(tensor: Any, force: bool = True) -> None:
        tape.free(tensor)
        deallocate(tensor, force)

    operations.__call__, tensors.deallocate = call, free
    try:
        yield
    finally:
        operations.__call__, tensors.deallocate = run, deallocate


def by_hand(forward: Forward, x: Any, others: dict[str, Any]) -> Forward:
    tape = Tape(x, others)
    with recording(tape):
        result = forward(x, **others)
    return tape.forward(result)


def compare(forward: Forward, given: Arguments, rounds: int) -> tuple[float, float]:
    """The least of each in µs, in turns of five, for so many rounds and so long."""
    x, others = given
    for _ in range(4):
        forward(x, **others)
    hand = by_hand(forward, x, others)
    best = {"block": float("inf"), "hand": float("inf")}
    gc.collect()
    gc.disable()
    until = time.perf_counter() + SECONDS
    done = 0
    while done < rounds or time.perf_counter() < until:
        done += 1
        for name, each in (("block", forward), ("hand", hand)):
            for _ in range(5):
                start = time.perf_counter_ns()
                result = each(x, **others)
                took = (time.perf_counter_ns() - start) / 1000
                best[name] = min(best[name], took)
                del result
    gc.enable()
    return best["block"], best["hand"]


def blocks(model: Any, mesh: Any) -> Iterator[tuple[str, Forwards]]:
    """Each block of a model with plans of its own, and the model's layer, which is planned as a whole."""
    (layer,) = model.layers
    cache = model.allocate_cache(users=USERS, context=CONTEXT)[0]
    rows = {"prefill": TOKENS, "decode": USERS}
    positions = {
        "prefill": upload(np.arange(TOKENS, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major"),
        "decode": upload(np.zeros(USERS, np.int32), mesh, dtype="int32", layout="row_major"),
    }
    ids = {
        mode: upload(np.zeros((1, rows[mode]), np.uint32), mesh, dtype="uint32", layout="row_major") for mode in rows
    }
    memory = {"prefill": ttnn.DRAM_MEMORY_CONFIG, "decode": ttnn.L1_MEMORY_CONFIG}
    hidden = {
        mode: ttnn.empty(
            [1, 1, rows[mode], layer.ffn.spec.hidden_dim], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, memory[mode]
        )
        for mode in rows
    }
    entering = {mode: getattr(model.embedding, f"{mode}_forward")(ids[mode]) for mode in rows}

    def forwards(block: Any, given: dict[str, Any], *, cached: bool = False) -> tuple[str, Forwards]:
        def arguments(mode: str) -> Arguments:
            return given[mode], {"cache": cache, "positions": positions[mode]} if cached else {}

        return type(block).__name__, {mode: (getattr(block, f"{mode}_forward"), arguments(mode)) for mode in rows}

    def alone(block: Any) -> Any:
        return type(block)(block.spec, device=mesh)

    yield forwards(alone(model.embedding), ids)
    yield forwards(alone(layer.attention_norm), hidden)
    yield forwards(alone(layer.attention), hidden, cached=True)
    yield forwards(alone(layer.ffn), hidden)
    yield forwards(layer, entering, cached=True)
    yield forwards(alone(model.head), hidden)


def others(mesh: Any) -> Iterator[tuple[str, Forwards]]:
    """Blocks that none of those models has: of Whisper's medium size, of DeepSeek-V2-Lite's, experts of Mixtral's."""
    width, frames = 1024, 1504
    memory = ttnn.DRAM_MEMORY_CONFIG, ttnn.L1_MEMORY_CONFIG

    def given(dim: int) -> dict[str, Any]:
        rows = {"prefill": TOKENS, "decode": USERS}
        return {
            mode: ttnn.empty([1, 1, rows[mode], dim], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, place)
            for mode, place in zip(rows, memory, strict=True)
        }

    def forwards(block: Any, given: dict[str, Any], **more: dict[str, Any]) -> tuple[str, Forwards]:
        return type(block).__name__, {
            mode: (getattr(block, f"{mode}_forward"), (given[mode], more.get(mode, {}))) for mode in given
        }

    indices = {
        "prefill": upload(np.arange(TOKENS, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major"),
        "decode": upload(np.zeros(USERS, np.int32), mesh, dtype="int32", layout="row_major"),
    }
    ids = {
        mode: upload(np.zeros((1, rows), np.uint32), mesh, dtype="uint32", layout="row_major")
        for mode, rows in (("prefill", TOKENS), ("decode", USERS))
    }
    experts: Any = spec_of_config(read_json(CONFIGS / "mixtral-8x7b.json")).layers[0].ffn
    yield forwards(MoE(experts, device=mesh), given(experts.hidden_dim))

    latent = MultiLatentAttention(
        hidden_dim=2048, num_heads=16, kv_rank=512, nope_dim=128, rope_dim=64, v_head_dim=128, device=mesh
    )
    cache = latent.allocate_cache(users=USERS, context=CONTEXT)
    steps = {mode: {"cache": cache, "positions": indices[mode]} for mode in indices}
    yield forwards(latent, given(2048), **steps)

    yield forwards(PositionEmbedding(num_positions=CONTEXT, hidden_dim=width, device=mesh), ids)
    x = given(width)
    cross = MultiHeadCrossAttention(hidden_dim=width, num_heads=16, max_memory=frames, device=mesh)
    remembered = cross.allocate_cache(users=USERS, context=frames)
    seen = ttnn.empty([1, 1, frames, width], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, memory[0])
    both = {"prefill": {"memory": seen, "cache": remembered}, "decode": {"cache": remembered}}
    yield forwards(cross, x, **both)

    def parts(*, causal: bool = True) -> dict[str, Any]:
        heads = MultiHeadAttention(hidden_dim=width, num_heads=16, causal=causal, rope=None, device=mesh)
        ffn = MLP(hidden_dim=width, intermediate_dim=4 * width, device=mesh)
        norm = LayerNorm(dim=width, weight=True, bias=True, device=mesh)
        return {"attention": heads, "ffn": ffn, "norm": norm}

    encoder = EncoderLayer(**parts(causal=False), device=mesh)
    yield forwards(encoder, {"prefill": x["prefill"]}, prefill={"positions": indices["prefill"]})

    layer = CrossAttentionLayer(**parts(), cross_attention=cross, device=mesh)
    cache = layer.attention.allocate_cache(users=USERS, context=CONTEXT)  # type: ignore[attr-defined]
    steps = {mode: {"cache": cache, "memory_cache": remembered, "positions": indices[mode]} for mode in indices}
    steps["prefill"]["memory"] = seen
    yield forwards(layer, x, **steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    over = 0
    print(f"{'model':14} {'block':24} {'mode':8} {'block µs':>9} {'hand µs':>9} {'ratio':>7}")

    def measured(name: str, every: Iterator[tuple[str, Forwards]]) -> int:
        over = 0
        for block, modes in every:
            for mode, (forward, given) in modes.items():
                mine, hand = compare(forward, given, arguments.rounds)
                over += mine > LIMIT * hand
                print(f"{name:14} {block:24} {mode:8} {mine:9.1f} {hand:9.1f} {mine / hand:7.3f}", flush=True)
        return over

    with open_mesh("n150", backend="mock") as mesh:
        for name in arguments.models:
            spec = spec_of_config(read_json(CONFIGS / f"{name}.json"))
            model = ModelFactory.from_spec(replace(spec, layers=spec.layers[:1]), device=mesh)
            over += measured(name, blocks(model, mesh))
            del model
            gc.collect()
        over += measured("others", others(mesh))
        gc.collect()
    print(f"{over} above {LIMIT} ×")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
