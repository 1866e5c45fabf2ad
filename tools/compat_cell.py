"""Runs one cell: an empty environment, built wheels alone, and what must hold there.

1. *install*: the wheels with what they declare, and nothing else; the package's own holds what a wheel must;
2. *import*: the package and every public name of it, bare, so that a dependency nobody declared is missed; one that does not
   declare torch does not import it;
3. *example*: the first Python block of its README, as far as it needs only what is installed;
4. *types*: mypy of the installed package against the installed others, and of the Protocols that its entry points name;
5. *conformance*: `ttt-testing` is added, and its kit run on the mock device for what the package implements.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from tools.compat_plan import Cell
from tools.environments import CommandError, install, interpreter_of, make, run
from tools.wheels import check_wheel
from tools.workspace import ROOT

STEPS = ("install", "import", "example", "types", "conformance")
HARNESS = "ttt-testing"
GROUP = "ttt.conformance"
Status = Literal["passed", "failed", "skipped"]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE_SECONDS = 120
RUN = "import sys; from ttt_testing.commands import app; sys.exit(app(['--device', 'n150', '--backend', 'mock', '--json']))"
WATCHED = """\
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename.startswith('<frozen importlib'):
            frame = frame.f_back
        who = frame.f_globals.get('__name__', '') if frame else ''
        if name == 'torch' and who.startswith('ttt_'):
            sys.exit(who + ' imports torch, which no package here declares')
sys.meta_path.insert(0, Watch())
import {module}
from {module} import *
"""
CONTRACTS = """\
import typing
from importlib.metadata import distribution
for entry in distribution({package!r}).entry_points:
    if entry.group == {group!r}:
        given = entry.load()
        protocol, make = (given[name] if isinstance(given, dict) else getattr(given, name) for name in ("protocol", "make"))
        made = typing.get_type_hints(getattr(make, "func", make)).get("return")
        cls = (typing.get_args(made) or (made,))[0]
        print(protocol, cls.__module__, cls.__qualname__)
"""
PROTOCOLS = {
    "norm": "Norm", "feed_forward": "FeedForward", "attention": "Attention", "layer": "Layer", "embedding": "Embedding",
    "head": "Head", "causal_lm": "CausalLM",
}  # fmt: skip
MYPY = """\
[mypy]
follow_imports = silent
ignore_missing_imports = True
cache_dir = {cache}
[mypy-{untyped}]
follow_imports = skip
"""
UNTYPED = (
    *("ttnn", "torch", "transformers", "tokenizers", "ml_dtypes", "safetensors", "onnx"),
    *("cyclopts", "rich", "tomlkit", "pytest", "tqdm"),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    name: str
    status: Status
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one cell; `key` is of all that went in."""

    key: str
    cell: Cell
    steps: tuple[Step, ...]

    @property
    def passed(self) -> bool:
        return all(step.status != "failed" for step in self.steps)

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "cell": asdict(self.cell), "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Result:
        versions = tuple((name, version) for name, version in data["cell"]["versions"])
        cell = Cell(**{**data["cell"], "versions": versions})
        return cls(key=data["key"], cell=cell, steps=tuple(Step(**step) for step in data["steps"]))


class NotHere(Exception):
    """A step that this cell cannot have; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A cell with its wheels by package, and those that the harness needs besides: None if no harness goes with them."""

    cell: Cell
    wheels: Mapping[str, Path]
    harness: Mapping[str, Path] | None
    constraints: Sequence[str] = ()

    @cached_property
    def key(self) -> str:
        """Of all that decides the result: versions, bytes of the wheels, constraints, and the code that runs it."""
        digest = hashlib.sha256()
        parts = [json.dumps(asdict(self.cell) | {"why": ""}, sort_keys=True), *self.constraints, sys.version]
        for wheels in (self.wheels, self.harness or {}):
            parts += [f"{name} {hashlib.sha256(wheels[name].read_bytes()).hexdigest()}" for name in sorted(wheels)]
        code = [Path(__file__), *map(Path(__file__).with_name, ("environments.py", "wheels.py"))]
        for part in [*parts, *(file.read_text() for file in code)]:
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:24]


