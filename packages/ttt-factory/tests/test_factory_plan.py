"""Plans of whole models: times, memory, files, the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ttt_cli.main import main
from ttt_core import PlacementError, SpecError
from ttt_factory._plan_report import to_json
from ttt_factory.huggingface import read_json, spec_of_config
from ttt_factory.plan import ModelPlan, PlanDemand, memory_use, plan_model
from ttt_factory.plan_file import read_plan, save_plan
from ttt_factory.requests import precision_of
from ttt_hw import board_as

CONFIGS = Path(__file__).parent / "configs"
LLAMA_8B = CONFIGS / "llama-3.1-8b.json"


def demand(model: str = "llama-3.1-8b", **changes: Any) -> PlanDemand:
    spec = spec_of_config(read_json(CONFIGS / f"{model}.json"))
    mode = changes.pop("mode", "performance")
    given = {
        "users": 32,
        "context": 1024,
        "prompt": 128,
        "precision": precision_of(spec, mode),
        "mode": mode,
        **changes,
    }
    return PlanDemand(spec=spec, **given)


@pytest.fixture(scope="module")
def t3k() -> ModelPlan:
    return plan_model(demand(), board_as("t3k", None))


def test_times_are_those_of_all_layers(t3k: ModelPlan) -> None:
    assert [(section.name, section.count) for section in t3k.sections] == [("embedding", 1), ("layer", 32), ("head", 1)]
    decode = sum(section.count * sum(op.time_us for op in section.plans["decode"]) for section in t3k.sections)
    exits = sum(
        section.count * move.estimate.time_us for section in t3k.sections for move in section.plans["decode"].exits
    )
    assert t3k.time_us("decode") == pytest.approx(decode + exits)
    assert t3k.tokens_per_second_per_user == pytest.approx(1e6 / t3k.step_us)
    assert t3k.step_us >= t3k.time_us("decode")


def test_no_faster_than_the_weights_can_be_read() -> None:
    """Each step reads all weights once: the roofline of DRAM, and published speeds are within a factor of two."""
    published = {("llama-3.1-8b", "n150"): 28.3, ("llama-3.1-8b", "t3k"): 64.3, ("llama-3.2-1b", "n150"): 87.8}
    for (model, board), tokens in published.items():
        plan = plan_model(demand(model, users=1), board_as(board, None))
        roofline = plan.board.chip.dram_gb_per_s * 1e9 / plan.memory.weights
        assert plan.tokens_per_second_per_user < roofline
        assert tokens / 2 < plan.tokens_per_second_per_user < 2 * tokens


def test_hidden_states_pass_between_sections_where_they_lie(t3k: ModelPlan) -> None:
    for mode in ("decode", "prefill"):
        embedding, layer, head = (section.plans[mode] for section in t3k.sections)
        (handed_on,) = layer.outputs.values()
        assert layer.inputs["x"] == handed_on
        assert next(iter(embedding.outputs.values())) == handed_on
        assert head.inputs["x"] == handed_on


def test_sums_keep_nothing_where_prompts_need_all_of_l1() -> None:
    """The norm of 4,096 columns on a chip leaves 33 kB: too little for the buffers of fused sums."""
    board = board_as("t3k", "2x4:hidden")
    plan = plan_model(demand("llama-3.1-70b", prompt=1024), board)
    assert not any(block.keeps for section in plan.sections for block in section.plans.values())
    assert any(block.keeps for section in plan_model(demand(), board).sections for block in section.plans.values())


def test_accuracy_costs_time_and_bytes() -> None:
    board = board_as("n150", None)
    plans = {mode: plan_model(demand(mode=mode, users=1), board) for mode in ("performance", "balanced", "accuracy")}
    speeds = [plans[mode].tokens_per_second_per_user for mode in ("performance", "balanced", "accuracy")]
    weights = [plans[mode].memory.weights for mode in ("performance", "balanced", "accuracy")]
    assert speeds == sorted(speeds, reverse=True)
    assert weights == sorted(weights)


def test_the_longest_context_is_the_longest_that_fits(t3k: ModelPlan) -> None:
    for users, context in t3k.largest.items():
        assert memory_use(t3k, users, context).fits
        longest = -(-t3k.demand.spec.max_context // 32) * 32
        assert context == longest or not memory_use(t3k, users, context + 32).fits


def test_a_model_too_large_says_what_helps() -> None:
    plan = plan_model(demand("llama-3.1-70b", users=1), board_as("n150", None))
    assert not plan.fits
    assert plan.changes == ["p300 fits"]
    tight = plan_model(demand(users=32, context=32768, prompt=128), board_as("n150", None))
    assert tight.changes == ["batch 2 fits", "context 2048 fits", "t3k fits"]


def test_heads_that_do_not_split_are_an_error() -> None:
    with pytest.raises(PlacementError, match="28 query heads and 4 key-value heads do not split over 8 chips"):
        plan_model(demand("qwen2.5-7b"), board_as("t3k", None))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": 33}, "a plan for 33 users; 1 to 32 can decode together"),
        ({"context": 131104}, "a plan for a context of 131104; the model has positions for 1 to 131072"),
        ({"prompt": 2048}, "a plan for prompts of 2048 tokens with a context of 1024; .* Nearest: 1024"),
    ],
)
def test_impossible_demands(changes: dict[str, int], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        demand(**changes)


def test_overrides_reach_the_plan() -> None:
    changed = plan_model(demand(overrides={"decode.gate_matmul": {"pattern": "BcastMatmul"}}), board_as("n150", None))
    layer = changed.sections[1].plans
    assert type(layer["decode"]["ffn.gate_matmul"].pattern).__name__ == "BcastMatmul"
    with pytest.raises(PlacementError, match=r"'qkv_matmul\?', which is no operation .* Did you mean 'qkv_matmul'\?"):
        plan_model(demand(overrides={"qkv_matmul?": {"inner": 4}}), board_as("n150", None))


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_a_plan_comes_back_from_its_file(t3k: ModelPlan, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"plan.{ending}"
    save_plan(t3k, file)
    again = read_plan(file).plan(t3k.demand.spec, t3k.board)
    assert to_json(again) == to_json(t3k)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_an_edited_plan_is_checked(t3k: ModelPlan, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    save_plan(t3k, file)
    document = json.loads(file.read_text())
    document["sections"]["layer"]["prefill"]["ops"]["attention.attention"]["q_chunk"] = 48
    file.write_text(json.dumps(document))
    with pytest.raises(PlacementError, match=r"override of prefill.attention.attention on t3k: .*q_chunk=48"):
        read_plan(file).plan(t3k.demand.spec, t3k.board)


def test_a_plan_of_another_model_is_refused(t3k: ModelPlan, tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    save_plan(t3k, file)
    with pytest.raises(SpecError, match=r"the plan was made for another model: .*layer_0, layer_1"):
        read_plan(file).plan(demand("gemma-2-9b").spec, t3k.board)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml at all", "is no plan: "),
        ("schema = 9", "has schema 9; this version reads 1"),
        ('schema = 1\ndevice = "t3k"', "'mesh' must be a str, not None"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(SpecError, match=said):
        read_plan(file)


def run(*arguments: str) -> int:
    return main(["plan", str(LLAMA_8B), *arguments])


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "t3k", "--batch", "32", "--context", "8192", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {
        "tokens_per_second_per_user",
        "ttft_ms",
        "dram_bytes_per_chip",
        "fits",
        "ops",
        "backend",
        "values",
        "schema",
    }
    assert wanted <= set(found)
    assert found["fits"] is True
    assert found["dram"]["capacity"] == board_as("t3k", None).chip.dram_bytes
    assert {op["mode"] for op in found["ops"]} == {"decode", "prefill"}


def test_command_prints_tables_and_a_map(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "n150") == 0
    said = capsys.readouterr().out
    for part in ("decode: layer × 32", "ShardedNorm", "tokens/s/user", "DRAM per chip", "█ weights", "fits: yes"):
        assert part in said


def test_command_says_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "n150", "--batch", "32", "--context", "32768") == 1
    assert "What would help: batch 2 fits; context 2048 fits; t3k fits" in capsys.readouterr().out


def test_command_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "n150", "--why", "decode.down_matmul") == 0
    said = capsys.readouterr().out
    assert "bound by dram" in said
    assert "not BcastMatmul" in said
    assert run("--device", "n150", "--why", "nothing") == 2
    assert "there is no such operation. There are " in capsys.readouterr().err


def test_command_draws_the_memory(tmp_path: Path) -> None:
    picture = tmp_path / "memory.svg"
    assert run("--device", "t3k", "--svg", str(picture)) == 0
    root = ElementTree.parse(picture).getroot()
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("weights: ") for title in titles)
    assert any(title.startswith("attention.qkv_matmul: ") for title in titles)


def test_command_takes_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--device", "n150", "--override", "decode.qkv_matmul.pattern=BcastMatmul", "--json") == 0
    ops = json.loads(capsys.readouterr().out)["ops"]
    (pattern,) = (op["pattern"] for op in ops if op["mode"] == "decode" and op["name"] == "attention.qkv_matmul")
    assert pattern == "BcastMatmul"
    assert run("--device", "n150", "--override", "nonsense") == 2
    assert "write OPERATION.FIELD=VALUE" in capsys.readouterr().err


def test_check_validates_a_plan(t3k: ModelPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.toml"
    plan = plan_model(demand("llama-3.2-1b", users=1), board_as("n150", None))
    save_plan(plan, file)
    config = str(CONFIGS / "llama-3.2-1b.json")
    assert main(["check", config, "--device", "n150", "--plan", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["legal"] is True
    assert all(op["error"] is None and op["buffer_bytes"] == op["taken_bytes"] for op in found["ops"])
    save_plan(replace(t3k), file)
    assert main(["check", str(LLAMA_8B), "--device", "n150", "--plan", str(file)]) == 2
    assert "the plan is for t3k 1x8, the device is n150 1x1" in capsys.readouterr().err
