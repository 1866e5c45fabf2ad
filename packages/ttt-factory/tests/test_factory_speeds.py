"""Published speeds of models against what plans predict; ttt calibrate, ttt measure, sweeps of ttt plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ttt_core import DeviceError, SpecError
from ttt_factory import _measure as measuring, _plan_sweep as plan_sweep
from ttt_factory._measure import document, measure
from ttt_factory._measure_fit import FITTED, Fit, fit, with_rates, works_of
from ttt_factory._measured_page import speeds_page
from ttt_factory.calibrate_command import app as calibrate
from ttt_factory.huggingface import read_json, spec_of_config
from ttt_factory.measured import Speed, compare_models, published_models
from ttt_factory.plan import PlanDemand, plan_model
from ttt_factory.plan_command import app as plan
from ttt_factory.requests import precision_of
from ttt_hw import board_as
from ttt_hw.calibration import compare_ops, median_error, published_ops
from ttt_hw.estimate import estimate

CONFIGS = Path(__file__).parent / "configs"
PAGE = Path(__file__).parents[1] / "docs" / "speeds.md"
TOLERANCE = 0.05  # of a number on the page: the planner may find somewhat better plans


@pytest.fixture(scope="module")
def speeds() -> list[Speed]:
    return compare_models(published_models())


@pytest.fixture(scope="module")
def counted(speeds: list[Speed]) -> list[Speed]:
    return [speed for speed in speeds if speed.group == "counted"]


@pytest.fixture(scope="module")
def fitted(counted: list[Speed]) -> Fit:
    return fit(counted)


def run(app: Any, *tokens: object) -> Any:
    return app([str(token) for token in tokens], exit_on_error=False, print_error=False, result_action="return_value")


def test_few_constants_are_fitted() -> None:
    assert len(FITTED) <= 5


def test_errors_of_dense_text_models(counted: list[Speed]) -> None:
    errors = [speed.error for speed in counted]
    assert len(errors) >= 40
    assert median_error(errors) <= 0.15
    assert max(map(abs, errors)) <= 0.5
    for quantity in ("tokens_per_second_per_user", "ttft_ms"):
        assert median_error([speed.error for speed in counted if speed.quantity == quantity]) <= 0.15


def test_errors_with_a_row_left_out(fitted: Fit) -> None:
    assert median_error(fitted.left_out) <= 0.2


def test_the_catalogue_has_the_constants_that_fit_best(fitted: Fit) -> None:
    for constant in FITTED:
        assert fitted.values[constant.name] == pytest.approx(constant.value, rel=0.16)  # two steps of the grid


def test_constants_that_were_wrong_are_found_again(counted: list[Speed]) -> None:
    """Numbers as the model itself predicts them with other constants."""
    made = []
    host = {"token_us": 2**0.5, "call_us": 2**-0.5}
    wanted = {constant.name: constant.value * host.get(constant.name, 1) for constant in FITTED}
    for speed in counted:
        other = with_rates(speed.plan.board, {name: wanted[name] for name in host})
        us = sum(count * estimate(work, other).time_us for work, count in works_of(speed.plan, speed.mode).items())
        value = speed.from_times(us, other.chip.rates.call_us, other.chip.rates.token_us)
        made.append(Speed(row={**speed.row, speed.quantity: value}, quantity=speed.quantity, plan=speed.plan))
    found = fit(made)
    assert found.values == pytest.approx(wanted)
    assert max(map(abs, found.errors)) < 1e-6


def test_a_plan_is_the_sum_of_its_works(counted: list[Speed]) -> None:
    for speed in counted[:6]:
        works = works_of(speed.plan, speed.mode)
        total = sum(count * estimate(work, speed.plan.board).time_us for work, count in works.items())
        assert total == pytest.approx(speed.plan.time_us(speed.mode))


def test_no_published_row_is_missing(speeds: list[Speed]) -> None:
    found = published_models()
    wanted = {
        (row["id"], name)
        for row in found["models"]
        for name in ("tokens_per_second_per_user", "ttft_ms")
        if name in row
    }
    assert {(speed.row["id"], speed.quantity) for speed in speeds} == wanted
    assert len({row["id"] for row in found["models"]}) == len(found["models"])
    for speed in speeds:
        assert speed.row["source"]
        assert speed.group != "shown" or speed.row["note"]
    assert all({"what", "value", "why", "source"} <= set(row) for row in found["unpredicted"])


def test_configs_are_those_that_other_tests_plan() -> None:
    for name, config in published_models()["configs"].items():
        assert config == json.loads((CONFIGS / f"{name}.json").read_text())


def test_the_page_is_what_calibrate_writes(speeds: list[Speed]) -> None:
    """The same rows in the same order; numbers may differ by what a better plan changes. Written by
    `ttt calibrate --page packages/ttt-factory/docs/speeds.md`."""
    unpredicted = [*published_models()["unpredicted"], *published_ops()["unpredicted"]]
    made = speeds_page(speeds, compare_ops(published_ops()["ops"]), unpredicted)
    written = PAGE.read_text(encoding="utf-8")
    assert [_words(line) for line in made.splitlines()] == [_words(line) for line in written.splitlines()]
    for ours, theirs in zip(_predictions(made), _predictions(written), strict=True):
        assert ours == pytest.approx(theirs, rel=TOLERANCE)


def _words(line: str) -> str:
    """A row by what names it; text as it is."""
    return (
        " ".join(line.split("|")[1:6])
        if line.startswith("| ") and line.count("|") > 8
        else re.sub(r"[-+\d.,%]", "", line)
    )


def _predictions(page: str) -> list[float]:
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ") and line.count("|") > 8]
    return [float(row[7].replace(",", "")) for row in rows if row[7].strip() != "predicted"]


def test_rows_that_lack_something() -> None:
    with pytest.raises(SpecError, match="row 'r' of the measurements: 'users' is missing or unknown"):
        compare_models({**published_models(), "models": [{"id": "r", "model": "llama-3.2-1b"}]})
    with pytest.raises(SpecError, match="row 'r' of the measurements: 'tea-1b' is missing or unknown"):
        compare_models({**published_models(), "models": [{"id": "r", "model": "tea-1b"}]})


def test_too_few_rows_to_fit(counted: list[Speed]) -> None:
    with pytest.raises(SpecError, match="2 rows do not fit 4 constants; give 5 or more"):
        fit(counted[:4])


def small() -> tuple[dict[str, Any], PlanDemand]:
    changes = {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "vocab_size": 2048}
    config = {**read_json(CONFIGS / "llama-3.2-1b.json"), **changes}
    spec = spec_of_config(config)
    precision = precision_of(spec, "performance")
    return config, PlanDemand(spec=spec, users=1, context=128, prompt=128, precision=precision)


def test_a_measurement_runs_every_operation_and_is_read_again(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a mock the times mean nothing, but the operations are issued as on a card."""
    for name, count in (("WARM_UP", 0), ("REPEATS", 1)):
        monkeypatch.setattr(measuring, name, count)
    config, demand = small()
    found = plan_model(demand, board_as("n150", None))
    made = json.loads(json.dumps(document(found, "llama-3.2-1b", config, mesh, runs=1)))
    operations = [op for _, _, block in found.blocks() for op in block.ops]
    assert [row["name"] for row in made["ops"]] == [op.request.name for op in operations]
    for measured, op in zip(compare_ops(made["ops"]), operations, strict=True):
        assert measured.estimate == op.estimate
        assert measured.us > 0
    decode, prefill = compare_models(made)
    assert decode.plan.time_us("decode") == found.time_us("decode")
    host = found.board.chip.rates.call_us
    assert prefill.predicted == max(found.time_us("prefill"), found.calls("prefill") * host) / 1e3