def try_cell(work: Work, folder: Path, cache: Path) -> Result:
    """Runs a cell in a folder, which is gone afterwards. The first step that fails is the last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps: list[Step] = []
    room = _Room(work, folder, cache)
    try:
        for name in STEPS:
            step = _timed(name, getattr(room, f"{name}_"))
            steps.append(step)
            if step.status == "failed":
                break
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(key=work.key, cell=work.cell, steps=tuple(steps))


def _timed(name: str, call: Callable[[], str]) -> Step:
    start = time.perf_counter()
    try:
        detail, status = call(), "passed"
    except NotHere as reason:
        detail, status = str(reason), "skipped"
    except CommandError as error:
        detail, status = str(error), "failed"
    return Step(name=name, status=status, seconds=time.perf_counter() - start, detail=detail)  # type: ignore[arg-type]


class _Room:
    def __init__(self, work: Work, folder: Path, cache: Path) -> None:
        self.work, self.cell, self.folder, self.cache = work, work.cell, folder, cache
        self.package, self.module = self.cell.subject, module_of(self.cell.subject, work.wheels)
        self.environment = folder / ".venv"
        self.headers = {name: metadata(wheel) for name, wheel in work.wheels.items()}

    def install_(self) -> str:
        check_wheel(self.work.wheels[self.package], self.module)
        make(self.folder, python=self.cell.python)
        self._install(self.work.wheels)
        return ""

    def import_(self) -> str:
        self._python(f"import {self.module}; from {self.module} import *")
        if "torch" in self._needs():
            return "torch is declared"
        self._python(WATCHED.format(module=self.module))
        return ""

    def example_(self) -> str:
        found = PYTHON_BLOCK.search(str(self.headers[self.package].get_payload()))
        if found is None:
            raise NotHere("its README has no Python block")
        session = found[1].startswith(">>>")
        here = {self.module, *(module_of(name, self.work.wheels) for name in self.work.wheels)}
        missing = sorted(name for name in imported(found[1]) if name.startswith("ttt_") and name not in here)
        if missing:
            raise NotHere(f"it imports {', '.join(missing)}")
        if "Checkpoint(" in found[1] or "from_pretrained(" in found[1]:
            raise NotHere("it reads a checkpoint")
        script = self.folder / ("example.txt" if session else "example.py")
        script.write_text(found[1])
        arguments = ["-m", "doctest"] if session else []
        run([interpreter_of(self.environment), "-I", *arguments, script], self.folder, timeout=EXAMPLE_SECONDS)
        return ""

    def types_(self) -> str:
        contracts = []
        if f"[{GROUP}]" in entry_points(self.work.wheels[self.package]):
            printed = self._python(CONTRACTS.format(package=self.package, group=GROUP))
            for number, line in enumerate(printed.split("\n")):
                if line and (parts := line.split())[0] in PROTOCOLS:
                    protocol, module, name = PROTOCOLS[parts[0]], parts[1], parts[2]
                    contracts.append(
                        f"import ttt_core, {module}\n"
                        f"def contract_{number}(given: {module}.{name}) -> ttt_core.{protocol}:\n    return given\n"
                    )
        settings, file = self.folder / "mypy.ini", self.folder / "contracts.py"
        untyped = ",".join(f"{name}.*" for name in UNTYPED)
        settings.write_text(MYPY.format(cache=self.cache, untyped=untyped))
        file.write_text("".join(contracts))
        command: list[str | Path] = [sys.executable, "-m", "mypy", "--config-file", settings, "--python-executable"]
        command += [interpreter_of(self.environment), "--no-error-summary"]
        run([*command, "-p", self.module], self.folder)
        if contracts:
            run([*command, file], self.folder)
        return f"{len(contracts)} Protocols"

    def conformance_(self) -> str:
        tried = self.work.wheels.values() if self.cell.whole else [self.work.wheels[self.package]]
        if not any(f"[{GROUP}]" in entry_points(wheel) for wheel in tried):
            raise NotHere("it names no implementation")
        if self.work.harness is None:
            raise NotHere(f"there is no {HARNESS} that goes with these versions")
        self._install({**self.work.wheels, **self.work.harness}, extras={HARNESS: "cli"})
        report = json.loads(self._python(RUN))
        names = sorted({result["implementation"] for result in report["results"]})
        passed = sum(result["status"] == "passed" for result in report["results"])
        return f"{', '.join(names)}: {passed} checks passed, {report['backend']}"

    def _install(self, wheels: Mapping[str, Path], extras: Mapping[str, str] = {}) -> None:
        """Wheels by path, so that nothing else is taken for them; at the lower end, other packages as low as declared too."""
        what = [
            f"{name}[{extras[name]}] @ {wheel.resolve().as_uri()}" if name in extras else str(wheel)
            for name, wheel in sorted(wheels.items())
        ]
        if self.cell.ttnn:
            what.append(f"ttnn=={self.cell.ttnn}")
        constraints = self.folder / "constraints.txt"
        constraints.write_text("\n".join(self.work.constraints))
        install(self.environment, what, "--constraint", constraints)

    def _needs(self) -> set[str]:
        texts = [text for headers in self.headers.values() for text in headers.get_all("Requires-Dist") or ()]
        wanted = [Requirement(text) for text in texts]
        return {each.name for each in wanted if each.marker is None or "extra" not in str(each.marker)}

    def _python(self, code: str) -> str:
        return run([interpreter_of(self.environment), "-I", "-c", code], self.folder)


def metadata(wheel: Path) -> Any:
    """The metadata of a wheel; its payload is the README."""
    return HeaderParser().parsestr(_file(wheel, "METADATA"))


def entry_points(wheel: Path) -> str:
    return _file(wheel, "entry_points.txt")


def module_of(package: str, wheels: Mapping[str, Path]) -> str:
    """What a package is imported as: the folder that its wheel has."""
    if package in wheels:
        with zipfile.ZipFile(wheels[package]) as archive:
            tops = sorted({name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name})
        return tops[0]
    return package.replace("-", "_")


def _file(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        found = [each for each in archive.namelist() if each.endswith(f".dist-info/{name}")]
        return archive.read(found[0]).decode() if found else ""


def imported(code: str) -> set[str]:
    """The packages that a piece of Python imports."""
    try:
        tree = ast.parse(re.sub(r"^(>>> |\.\.\. )", "", code, flags=re.MULTILINE))
    except SyntaxError:  # an interactive session with what it printed
        return {match[1] for match in re.finditer(r"^(?:>>> )?(?:from|import) (\w+)", code, re.MULTILINE)}
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[0] for name in names}


def constraints(root: Path = ROOT) -> list[str]:
    """Of all distributions but ttnn, as the repository pins them."""
    file = root / "constraints.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in lines if line and not line.startswith(("#", "ttnn=="))]
