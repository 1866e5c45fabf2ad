"""`ttt run` as people call it: the default run, JSON, and every kind of bad input."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from ttt_cli import main

ROOT = Path(__file__).parents[3]
TINY = ROOT / "models" / "tiny-llama" / "checkpoint"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to spoil."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["run", *arguments, "--json", "--backend", "mock"])
    return code, json.loads(capsys.readouterr().out)


def test_the_default_run_answers_and_compares(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "packages")
    assert main(["run"]) == 0
    captured = capsys.readouterr()
    lines = [line.strip() for line in captured.out.splitlines()]
    answers = {sample["prompt"]: sample["answer"] for sample in json.loads((TINY / "prompts.json").read_text())[:5]}
    for prompt, answer in answers.items():
        assert [prompt, answer, "right"] in [line.split() for line in lines]
    assert "tokens identical to Hugging Face: yes" in lines
    assert any(line.startswith("largest logit difference: ") for line in lines)
    operations = next(line for line in lines if line.startswith("device ops validated: "))
    assert int(operations.rpartition(" ")[2].replace(",", "")) > 500
    assert "Traceback" not in captured.err


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = run_json(
        capsys, str(TINY), "--prompt", "2+7=", "--prompt", "583+785=", "--compare", "--max-new-tokens", "6"
    )
    assert code == 0
    assert {key: document[key] for key in ("schema", "device", "backend", "values", "rounding", "weights", "kv")} == {
        "schema": 1,
        "device": "n150",
        "backend": "mock",
        "values": "golden",
        "rounding": "none",
        "weights": "bfp8",
        "kv": "bfp8",
    }
    assert [(answer["answer"], answer["right"]) for answer in document["answers"]] == [("9", True), ("1368", True)]
    assert document["comparison"]["tokens_identical"]
    assert document["comparison"]["largest_logit_difference"] < 1e-4
    assert document["device_operations"] > 500


def test_a_seed_repeats_in_any_slot_and_json_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--temperature", "3", "--top-k", "8", "--max-new-tokens", "12"]
    prompts = ["430-41=", "583+785=", "185-89="]
    arguments = [argument for prompt in prompts for argument in ("--prompt", prompt)]
    code, document = run_json(capsys, str(TINY), *arguments, *options)
    assert code == 0
    assert document["sampling"] == {
        "temperature": 3.0,
        "top_k": 8,
        "top_p": None,
        "min_p": None,
        "repetition_penalty": 1.0,
        "seed": None,
    }
    assert len({answer["seed"] for answer in document["answers"]}) == 3
    for answer in document["answers"]:
        others = ["--prompt", "1+1=", "--prompt", answer["prompt"]]
        _, again = run_json(capsys, str(TINY), *others, *options, "--seed", str(answer["seed"]))
        assert again["answers"][1]["tokens"] == answer["tokens"]
        assert again["sampling"]["seed"] == answer["seed"]


def test_sampling_is_said_and_the_default_run_does_not_compare_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["run", "--backend", "mock", "--top-p", "0.01", "--repetition-penalty", "1.5", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sampled: temperature 1, top-p 0.01, repetition-penalty 1.5, seed 7" in lines
    assert not any("Hugging Face" in line for line in lines)
    assert main(["run", "--backend", "mock", "--min-p", "0.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sampled: temperature 1, min-p 0.9" in lines
    assert lines[1].split() == ["prompt", "answer", "verdict", "seed"]


def test_temperature_0_is_greedy(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(TINY), "--prompt", "583+785=", "--max-new-tokens", "8"]
    _, greedy = run_json(capsys, *arguments)
    _, compared = run_json(capsys, *arguments, "--temperature", "0", "--top-k", "3", "--seed", "4", "--compare")
    assert greedy["sampling"] is None
    assert compared["comparison"]["tokens_identical"]
    assert compared["answers"][0]["tokens"] == greedy["answers"][0]["tokens"]
    assert compared["answers"][0]["seed"] is None


@pytest.mark.parametrize("weights", ["bf16", "bfp8"])
def test_device_rounding_still_does_sums(capsys: pytest.CaptureFixture[str], weights: str) -> None:
    code, document = run_json(capsys, str(TINY), "--rounding", "device", "--weights", weights, "--max-new-tokens", "6")
    assert code == 0
    assert document["comparison"] is None
    assert all(answer["right"] for answer in document["answers"])


def test_all_sample_prompts_in_batches_of_32_are_at_least_99_percent_right(capsys: pytest.CaptureFixture[str]) -> None:
    samples = json.loads((TINY / "prompts.json").read_text())
    right = 0
    for start in range(0, len(samples), 32):
        prompts = [argument for sample in samples[start : start + 32] for argument in ("--prompt", sample["prompt"])]
        _, document = run_json(capsys, str(TINY), *prompts, "--max-new-tokens", "6")
        right += sum(answer["right"] for answer in document["answers"])
    assert right >= 0.99 * len(samples)


def test_tokens_that_differ_exit_1(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> None:
    """With 4-bit weights and an untrained model, greedy tokens part from float32's within a few steps."""
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(checkpoint)
    LlamaForCausalLM(config).save_pretrained(checkpoint)
    arguments = [str(checkpoint), "--compare", "--rounding", "device", "--weights", "bfp4", "--prompt", "12+34="]
    code, document = run_json(capsys, *arguments)
    assert (code, document["comparison"]["tokens_identical"]) == (1, False)
    assert main(["run", *arguments, "--backend", "mock"]) == 1
    assert "tokens identical to Hugging Face: no" in capsys.readouterr().out


