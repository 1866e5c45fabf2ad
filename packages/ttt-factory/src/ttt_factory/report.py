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
    "SDPA": "FlashAttention",
}


def print_report(report: CheckReport) -> None:
    console = Console(highlight=False)
    for mode in report.modes:
        console.print(_operations(mode))
    demand = report.demand
    console.print(
        f"{report.device}, {report.chips} chip{'s' * (report.chips > 1)}; {report.num_layers} layers, "
        f"{report.distinct_layers} distinct; batch {demand.users}, context {demand.context}, "
        f"weights {short_name(demand.weight_dtype)}, KV cache {short_name(demand.cache_dtype)}",
        soft_wrap=True,
    )
    console.print(_memory(report))
    operations = sum(len(mode.operations) for mode in report.modes)
    console.print(
        f"legal: {_verdict(report.legal)} ({operations} operations accepted)" if report.legal else "legal: [red]no[/]"
    )
    for mode in report.modes:
        if mode.refusal is not None:
            console.print(f"  {mode.mode}: {mode.refusal}", soft_wrap=True)
    console.print(f"fits: {_verdict(report.fits)}{_shortage(report)}", soft_wrap=True)


def _verdict(holds: bool) -> str:
    return "[green]yes[/]" if holds else "[red]no[/]"


def _shortage(report: CheckReport) -> str:
    if report.dram.fits:
        return ""
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
