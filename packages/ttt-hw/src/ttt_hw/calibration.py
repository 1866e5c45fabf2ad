"""Published and measured times of operations, and what the estimate says of the same.

A file of measurements is JSON: `schema` 1 and `ops`, a list of objects. Each has an `id`, an `op`, a `device` as in the
catalogue, the measured time `us` of the kernel on one chip in µs, and a `source`; `grid` [x, y] where the chip had other
cores than the record; `bar` false, with a `note`, where the row is shown but not counted. Besides, by `op`:

matmul: `m`, `k`, `n`, `dtype` of all three tensors but for a `weight_dtype`, `fidelity`, `activations` l1 or dram.
prefill_attention: `tokens`, `num_heads`, `num_kv_heads`, `head_dim`, `kv_dtype`, `q_chunk`, `k_chunk`, `fidelity`, `fp32`.
decode_attention: `users`, `context`, `num_heads`, `num_kv_heads`, `head_dim`, `kv_dtype`.
all_gather, reduce_scatter, all_reduce: `chips`, `topology` linear or ring, `bytes` of the whole tensor in bfloat16, of each
chip's for all_reduce.
fused_all_reduce: `chips`, `topology`, `links`, `columns` of 32 rows on each chip, `dtype`, and `cores` [x, y] of the sum.
work: `work`, the fields of ttt_hw.estimate.Work, of an operation of a plan as `ttt measure` records it; `mesh` and `name`
besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from ttt_core import SpecError
from ttt_hw.catalogue import board
from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Estimate, Work, estimate
from ttt_hw.options import candidates_of, legal_options
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.bcast_matmul import BcastMatmul
from ttt_hw.patterns.collective import AllGather, AllReduce, ReduceScatter
from ttt_hw.patterns.decode_attention import DecodeAttention
from ttt_hw.patterns.flash_attention import FlashAttention
from ttt_hw.patterns.fused_all_reduce import FusedAllReduce
from ttt_hw.records import Board
from ttt_hw.requests import CollectiveRequest, DecodeAttentionRequest, MatmulRequest, PrefillAttentionRequest
from ttt_shard_dsl import TILE

__all__ = [
    "Measured",
    "board_of_row",
    "compare_ops",
    "errors_by_class",
    "median_error",
    "published_ops",
    "read_measurements",
    "work_of_row",
]

SCHEMA = 1
CLASSES = {
    "matmul": "matmul",
    "prefill_attention": "attention",
    "decode_attention": "attention",
    "all_gather": "collective",
    "reduce_scatter": "collective",
    "all_reduce": "collective",
    "fused_all_reduce": "collective",
    "work": "planned",
}
"""The class in which errors of an operation are reported."""
_COLLECTIVES: dict[str, type[Pattern[Any]]] = {
    "all_gather": AllGather,
    "reduce_scatter": ReduceScatter,
    "all_reduce": AllReduce,
}
_ROW = 2 * 4096  # bytes of a row of bfloat16 that collectives are published for, cut where the tensor is smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A measured time of an operation in µs, and the estimate."""

    row: Mapping[str, Any]
    work: Work
    estimate: Estimate

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def kind(self) -> str:
        return CLASSES[self.row["op"]]

    @property
    def us(self) -> float:
        return float(self.row["us"])

    @property
    def counts(self) -> bool:
        return bool(self.row.get("bar", True))

    @property
    def error(self) -> float:
        """Of the estimate, relative to what was measured."""
        return self.estimate.time_us / self.us - 1


def published_ops() -> dict[str, Any]:
    """The measurements that ttt comes with: times of operations that tt-metal's documents, tests and issues name."""
    return read_measurements(Path(str(files("ttt_hw").joinpath("published_ops.json"))))


def read_measurements(path: Path) -> dict[str, Any]:
    """Errors: SpecError for a file that is no JSON, or of another schema."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} is no file of measurements: {error}") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise SpecError(f"{path} has schema {schema!r}; this version reads {SCHEMA}.")
    return dict(found)


def compare_ops(rows: Iterable[Mapping[str, Any]]) -> list[Measured]:
    """Each row with its estimate. Errors: SpecError for a row that lacks something, or an operation that is not known."""
    found = []
    for row in rows:
        try:
            record = board_of_row(row)
            work = work_of_row(row, record)
        except (KeyError, TypeError) as error:
            raise SpecError(
                f"row {row.get('id')!r} of the measurements: {error.args[0]} is missing or unknown."
            ) from error
        found.append(Measured(row=row, work=work, estimate=estimate(work, record)))
    return found


def errors_by_class(found: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The measurements that count, by kind."""
    by_class: dict[str, list[Measured]] = {}
    for each in found:
        if each.counts:
            by_class.setdefault(each.kind, []).append(each)
    return by_class