def truncate(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def truncate_header(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{")


def reshape(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"][:-1].clone()
    save_file(tensors, path)


def drop(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path)


def add(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    save_file({**load_file(path), "model.layers.0.self_attn.q_proj.bias": torch.zeros(128)}, path)


def configure(**change: Any) -> Callable[[Path], None]:
    def spoil(checkpoint: Path) -> None:
        path = checkpoint / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    def spoil(checkpoint: Path) -> None:
        (checkpoint / name).write_text(text)

    return spoil


def nothing(checkpoint: Path) -> None:
    pass


BAD_CHECKPOINTS = {
    "no weights": (remove("model.safetensors"), [], "has neither model.safetensors nor model.safetensors.index.json."),
    "truncated weights": (truncate, [], "is not a whole safetensors file"),
    "truncated header": (truncate_header, [], "is not a whole safetensors file"),
    "wrong shape": (
        reshape,
        [],
        "model.layers.1.mlp.up_proj.weight has shape [319, 128], but [320, 128] is wanted for the up weight.",
    ),
    "missing tensor": (drop, [], "has no tensor model.layers.1.mlp.up_proj.weight"),
    "tensor that nothing reads": (add, [], "among them model.layers.0.self_attn.q_proj.bias"),
    "missing shard": (
        lambda checkpoint: (
            remove("model.safetensors")(checkpoint),
            write("model.safetensors.index.json", '{"weight_map": {"lm_head.weight": "model-1.safetensors"}}')(
                checkpoint
            ),
        ),
        [],
        "model-1.safetensors is missing; model.safetensors.index.json lists it",
    ),
    "broken index": (
        lambda checkpoint: (
            remove("model.safetensors")(checkpoint),
            write("model.safetensors.index.json", "[]")(checkpoint),
        ),
        [],
        "is not an index of safetensors files",
    ),
    "broken config": (write("config.json", "{"), [], "config.json is not valid JSON"),
    "no config": (remove("config.json"), [], "has no config.json"),
    "unsupported architecture": (
        configure(model_type="mamba"),
        [],
        "has model_type 'mamba'; supported are: deepseek_v2, deepseek_v3, gemma2",
    ),
    "unknown rope scaling": (
        configure(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}),
        [],
        "rope scaling 'yarn' is not supported; supported are: default, llama3.",
    ),
    "no tokenizer": (remove("tokenizer.json"), [], "tokenizer.json is missing"),
    "broken tokenizer": (write("tokenizer.json", "{}"), [], "tokenizer.json is not a tokenizer"),
    "broken prompts": (write("prompts.json", '{"a": 1}'), [], "prompts.json is not a JSON list of objects"),
    "no prompts": (remove("prompts.json"), [], "no prompt was given"),
    "unknown device": (nothing, ["--device", "n151"], "Unknown device 'n151': ttt-hw knows n150"),
    "unknown backend": (nothing, ["--backend", "cloud"], 'Invalid value "cloud" for --backend.'),
    "no card": (nothing, ["--backend", "silicon"], "No Tenstorrent card here"),
    "beyond the context": (
        nothing,
        ["--max-new-tokens", "256", "--prompt", "12+3="],
        "prompt 1 of 6 tokens and 256 new ones are 262 tokens, the model's context is 256.",
    ),
    "no new tokens": (nothing, ["--max-new-tokens", "0"], "max_new_tokens is 0; give at least 1."),
    "33 prompts": (
        nothing,
        ["--prompt", "1+1="] * 33,
        "33 prompts were given; at most 32 are decoded together. Split them into several batches.",
    ),
    "negative temperature": (
        nothing,
        ["--temperature", "-1"],
        "temperature is -1.0; 0 (greedy) or a number from 1e-06 to 1e+06 is allowed.",
    ),
    "no top-k": (nothing, ["--top-k", "0"], "top_k is 0; an integer of at least 1 is allowed."),
    "top-p above 1": (nothing, ["--top-p", "1.5"], "top_p is 1.5; a number from 0 to 1 is allowed."),
    "min-p above 1": (nothing, ["--min-p", "2"], "min_p is 2.0; a number from 0 to 1 is allowed."),
    "no repetition penalty": (nothing, ["--repetition-penalty", "0"], "repetition_penalty is 0.0; a number from 1e-06"),
    "negative seed": (nothing, ["--seed", "-3"], "seed is -3; an integer of at least 0 is allowed."),
    "not a seed": (nothing, ["--seed", "x"], "Invalid value for --seed"),
    "compared and sampled": (
        nothing,
        ["--compare", "--temperature", "0.8"],
        "--compare sets greedy tokens beside those of transformers, and sampling options were given: drawn tokens have "
        "nothing to be equal to. Leave out --compare, or the sampling options.",
    ),
    "compared and penalised": (
        nothing,
        ["--compare", "--temperature", "0", "--repetition-penalty", "1.2"],
        "--compare sets greedy tokens beside those of transformers",
    ),
    "empty prompt": (nothing, ["--prompt", ""], "prompt 1 is empty"),
    "unknown option": (nothing, ["--promt", "1+1="], "Unknown option: --promt."),
    "not a number": (nothing, ["--max-new-tokens", "many"], "Invalid value for --max-new-tokens"),
}


BEFORE_THE_DEVICE = (
    "33 prompts",
    "negative temperature",
    "no top-k",
    "negative seed",
    "compared and sampled",
    "empty prompt",
)


@pytest.mark.parametrize("name", BEFORE_THE_DEVICE)
def test_bad_options_are_found_before_the_device_is_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a device was opened")

    monkeypatch.setattr("ttt_generation._session.open_mesh", opened)
    _, arguments, _ = BAD_CHECKPOINTS[name]
    assert main(["run", str(TINY), *arguments]) == 2


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_bad_input_is_one_paragraph_and_exit_code_2(
    name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, arguments, message = BAD_CHECKPOINTS[name]
    spoil(checkpoint)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    if name == "no card" and Path("/dev/tenstorrent").exists():
        pytest.skip("there is a card")
    assert main(["run", str(checkpoint), *arguments]) == 2
    captured = capsys.readouterr()
    paragraph = captured.err.strip().removeprefix(
        "ttt: no Tenstorrent card here; n150 is a mock (ops are checked, not run)"
    )
    assert message in paragraph
    assert "Traceback" not in paragraph
    assert len(paragraph.strip().splitlines()) == 1
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_outside_a_clone_a_checkpoint_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run"]) == 2
    assert "no checkpoint was given" in capsys.readouterr().err
    assert main(["run", "nowhere"]) == 2
    assert "nowhere is not a directory." in capsys.readouterr().err


def test_as_a_program(tmp_path: Path) -> None:
    """The real process: exit codes, and stdout and stderr with nothing of ttnn's on them."""
    ttt = Path(sys.executable).with_name("ttt")
    arguments = ["run", str(TINY), "--prompt", "2+7=", "--max-new-tokens", "4", "--json"]
    done = subprocess.run([ttt, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answers"][0]["answer"] == "9"
    assert done.stderr == "ttt: no Tenstorrent card here; n150 is a mock (ops are checked, not run)\n"
    assert list(tmp_path.iterdir()) == []
    unknown = subprocess.run([ttt, "rum"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("ttt: unknown command 'rum'. The commands are: ")
    assert "run" in unknown.stderr