def test_a_mock_is_not_measured(mesh: Any) -> None:
    config, demand = small()
    with pytest.raises(DeviceError, match="Times on a mock say nothing of a card"):
        measure(plan_model(demand, board_as("n150", None)), "m", config, mesh)


def test_calibrate_reads_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = published_models()
    rows = [row for row in published["models"] if row["model"] == "llama-3.2-1b"]
    again = [{**rows[0], "id": name} for name in ("again", "once more")]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({**published, "models": [*rows, *again]}))
    page = tmp_path / "page.md"
    assert run(calibrate, file, "--page", page) == 0
    assert "models: 10 numbers, median error" in capsys.readouterr().out
    assert "| llama-3.2-1b | n150 | 1 |" in page.read_text()
    file.write_text(json.dumps({"schema": 1, "ops": published_ops()["ops"][:3]}))
    assert run(calibrate, file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"]["numbers"] == 0
    assert set(found["constants"]) == {constant.name for constant in FITTED}
    assert set(found["ops"]) == {"matmul"}


def test_sweep_over_users(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_sweep, "MAX_USERS", 4)
    picture = tmp_path / "curves.svg"
    config = CONFIGS / "llama-3.2-1b.json"
    options = ("--device", "n150", "--context", 256, "--sweep", "batch", "--svg", picture)
    assert run(plan, config, *options, "--json") == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["users"] for point in points] == [1, 2, 4]
    total = [point["tokens_per_second"] for point in points]
    assert total == sorted(total)
    root = ElementTree.parse(picture).getroot()
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3 * len(points)


def test_sweep_over_contexts_says_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_sweep, "SHORTEST", 8192)
    config = CONFIGS / "llama-3.2-1b.json"
    options = ("--device", "n150", "--batch", 32, "--context", 32768, "--prefill", 128, "--sweep", "context")
    assert run(plan, config, *options) == 0
    said = capsys.readouterr().out
    assert "n150 1x1, over context: 32 users" in said
    assert "yes" in said
    assert "no" in said.split()
    assert "█" in said
