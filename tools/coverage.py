"""Are the blocks of every configuration in models/ tested, on every board that it is for? `nox -s coverage` reports.

Each distinct block of a configuration runs in both modes on a mock of each board: the tiny model's with values, the others'
with shapes alone. A process has one board; what all have tested is merged in one file.
What each block takes, by the plan's estimate and by the mock's accounting, is held to the contract in its model's folder.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tools.workspace import ROOT

BLOCKS = {
    "AttentionSpec": ("attention.GroupedQueryAttention",),
    "LatentAttentionSpec": ("attention.MultiLatentAttention",),
    "FFNSpec": ("ffn.SwiGLU", "ffn.GatedMLP"),
    "NormSpec": ("norm.RMSNorm",),
    "EmbeddingSpec": ("embedding.TokenEmbedding",),
    "HeadSpec": ("embedding.LMHead",),
}
"""The blocks that compute each kind of spec in models/: one of them must be tested."""

GROWTH = 0.1
"""How much more than its contract a block may take of time, DRAM or L1."""
AGAIN = "If a block is to take more than its contract says, `nox -s coverage -- --record` writes the contracts anew: review them."


@dataclass(frozen=True, kw_only=True)
class Used:
    """A configuration of models/: the specs that it asks for, how to build it, and on which boards it runs."""

    name: str
    specs: tuple[Any, ...]
    build: Callable[[Any], Any]
    boards: tuple[str, ...]
    values: bool
    contract: Path
    """What its blocks took of each board when that was recorded, in the model's folder."""


class _NoWeights(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        from ttt_weights import NoValues

        return NoValues(name)


def used() -> list[Used]:
    """Every configuration of every folder of models/. Errors: SystemExit for a folder that has none that is known here."""
    found: list[Used] = []
    for folder in sorted(path.parent for path in ROOT.glob("models/*/pyproject.toml")):
        mine = [*_checkpoints(folder), *_written_out(folder)]
        if not mine:
            raise SystemExit(
                f"{folder.relative_to(ROOT)} has no configuration that tools/coverage.py finds: neither a checkpoint/config.json "
                "nor a public instance of a config class in its package. Say there what it has."
            )
        found += mine
    return found


def _checkpoints(folder: Path) -> Iterator[Used]:
    """A checkpoint is small enough to compute with; its heads are for one chip."""
    from ttt_factory import ModelFactory

    checkpoint = folder / "checkpoint"
    if not (checkpoint / "config.json").exists():
        return
    spec = ModelFactory.from_huggingface(json.loads((checkpoint / "config.json").read_text()))
    layers = [(layer.attention, layer.ffn, layer.attention_norm, layer.ffn_norm) for layer in spec.layers]
    yield Used(
        name=folder.name,
        specs=(spec.embedding, *(part for layer in layers for part in layer), spec.final_norm, spec.head),
        build=lambda mesh: ModelFactory.from_pretrained(checkpoint, device=mesh),
        boards=("n150",),
        values=True,
        contract=folder / "contracts" / f"{folder.name}.toml",
    )


def _written_out(folder: Path) -> Iterator[Used]:
    """A model that is composed by hand: `model(config, weights, device=)` and instances of its `Config`, named in capitals."""
    name = folder.name.replace("-", "_")
    package = importlib.import_module(name)
    build = getattr(package, name, None)
    for constant in sorted(each for each in vars(package) if each.isupper()):
        config = getattr(package, constant)
        yield Used(
            name=constant,
            specs=(config.embedding, config.attention, config.ffn, config.norm, config.head),
            build=lambda mesh, config=config: build(replace(config, num_layers=1), _NoWeights(), device=mesh),  # type: ignore[misc]
            boards=("n150", "t3k"),
            values=False,
            contract=folder / "contracts" / f"{constant.lower()}.toml",
        )


def wanted(tested: Any) -> list[Any]:
    """What must be tested: every spec of every configuration, in both modes, on each of its boards.

    Where several blocks can compute a spec it is the one of `tested`, a Coverage.
    """
    from ttt_core import Mode
    from ttt_testing import Configuration

    known = {each.configuration for each in tested.tested}

    def configuration(spec: Any, board: str, mode: Mode) -> Configuration:
        ways = [Configuration.of(block, spec, device=board, mode=mode) for block in BLOCKS[type(spec).__name__]]
        return next((way for way in ways if way in known), ways[0])

    modes: tuple[Mode, ...] = ("prefill", "decode")
    return [
        configuration(spec, board, mode)
        for each in used()
        for spec in each.specs
        for board in each.boards
        for mode in modes
    ]


def exercise(board: str, file: Path, *, record: bool = False) -> None:
    """Test the blocks of all configurations on one board, hold them to their contracts, or record these, and add what was tested
    to `file`. Errors: SuiteFailed where an expectation fails, or a block takes more than its contract says."""
    from ttt_hw import open_mesh
    from ttt_testing import TestSuite

    with open_mesh(board, backend="mock") as mesh:
        for each in used():
            if board not in each.boards:
                continue
            model = each.build(mesh)
            with TestSuite(model, track_coverage=True, name=each.name) as suite:
                if not record:
                    suite.expect_contract(each.contract, tolerance=GROWTH)
                modules = [model.embedding, model.final_norm, model.head]
                modules += [
                    part
                    for layer in model.layers
                    for part in (layer.attention, layer.ffn, layer.attention_norm, layer.ffn_norm)
                ]
                for module in modules:
                    case = suite.test(module).rows(prefill=64, decode=32)
                    if each.values:
                        case.tolerance(1e-3)
            suite.coverage.save(file)
            if record:
                suite.record_contract(each.contract)


def measure(file: Path, *, record: bool = False) -> Any:
    """Test on every board, each in a process of its own, and report. Errors: SystemExit where an expectation fails."""
    from ttt_testing import Coverage
    from ttt_testing.coverage_report import coverage_report

    for board in sorted({board for each in used() for board in each.boards}):
        command = [sys.executable, "-m", "tools.coverage", "--board", board, "--file", str(file)]
        done = subprocess.run(
            [*command, *(["--record"] if record else [])], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"tools.coverage on {board}:\n{done.stderr[-6000:]}\n{AGAIN}")
    tested = Coverage.load(file)
    return coverage_report(tested, wanted(tested))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", help="test on this board alone, and report nothing")
    parser.add_argument("--file", type=Path, help="where what was tested is kept; default: nowhere")
    parser.add_argument("--record", action="store_true", help="write the contracts of models/ anew")
    parser.add_argument("--html", type=Path, help="write the report as one page too")
    options = parser.parse_args()
    sys.path[:0] = [str(path) for path in ROOT.glob("models/*/src")]
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or Path(folder) / "coverage.json"
        if options.board:
            exercise(options.board, file, record=options.record)
            return 0
        report = measure(file, record=options.record)
    print(report)
    if options.html:
        options.html.write_text(report.to_html())
    return 1 if report.uncovered else 0


if __name__ == "__main__":
    sys.exit(main())