def median_error(errors: Sequence[float]) -> float:
    """The median of what the errors are, whatever their sign."""
    return median(abs(error) for error in errors)


def board_of_row(row: Mapping[str, Any]) -> Board:
    """The record of the row's device, with the row's cores and, for a collective, a line or ring of its chips."""
    record = board(row["device"])
    if "grid" in row:
        x, y = row["grid"]
        record = replace(record, chip=replace(record.chip, grid=(x, y)))
    return replace(record, mesh=(1, row["chips"])) if "chips" in row else record


def work_of_row(row: Mapping[str, Any], record: Board) -> Work:
    """What the operation of a row does, with the config that was measured as far as the row says it, else the fastest."""
    op = row["op"]
    if op == "work":
        return Work(**row["work"])
    if op == "matmul":
        return _matmul(row, record)
    if op == "prefill_attention":
        return _prefill_attention(row, record)
    if op == "decode_attention":
        return _decode_attention(row, record)
    if op == "fused_all_reduce":
        return _fused_all_reduce(row, record)
    return _collective(row, record)


def _matmul(row: Mapping[str, Any], record: Board) -> Work:
    """A 2d multicast matmul, as the published ones are; activations in L1 are sharded in blocks."""
    dtype = row["dtype"]
    request = MatmulRequest(
        name="matmul",
        m=row["m"],
        k=row["k"],
        n=row["n"],
        input_dtype=dtype,
        weight_dtype=row.get("weight_dtype", dtype),
        output_dtype=dtype,
        kernel=ComputeKernel(fidelity=row["fidelity"], fp32_accumulate=False),
    )
    configs = tuple(
        config
        for config in candidates_of(request, record, BcastMatmul)
        if isinstance(config, BcastMatmul) and config.kind == "2d" and not config.transpose
    )
    options = legal_options(request, record, configs)
    if row["activations"] == "l1":
        options = (
            tuple(each for each in options if " in l1" in each.reads[0] and " in l1" in each.results[0]) or options
        )
    else:
        options = (
            tuple(each for each in options if "@" not in each.reads[0] and " in dram" in each.results[0]) or options
        )
    best = options[0]
    return best.pattern.work(request, record, best.reads)


def _prefill_attention(row: Mapping[str, Any], record: Board) -> Work:
    request = PrefillAttentionRequest(
        name="attention",
        inputs=("q", "k", "v"),
        kernel=ComputeKernel(fidelity=row["fidelity"], fp32_accumulate=row["fp32"]),
        **{name: row[name] for name in ("tokens", "num_heads", "num_kv_heads", "head_dim", "kv_dtype")},
    )
    config = FlashAttention(grid=record.grid, q_chunk=row["q_chunk"], k_chunk=row["k_chunk"])
    return config.work(request, record, [layouts[0] for layouts in config.accepts(request, record)])


def _decode_attention(row: Mapping[str, Any], record: Board) -> Work:
    request = DecodeAttentionRequest(
        name="attention",
        inputs=("q", "k", "v", "positions"),
        **{name: row[name] for name in ("users", "context", "num_heads", "num_kv_heads", "head_dim", "kv_dtype")},
    )
    best = legal_options(request, record, tuple(candidates_of(request, record, DecodeAttention)))[0]
    return best.pattern.work(request, record, best.reads)


def _collective(row: Mapping[str, Any], record: Board) -> Work:
    pattern, chips, kind = _COLLECTIVES[row["op"]], row["chips"], row["op"]
    own = row["bytes"] // chips if kind == "all_gather" else row["bytes"]
    columns = min(own // TILE, _ROW) // 2
    request = CollectiveRequest(
        name="collective", inputs=("x",), kind=kind, shape=(1, 1, own // (2 * columns), columns), chips=chips
    )
    config = pattern(num_links=record.links, topology=row["topology"], memory="dram")  # type: ignore[call-arg]
    return config.work(request, record, [layouts[0] for layouts in config.accepts(request, record)])


def _fused_all_reduce(row: Mapping[str, Any], record: Board) -> Work:
    request = CollectiveRequest(
        name="collective",
        inputs=("x",),
        kind="all_reduce",
        shape=(1, 1, TILE, row["columns"]),
        chips=row["chips"],
        dtype=row["dtype"],
    )
    x, y = row["cores"]
    return FusedAllReduce(num_links=row["links"], grid=(x, y), topology=row["topology"]).work(request, record, ())
