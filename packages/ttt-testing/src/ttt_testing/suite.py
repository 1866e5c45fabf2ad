"""Tests of a model's modules, named by the modules themselves."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Hashable, Iterable
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

from ttt_core import DeviceError, Mode, SpecError
from ttt_hw import board_of, current_backend
from ttt_testing._contract import Key, Recorded, load, save, take
from ttt_testing._driver import Driver
from ttt_testing._finding import ancestors_of, block_name, parts, role_of, weights_of
from ttt_testing._judge import judge_all, judge_contract
from ttt_testing._lines import require_line
from ttt_testing._sameness import fingerprint
from ttt_testing._trial import Trial
from ttt_testing.case import TestCase as TestCase
from ttt_testing.coverage import Configuration, Coverage, Exercised
from ttt_testing.coverage_report import CoverageReport, coverage_report
from ttt_testing.expectations import VALUES, Expectation, Item
from ttt_testing.suite_report import SuiteFailed, SuiteReport, announce

__all__ = ["TestSuite"]


class TestSuite:
    """Tests of modules of `model`, run when the context ends; SuiteFailed then says which expectations did not hold.

    Modules are told apart by their Protocol, shapes come from their specs. Equal modules (class, spec, settings, precisions) with
    one reference run once. `device` is the mesh, found by the model's weights unless given. With `track_coverage` the suite keeps
    which configurations it ran, under the model's `name`. `version` is a release line, as for `expect_compatible_with`.
    """

    __test__ = False  # not pytest's

    def __init__(
        self,
        model: Any,
        *,
        device: Any = None,
        track_coverage: bool = False,
        name: str | None = None,
        version: str | None = None,
    ) -> None:
        self.model = model
        self.name = name or type(model).__name__
        self.track_coverage = track_coverage
        self.coverage = Coverage()
        self.cases: list[TestCase] = []
        self.report: SuiteReport | None = None
        self._device = device
        self._contract: tuple[dict[Key, Recorded], float] | None = None
        self._trials: dict[Key, Trial] = {}
        self._paths = {id(found): path for path, found in parts(model)}
        if version is not None:
            self.expect_compatible_with(version)

    def test(self, module: Any, name: str | None = None) -> TestCase:
        """A test of a module, which the case's methods go on to describe. Errors: SpecError for what is no module of `model`."""
        role = role_of(module)
        path = self._paths.get(id(module))
        if path is None:
            raise SpecError(
                f"{type(module).__name__} is no part of this {type(self.model).__name__}: its attributes and lists do not lead "
                "to it. Give a module of the model, or TestSuite(module) for one that stands alone."
            )
        case = TestCase(module, name=name or path or type(module).__name__, path=path, role=role)
        self.cases.append(case)
        return case

    def run(self) -> SuiteReport:
        """Judge every expectation and say what was found, without raising for failures."""
        if not self.cases:
            raise SpecError("This suite tests nothing: say what, with suite.test(module).")
        mesh = self._mesh()
        board, backend = board_of(mesh).name, current_backend(mesh)
        reproduce = _command()
        trials: dict[Hashable, tuple[Trial, str]] = {}
        keys = {
            id(case.module): fingerprint(case.module) for case in self.cases
        }  # before running fills any cache of theirs
        items: list[Item] = []
        for case in self.cases:
            for mode in case.modes:
                valued = bool(VALUES & case.expectations.keys())
                key = (
                    keys[id(case.module)],
                    mode,
                    case.num_rows[mode],
                    case.cache_context,
                    case.reference_key if valued else None,
                )
                trial, first = trials.setdefault(key, (self._trial(case, mode, mesh), case.name))
                verdicts = judge_all(trial, case.expectations.values())
                self._trials[board, backend, first, mode] = trial
                if self._contract is not None:
                    recorded, tolerance = self._contract
                    names = (each for each in (case.name, first) if (board, backend, each, mode) in recorded)
                    then = next((recorded[board, backend, each, mode] for each in names), None)
                    wanted = Expectation(kind="contract", limit=tolerance)
                    verdicts.append((wanted, judge_contract(trial, then, tolerance)))
                for expectation, verdict in verdicts:
                    item = Item(
                        case=case.name,
                        path=case.path,
                        block=block_name(case.module),
                        mode=mode,
                        kind=expectation.kind,
                        wanted=expectation.wanted,
                        status=verdict.status,
                        got=verdict.got,
                        basis=verdict.basis,
                        detail=verdict.detail,
                        shared_with=first if first != case.name else None,
                        reproduce=reproduce,
                    )
                    items.append(item)
        valued = any(VALUES & case.expectations.keys() for case in self.cases)
        self.report = SuiteReport(
            items=tuple(items),
            device=board,
            backend=backend,
            values=("golden" if backend == "mock" else "device") if valued else "none",
            runs=len(trials),
        )
        if self.track_coverage:
            self.coverage = self._covered(self.report)
        return self.report

    def expect_compatible_with(self, version: str) -> TestSuite:
        """The suite's expectations are for a release line, "0.2": the blocks of the model must be of it, or nothing is run.

        Errors: SpecError for blocks of another line, with what to install.
        """
        require_line((found for _, found in parts(self.model)), version)
        return self

    def expect_contract(self, path: str | Path, *, tolerance: float = 0.05) -> TestSuite:
        """Every test of the suite takes at most what the file has recorded under its name, with this share more.

        Time, DRAM of a chip and L1 of the fullest core; what has no record fails.
        Errors: SpecError for a file that is no contract.
        """
        self._contract = load(path), tolerance
        return self

    def record_contract(self, path: str | Path) -> None:
        """Write what each test of this suite takes to the file, for `expect_contract` to hold later runs to.

        Tests of equal modules have one record, under the name of the first.
        Errors: SpecError before the suite has run; what an operation raises that ttnn refuses.
        """
        if self.report is None:
            raise SpecError(
                "This suite has not run, so there is nothing to record: record after suite.run() or the context."
            )
        save(path, {key: take(trial) for key, trial in self._trials.items()})

    def get_coverage_report(self, wanted: Iterable[Configuration] = ()) -> CoverageReport:
        """The values that each block was tested with, and what is missing of `wanted`.

        Errors: SpecError before the suite has run, or without track_coverage."""
        if self.report is None or not self.track_coverage:
            raise SpecError(
                "This suite has no coverage yet: make it with TestSuite(model, track_coverage=True), and ask after it has run."
            )
        return coverage_report(self.coverage, wanted)

    def __enter__(self) -> TestSuite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        report = self.run()
        for item in report.items:
            announce(item)
        if report.failures:
            raise SuiteFailed(report)

    def _covered(self, report: SuiteReport) -> Coverage:
        failed = {(item.case, item.mode) for item in report.failures}
        compared = {(item.case, item.mode) for item in report.of("passed") if item.kind in VALUES}
        return Coverage(
            Exercised(
                configuration=Configuration.of(
                    block_name(case.module), getattr(case.module, "spec", None), device=report.device, mode=mode
                ),
                model=self.name,
                backend=report.backend,
                values=(case.name, mode) in compared,
                passed=(case.name, mode) not in failed,
            )
            for case in self.cases
            for mode in case.modes
        )

    def _trial(self, case: TestCase, mode: Mode, mesh: Any) -> Trial:
        driver = Driver(
            case.module,
            mesh,
            role=case.role,
            sizes=case.sizes,
            rows=case.num_rows[mode],
            context=case.cache_context,
            ancestors=ancestors_of(self.model, case.path),
        )
        return Trial(driver, mode, case.reference, case.reference_name)

    def _mesh(self) -> Any:
        if self._device is not None:
            return self._device
        weights = [weight for case in self.cases for weight in weights_of(case.module)] or list(weights_of(self.model))
        if weights:
            return min(weights, key=lambda weight: prod(getattr(weight, "shape", (1,)))).tensor.device()
        raise DeviceError(
            f"{type(self.model).__name__} has no weights that say on which device it is: give TestSuite(model, device=mesh)."
        )


def _command() -> str:
    """What to type to see the result again."""
    current = re.sub(
        r"@ttt-\w+", "", os.environ.get("PYTEST_CURRENT_TEST", "")
    )  # xdist's group is not part of the name
    return f'pytest "{current.rpartition(" ")[0]}"' if current else f"python {' '.join(sys.argv)}"
