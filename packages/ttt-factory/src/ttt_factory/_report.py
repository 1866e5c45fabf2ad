"""What `ttt check` found, as people like to read it."""

from __future__ import annotations

from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttt_factory.check import CheckReport, ModeCheck
from ttt_hw import OperationRecord, short_name
from ttt_shard_dsl import SHORT_NAMES

GB = 10**9
_SHORT = {name: short for short, name in SHORT_NAMES.items()}
CONFIGS = {  # ttnn's program configs by the names of their patterns
    "MatmulMultiCoreReuseMultiCast": "BcastMatmul 2d",
    "MatmulMultiCoreReuseMultiCast1D": "BcastMatmul 1d",
    "MatmulMultiCoreReuseMultiCastDRAMSharded": "DramShardedMatmul",
    "MatmulMultiCoreReuse": "BatchedMatmul",
    "MinimalMatmulConfig": "MinimalMatmul",
    "LayerNormShardedMultiCore": "ShardedNorm",
    "SDPA": "FlashAttention",
}


def print_report(report: CheckReport) -> None:
    console = Console(highlight=False)
    for mode in report.modes:
        console.print(_operations(mode))
    demand = report.demand
    console.print(
        f"{report.device}, {_chips(report.mesh[0] * report.mesh[1], report.replicas)}; {report.num_layers} layers, "
        f"{report.distinct_layers} distinct; "
        f"batch {demand.users}, context {demand.context}, weights {short_name(demand.weight_dtype)}, "
        f"KV cache {short_name(demand.cache_dtype)}",
        soft_wrap=True,
    )
    console.print(_memory(report))
    console.print(_legality(report), soft_wrap=True)
    for mode in report.modes:
        if mode.refusal is not None:
            console.print(f"  {mode.mode}: {mode.refusal}", soft_wrap=True)
    console.print(f"fits: {_verdict(report.fits)}{_shortage(report)}", soft_wrap=True)


def _chips(chips: int, replicas: int) -> str:
    if chips == 1:
        return "1 chip"
    copies = f", {replicas} rows of equal copies" if replicas > 1 else ""
    return f"{chips} chips, the model split over {chips // replicas}{copies}"


def _legality(report: CheckReport) -> str:
    accepted = sum(operation.error is None for mode in report.modes for operation in mode.operations)
    if report.legal is None:
        return f"legal: [yellow]not known[/] ({accepted} operations accepted before memory ran out)"
    return f"legal: {_verdict(report.legal)}" + (f" ({accepted} operations accepted)" if report.legal else "")


def _verdict(holds: bool) -> str:
    return "[green]yes[/]" if holds else "[red]no[/]"


def _shortage(report: CheckReport) -> str:
    if report.dram.fits:
        return ""
    if any(mode.refusal is not None for mode in report.modes):
        return (
            f", at least {report.dram.missing:,} bytes of DRAM too many on each chip: memory ran out before all activations "
            "were counted. Shorten --prefill, --context or --batch until they are; then changes that help can be named."
        )
    changes = "; ".join(report.changes) or "no single change of precision, batch, context or board makes it fit"
    return f", {report.dram.missing:,} bytes of DRAM too many on each chip. What would help: {changes}."


def _operations(mode: ModeCheck) -> Table:
    """Equal operations in a row are one line with a count."""
    table = Table(title=mode.mode, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("operation and its inputs", overflow="fold")
    table.add_column("config", no_wrap=True)
    table.add_column("cores", justify="right", no_wrap=True)
    table.add_column("L1 bytes", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for operation, equal in groupby(mode.operations):
        count = len(list(equal))
        table.add_row(
            Text(operation.name.rpartition(".")[2] + (f" ×{count}" if count > 1 else "")).append(
                "\n  " + ", ".join(_short(tensor) for tensor in operation.inputs[:2]), "dim"
            ),
            CONFIGS.get(operation.config, operation.config),
            f"{operation.cores}" if operation.cores else "",
            f"{operation.l1_bytes:,}" if operation.l1_bytes else "",
            _judgement(operation),
        )
    return table


def _short(tensor: str) -> str:
    """ "[1, 1, 32, 4096] bfloat16" as "32×4096 bf16"."""
    shape, _, dtype = tensor.partition("] ")
    sizes = shape.strip("[").split(", ")
    while len(sizes) > 2 and sizes[0] == "1":
        sizes.pop(0)
    return f"{'×'.join(sizes)} {_SHORT.get(dtype, dtype)}"


def _judgement(operation: OperationRecord) -> Text:
    if operation.error is None:
        return Text("ok", "green")
    return Text("illegal", "red") if operation.fits else Text("does not fit", "red")


def _memory(report: CheckReport) -> Table:
    dram = report.dram
    table = Table(title="DRAM per chip", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("bytes", justify="right")
    table.add_column("GB", justify="right")
    table.add_column("of capacity", justify="right")
    rows = {"weights": dram.weights, "KV cache": dram.cache, "activations": dram.activations, "total": dram.total}
    for name, size in rows.items():
        table.add_row(name, f"{size:,}", f"{size / GB:.2f}", f"{100 * size / dram.capacity:.1f} %")
    table.add_row("capacity", f"{dram.capacity:,}", f"{dram.capacity / GB:.2f}", "")
    return table
