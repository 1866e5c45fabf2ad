"""Is every operation of every model planned, and accepted by ttnn, on every board? `nox -s sweep`.

Fourteen models × ten boards × each tensor-parallel degree × decode of 1, 8 and 32 users × prefill of 128 to 8192 tokens.
Each cell is planned; then every operation of its distinct layers runs through ttnn on a mock of the board, with its
neighbours' tensors alive, and the memory that ttnn takes is compared with the plan's. A process has one board, and there are
as many as cores. Finished cells are kept beside the sources' fingerprint, so an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "packages/ttt-factory/tests/configs"
RESULTS = ROOT / ".nox/sweep"
MODELS = (
    "llama-3.2-1b",
    "llama-3.2-3b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "mistral-7b-v0.1",
    "qwen2.5-7b",
    "qwen2.5-72b",
    "qwen3-32b",
    "phi-3-mini-4k",
    "phi-4",
    "gemma-2-9b",
    "gpt-j-6b",
    "gpt-neox-20b",
    "mixtral-8x7b",
)
USERS = (1, 8, 32)
PROMPTS = (128, 1024, 2048, 8192)
ADAPTED = "ttnn fits it to the L1 that is free, where what earlier forwards keep lies otherwise than planned"
CACHE = 1024  # tokens of a user's cache in decode
PLANS = ((1, 128), (8, 1024), (32, 128), (1, 2048), (1, 8192))  # users and prompt: together all cells


def meshes() -> list[tuple[str, tuple[int, int]]]:
    """Each board with one shape for each tensor-parallel degree, which is its columns; the largest boards first."""
    from ttt_hw import BOARDS

    found = []
    for name, board in BOARDS.items():
        degrees: dict[int, tuple[int, int]] = {}
        for shape in board.shapes:
            degrees.setdefault(shape[1], shape)
        found += [(name, shape) for shape in degrees.values()]
    return sorted(found, key=lambda each: -each[1][0] * each[1][1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    parser.add_argument("--boards", nargs="+", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget finished cells")
    parser.add_argument("--worker", nargs=2, metavar=("BOARD", "MESH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker[0], arguments.worker[1], arguments.models)
    folder = RESULTS / fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    groups = [each for each in meshes() if arguments.boards is None or each[0] in arguments.boards]
    if arguments.fresh:
        for board, shape in groups:
            _file(folder, board, shape).unlink(missing_ok=True)
    failed = _run(groups, arguments.models, folder, arguments.jobs)
    cells = [cell for group in groups for cell in _read(_file(folder, *group)) if cell["model"] in arguments.models]
    return report(cells) or int(failed)


def _run(groups: list[tuple[str, tuple[int, int]]], models: list[str], folder: Path, jobs: int) -> bool:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = len(groups) * len(models)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failed, lock = False, Lock()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("boards x models", total=total)

        def run(group: tuple[str, tuple[int, int]]) -> None:
            nonlocal failed
            board, shape = group
            file = _file(folder, board, shape)
            done = {cell["model"] for cell in _read(file) if cell.get("last")}
            left = [model for model in models if model not in done]
            progress.advance(task, len(models) - len(left))
            if not left:
                return
            command = [
                sys.executable,
                "-m",
                "tools.sweep",
                "--worker",
                board,
                f"{shape[0]}x{shape[1]}",
                "--models",
                *left,
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOGURU_LEVEL": "ERROR"}
            with (
                file.open("a", encoding="utf-8") as results,
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                ) as process,
            ):
                assert process.stdout is not None
                assert process.stderr is not None
                for line in process.stdout:
                    if line.startswith("{"):
                        results.write(line)
                        results.flush()
                        if json.loads(line).get("last"):
                            progress.advance(task)
                said = process.stderr.read()
            if process.returncode:
                with lock:
                    failed = True
                    progress.console.print(
                        f"{board} {shape[0]}x{shape[1]} ended with {process.returncode}:\n{said[-3000:]}"
                    )

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(run, groups))
    return failed


def _file(folder: Path, board: str, shape: tuple[int, int]) -> Path:
    return folder / f"{board}-{shape[0]}x{shape[1]}.jsonl"


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def fingerprint() -> str:
    """Of the sources that a cell depends on: devices, layouts and patterns, specs and lists of operations, plans."""
    names = ("requests", "capped_requests", "listing", "heads", "spec", "huggingface", "plan")
    sources = [
        *ROOT.glob("packages/ttt-hw/src/**/*.py"),
        *ROOT.glob("packages/ttt-shard-dsl/src/**/*.py"),
        *(file for name in names for file in ROOT.glob(f"packages/*/src/*/{name}.py")),
        *CONFIGS.glob("*.json"),
        Path(__file__),
    ]
    digest = hashlib.sha256()
    for file in sorted(set(sources)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def work(board: str, mesh: str, models: list[str]) -> int:
    """All models on one open mesh; a line of JSON for each cell."""
    from ttt_hw import board_as, open_mesh

    record = board_as(board, mesh)
    for model in models:
        # Closed after each: a process runs one model, and programs and fused sums keep semaphores and buffers in L1.
        with open_mesh(board, shape=record.mesh, backend="mock") as opened:
            cells = list(check(model, opened))
        for number, cell in enumerate(cells):
            print(json.dumps({**cell, "last": number == len(cells) - 1}), flush=True)
    return 0


def check(model: str, mesh: Any, plans: tuple[tuple[int, int], ...] = PLANS) -> Iterator[dict[str, Any]]:
    """The cells of a model on an open mesh."""
    from ttt_core import TttError
    from ttt_factory.huggingface import read_json, spec_of_config
    from ttt_factory.plan import PlanDemand, plan_model
    from ttt_factory.requests import precision_of
    from ttt_hw import board_of, issue_plan

    board = board_of(mesh)
    spec = spec_of_config(read_json(CONFIGS / f"{model}.json"))
    about = {"model": model, "board": board.name, "mesh": list(board.mesh)}
    heads, kv_heads, chips = spec.layers[0].attention.num_heads, spec.layers[0].attention.num_kv_heads, board.mesh[1]
    if heads % chips or (kv_heads % chips and chips % kv_heads):
        yield {**about, "status": "does not split"}
        return
    seen: set[tuple[str, int]] = set()
    for users, prompt in plans:
        if prompt > spec.max_context:
            continue
        cells = {"prefill": prompt}
        if prompt <= CACHE:
            cells["decode"] = users
        cells = {mode: size for mode, size in cells.items() if (mode, size) not in seen}
        if not cells:
            continue
        seen |= set(cells.items())
        start = time.perf_counter()
        demand = PlanDemand(
            spec=spec,
            users=users,
            context=max(CACHE, prompt),
            prompt=prompt,
            precision={**precision_of(spec, "performance"), "kv_cache": "bfloat8_b"},
        )
        try:
            plan = plan_model(demand, board)
        except TttError as error:
            for mode, size in cells.items():
                yield {**about, "mode": mode, "size": size, "status": "no plan", "error": str(error)}
            continue
        planned = time.perf_counter() - start
        memory = {"total": plan.memory.total, "capacity": plan.memory.capacity}
        for mode, size in cells.items():
            cell = {**about, "mode": mode, "size": size, "memory": memory, "plan_s": planned}
            if not plan.fits:
                yield {**cell, "status": "exceeds DRAM"}
                continue
            start = time.perf_counter()
            blocks = [section.plans[mode] for section in plan.sections]
            verdicts = [verdict for block in blocks for verdict in issue_plan(block, mesh)]
            adapting = {op.request.name for block in blocks for op in block.ops if op.pattern.adapts}
            refused = [f"{verdict.op}: {verdict.error}" for verdict in verdicts if verdict.error is not None]
            inexact = [
                f"{verdict.op}: {verdict.buffers:,} predicted, {verdict.usage.buffers:,} taken; "
                + "; ".join((*verdict.moved, *(ADAPTED,) * (verdict.op in adapting)))
                for verdict in verdicts
                if verdict.usage is not None and not verdict.exact
            ]
            yield {
                **cell,
                "status": "refused" if refused else "accepted",
                "ops": len(verdicts),
                "refused": refused,
                "inexact": inexact,
                "issue_s": time.perf_counter() - start,
            }


def report(cells: list[dict[str, Any]]) -> int:
    """Print the table and what is not as it should be; 1 if a cell has no plan, or ttnn refused an operation."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title="sweep", title_justify="left", box=box.SIMPLE_HEAD)
    names = ("accepted", "exceeds DRAM", "refused", "no plan", "does not split")
    for name in ("board", "mesh", *names, "operations", "exact"):
        table.add_column(
            name, justify="left" if name in ("board", "mesh") else "right", no_wrap=name != "does not split"
        )
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["board"], "x".join(map(str, cell["mesh"]))), []).append(cell)
    for (board, mesh), group in [*groups.items(), (("all", ""), cells)]:
        status = Counter(cell["status"] for cell in group)
        ops = sum(cell.get("ops", 0) for cell in group)
        inexact = sum(len(cell.get("inexact", ())) for cell in group)
        share = f"{100 * (ops - inexact) / ops:.2f} %" if ops else ""
        table.add_row(board, mesh, *(f"{status[name]}" for name in names), f"{ops:,}", share)
    console.print(table)
    for title, key in (("no plan", "error"), ("refused", "refused"), ("inexact", "inexact")):
        found: Counter[str] = Counter()
        where: dict[str, str] = {}
        for cell in cells:
            values = cell.get(key, ())
            for text in [values] if isinstance(values, str) else values:
                found[text] += 1
                where.setdefault(
                    text, f"{cell['model']} on {cell['board']} {cell['mesh']} {cell['mode']} {cell['size']}"
                )
        if found:
            console.print(f"[bold]{title}[/]: {sum(found.values())}")
        for text, count in found.most_common(25):
            console.print(f"  {count} × {text[:400]} ({where[text]})", soft_wrap=True)
    over = [cell for cell in cells if cell["status"] == "exceeds DRAM"]
    if over:
        console.print(f"[bold]exceeds DRAM[/]: {len(over)} cells, by model and board (bytes per chip, the least):")
    least: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in over:
        place_key = (cell["model"], f"{cell['board']} {'x'.join(map(str, cell['mesh']))}")
        if place_key not in least or cell["memory"]["total"] < least[place_key]["memory"]["total"]:
            least[place_key] = cell
    for (model, place), cell in sorted(least.items()):
        memory = cell["memory"]
        console.print(f"  {model} on {place}: {memory['total']:,} of {memory['capacity']:,}", soft_wrap=True)
    planning = sum(
        {(c["model"], c["board"], str(c["mesh"]), c["plan_s"]): c["plan_s"] for c in cells if "plan_s" in c}.values()
    )
    issuing = sum(cell.get("issue_s", 0) for cell in cells)
    console.print(f"{planning:,.0f} s of planning, {issuing:,.0f} s of ttnn, on all cores together")
    return int(any(cell["status"] in ("refused", "no plan") for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
