"""Does every variant of every block compute what it should, on every board? `nox -s conformance`.

Variants (lists named VARIANTS in packages/*/tests/*_variants.py) × n150, n300, t3k, tg, p150, p150x4 × prefill of 33, 128 and
1024 rows and decode of 1, 8 and 32 users: values on every chip against torch or transformers, in float32 and rounded, and
every operation accepted by ttnn; and each feature, switched off, must be missed. A process has one board, and there are as
many as cores. Finished variants are kept beside the sources' fingerprint, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttt_testing.variants import Variant

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / ".nox/conformance"
BOARDS = ("tg", "t3k", "p150x4", "n300", "p150", "n150")  # the ones that take longest first
WIDTH = 170  # of the table in a file
STATUS = ("passed", "failed", "refused", "error")


def files() -> list[Path]:
    """Those that list variants."""
    found = ROOT.glob("packages/*/tests/*_variants.py")
    return sorted(file for file in found if not file.name.startswith("test_"))


def variants() -> list[Variant]:
    """Of all packages. Errors: ValueError for a name that two have."""
    found: list[Variant] = []
    for file in files():
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        found += module.VARIANTS
    names = [variant.name for variant in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"variants have the same name: {', '.join(sorted(twice))}. Give each its own.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variants", nargs="+", default=[], metavar="TEXT", help="only those whose name has one of these"
    )
    parser.add_argument("--boards", nargs="+", default=BOARDS, choices=BOARDS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="forget finished variants")
    parser.add_argument("--worker", metavar="BOARD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker, arguments.variants)
    chosen = named(variants(), arguments.variants)
    folder = RESULTS / fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.fresh:
        for board in arguments.boards:
            (folder / f"{board}.jsonl").unlink(missing_ok=True)
    started = time.monotonic()
    names = [variant.name for variant in chosen]
    failed = _run(arguments.boards, names, folder, arguments.jobs)
    found = {board: [each for each in _read(folder, board) if each["variant"] in names] for board in arguments.boards}
    return report(chosen, found, time.monotonic() - started) or int(failed)


def named(known: list[Variant], texts: Iterable[str]) -> list[Variant]:
    """Those whose name has one of the texts, or is one that is preceded by `=`; all if there are none."""
    wanted = list(texts)
    return [
        variant
        for variant in known
        if not wanted or any(text == f"={variant.name}" or text in variant.name for text in wanted)
    ]


def _run(boards: Iterable[str], names: list[str], folder: Path, jobs: int) -> bool:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    boards = list(boards)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failed, lock = False, Lock()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("variants x boards", total=len(boards) * len(names))

        def run(board: str) -> None:
            nonlocal failed
            done = {each["variant"] for each in _read(folder, board) if each.get("last")}
            left = [name for name in names if name not in done]
            progress.advance(task, len(names) - len(left))
            if not left:
                return
            command = [sys.executable, "-m", "tools.conformance", "--worker", board]
            command += ["--variants", *(f"={name}" for name in left)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOGURU_LEVEL": "ERROR"}
            with (
                (folder / f"{board}.jsonl").open("a", encoding="utf-8") as results,
                (folder / f"{board}.log").open("w", encoding="utf-8") as log,
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
                ) as process,
            ):
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("{"):
                        results.write(line)
                        results.flush()
                        if json.loads(line).get("last"):
                            progress.advance(task)
            if process.returncode:
                with lock:
                    failed = True
                    said = (folder / f"{board}.log").read_text(encoding="utf-8")
                    progress.console.print(f"{board} ended with {process.returncode}:\n{said[-3000:]}")

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(run, boards))
    return failed


def _read(folder: Path, board: str) -> list[dict[str, Any]]:
    """The cases of variants that were finished."""
    file = folder / f"{board}.jsonl"
    cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    done = {case["variant"] for case in cases if case["last"]}
    return list({(case["variant"], case["case"]): case for case in cases if case["variant"] in done}.values())


def fingerprint() -> str:
    """Of the sources that a result depends on: all packages, the variants, this file."""
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *files(), Path(__file__)]
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def work(board: str, names: list[str]) -> int:
    """Variants on one open mesh; a line of JSON for each case."""
    from ttt_hw import board_of, open_mesh
    from ttt_testing.variants import check_variant

    chosen = named(variants(), names)
    with open_mesh(board, backend="mock") as mesh:
        rows = board_of(mesh).mesh[0]
        for variant in chosen:
            start = time.perf_counter()
            cases = [] if variant.one_axis and rows > 1 else [case.to_json() for case in check_variant(variant, mesh)]
            cases = cases or [{"variant": variant.name, "feature": variant.feature, "case": "", "status": "one axis"}]
            seconds = time.perf_counter() - start
            for number, case in enumerate(cases):
                last = number == len(cases) - 1
                print(json.dumps({**case, "board": board, "seconds": seconds / len(cases), "last": last}), flush=True)
            mesh.clear_program_cache()  # programs keep semaphores in L1
    return 0


def report(chosen: list[Variant], found: dict[str, list[dict[str, Any]]], seconds: float) -> int:
    """Print a line for each variant, the boards below, then what is not as it should be; 1 if anything is not."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table = Table(title="conformance", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("variant", "feature"):
        table.add_column(name, no_wrap=True)
    for name in ("passed", "difference", "pcc bf16", "pcc perf.", "switched off"):
        table.add_column(name, justify="right", no_wrap=True)
    every = [case for cases in found.values() for case in cases]
    wrong = 0
    for variant in chosen:
        cases = [case for case in every if case["variant"] == variant.name and case["case"]]
        values = [case for case in cases if case["case"] != "switched off"]
        switched = [case for case in cases if case["case"] == "switched off"]
        off = (
            ""
            if variant.without is None or not switched
            else ("missed" if all(map(_passed, switched)) else "NOT MISSED")
        )
        bad = sum(not _passed(case) for case in cases)
        wrong += bad
        table.add_row(
            variant.name,
            variant.feature,
            f"{sum(map(_passed, values))} of {len(values)}" + (" !" if bad else ""),
            _extreme(max, (case.get("difference") for case in values), "{:.2g}"),
            *(
                _extreme(min, ((case.get("pcc") or {}).get(name) for case in values), "{:.5f}")
                for name in ("bfloat16", "performance")
            ),
            off,
        )
    console.print(table)
    for board, cases in found.items():
        done = {case["variant"] for case in cases}
        missing = f", {len(chosen) - len(done)} variants without a result" if len(done) < len(chosen) else ""
        wrong += len(chosen) - len(done)
        counts = ", ".join(f"{n} {s}" for s in STATUS if (n := sum(case["status"] == s for case in cases)))
        ops = sum(case.get("operations", 0) for case in cases)
        spent = sum(case["seconds"] for case in cases)
        console.print(f"{board}: {counts}{missing}; {ops:,} operations accepted, {spent:,.0f} s")
    for case in [case for case in every if not _passed(case)][:60]:
        console.print(
            f"{case['board']} {case['variant']} {case['case']} {case['status']}: {case['detail'][:500]}", soft_wrap=True
        )
    console.print(
        f"{len(chosen)} variants, {len({v.feature for v in chosen})} features, {wrong} not as they should be; {seconds:,.0f} s"
    )
    return int(wrong > 0)


def _passed(case: dict[str, Any]) -> bool:
    return case["status"] in ("passed", "one axis")


def _extreme(choose: Any, numbers: Iterable[float | None], form: str) -> str:
    known = [number for number in numbers if number is not None]
    return form.format(choose(known)) if known else ""


if __name__ == "__main__":
    sys.exit(main())
