"""Tests of a model's modules, named by the modules themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable
from math import prod
from types import TracebackType
from typing import Any

from ttt_core import DeviceError, Mode, SpecError
from ttt_hw import board_of, current_backend
from ttt_testing.case import TestCase as TestCase
from ttt_testing.driver import Driver
from ttt_testing.expectations import VALUES, Item
from ttt_testing.finding import block_name, parts, role_of, weights_of
from ttt_testing.judge import judge_all
from ttt_testing.sameness import fingerprint
from ttt_testing.suite_report import SuiteFailed, SuiteReport, announce
from ttt_testing.trial import Trial


class TestSuite:
    """Tests of modules of `model`, run when the context ends; SuiteFailed then says which expectations did not hold.

    Modules are told apart by their Protocol, shapes come from their specs. Equal modules (class, spec, settings, precisions) with
    one reference run once. `device` is the mesh, found by the model's weights unless given.
    """

    __test__ = False  # not pytest's

    def __init__(self, model: Any, *, device: Any = None) -> None:
        self.model = model
        self.cases: list[TestCase] = []
        self.report: SuiteReport | None = None
        self._device = device
        self._paths = {id(found): path for path, found in parts(model)}

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
                    announce(item)
        backend = current_backend(mesh)
        valued = any(VALUES & case.expectations.keys() for case in self.cases)
        self.report = SuiteReport(
            items=tuple(items),
            device=board_of(mesh).name,
            backend=backend,
            values=("golden" if backend == "mock" else "device") if valued else "none",
            runs=len(trials),
        )
        return self.report

    def __enter__(self) -> TestSuite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.run().failures:
            assert self.report is not None
            raise SuiteFailed(self.report)

    def _trial(self, case: TestCase, mode: Mode, mesh: Any) -> Trial:
        driver = Driver(
            case.module,
            mesh,
            role=case.role,
            sizes=case.sizes,
            rows=case.num_rows[mode],
            context=case.cache_context,
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
    current = os.environ.get("PYTEST_CURRENT_TEST", "")
    return f'pytest "{current.rpartition(" ")[0]}"' if current else f"python {' '.join(sys.argv)}"
