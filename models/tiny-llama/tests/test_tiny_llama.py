"""The shipped checkpoint, the task, and the commands that make and judge a checkpoint."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from tiny_llama import checkpoint as checkpoint_files
from tiny_llama import evaluate, task, train
from tiny_llama.model import MAX_POSITIONS, build_model
from tiny_llama.task import Example, check, held_out, is_held_out, solve, training_examples
from tiny_llama.tokenizer import build_tokenizer

CHECKPOINT = Path(__file__).parents[1] / "checkpoint"
MAX_PARAMETERS = 1_000_000
MAX_BYTES = 4_000_000


def test_parameters_and_bytes_stay_small() -> None:
    model, _ = checkpoint_files.load(CHECKPOINT, torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) <= MAX_PARAMETERS
    assert sum(path.stat().st_size for path in CHECKPOINT.rglob("*")) <= MAX_BYTES


def test_shipped_configuration_is_what_the_code_builds() -> None:
    model, tokenizer = checkpoint_files.load(CHECKPOINT, torch.float32)
    built = build_model(build_tokenizer(MAX_POSITIONS), seed=0)
    assert {name: weight.shape for name, weight in model.state_dict().items()} == {
        name: weight.shape for name, weight in built.state_dict().items()
    }
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.max_position_embeddings >= 256
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_tokenizer_adds_bos_and_round_trips() -> None:
    _, tokenizer = checkpoint_files.load(CHECKPOINT, torch.float32)
    ids = tokenizer("307+58=365</s>")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert len(ids) == 2 + len("307+58=365")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "307+58=365"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shipped_checkpoint_answers_held_out_prompts(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(CHECKPOINT), "--dtype", dtype]) == 0
    assert "of 200 held-out prompts answered right" in capsys.readouterr().out


def test_untrained_model_is_judged_insufficient(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(MAX_POSITIONS)
    checkpoint_files.save(build_model(tokenizer, seed=0), tokenizer, tmp_path / "untrained")
    assert evaluate.main([str(tmp_path / "untrained")]) == 1


def test_shipped_prompts_are_the_held_out_examples() -> None:
    prompts = json.loads((CHECKPOINT / "prompts.json").read_text(encoding="utf-8"))
    assert prompts == [asdict(example) for example in held_out()]
    assert len({entry["prompt"] for entry in prompts}) == task.NUM_EVALUATED
    assert {example.shape[0] for example in held_out(5)} == {"+", "-"}
    assert len({example.shape for example in held_out(5)}) == 5


@pytest.mark.parametrize("seed", [0, 1])
def test_training_never_sees_a_held_out_prompt(seed: int) -> None:
    trained_on = {example.prompt for example in islice(training_examples(seed), 50_000)}
    assert trained_on.isdisjoint(example.prompt for example in held_out())
    assert not any(is_held_out(prompt) for prompt in trained_on)


def test_training_answers_are_right() -> None:
    for example in islice(training_examples(0), 2000):
        left, right = example.prompt.rstrip("=").replace("+", " ").replace("-", " ").split()
        sign = 1 if "+" in example.prompt else -1
        assert int(example.answer) == int(left) + sign * int(right) >= 0


@pytest.mark.parametrize(("prompt", "completion"), [("37+58=", "95"), ("83-47=", "36"), ("7-7=", "0")])
def test_check_accepts_the_right_answer(prompt: str, completion: str) -> None:
    assert check(prompt, completion)


@pytest.mark.parametrize("completion", ["", "94", "095", "59", "95 ", "95</s>", "+95", "95=", "9", "955"])
def test_check_rejects_any_other_answer(completion: str) -> None:
    assert not check("37+58=", completion)


@pytest.mark.parametrize(
    "prompt", ["", "37+58", "37*58=", "1000+1=", "037+5=", "1+2+3=", "\u0663+\u0665=", "1+2=\n"]
)
def test_a_foreign_prompt_is_an_error(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"wanted A\+B= or A-B= with A and B from 0 to 999"):
        solve(prompt)


def test_a_negative_difference_is_an_error() -> None:
    with pytest.raises(ValueError, match="whose answer is negative; swap the two operands"):
        solve("3-5=")


@pytest.mark.parametrize("count", [0, 201])
def test_held_out_has_200_examples(count: int) -> None:
    with pytest.raises(ValueError, match=f"got a count of {count} held-out examples, wanted 1 to 200"):
        held_out(count)


def test_only_answers_and_the_end_are_trained() -> None:
    tokenizer = build_tokenizer(MAX_POSITIONS)
    _, labels = train.encode(tokenizer, [Example("9+9=", "18"), Example("123+456=", "579")])
    answers = [tokenizer.decode(row[row != train.IGNORED]) for row in labels]
    assert answers == ["18</s>", "579</s>"]


def test_training_is_reproducible() -> None:
    tokenizer = build_tokenizer(MAX_POSITIONS)
    first, second, other = (
        train.train(tokenizer, seed=seed, steps=3, batch_size=16).state_dict() for seed in (7, 7, 8)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_interrupted_training_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int) -> Iterator[Example]:
        yield from islice(training_examples(seed), train.BATCH_SIZE + 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "training_examples", interrupted)
    assert train.main(["--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_interrupted_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(directory: Path) -> None:
        assert (directory / "model.safetensors").is_file()
        raise KeyboardInterrupt

    tokenizer = build_tokenizer(MAX_POSITIONS)
    monkeypatch.setattr(tokenizer, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_files.save(build_model(tokenizer, seed=0), tokenizer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _assert_refused(
    main: Callable[[list[str]], int], arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: --out"),
        (["--out", "{tmp}/new", "--seed", "x"], "got 'x', wanted a whole number from 0 to 4294967295"),
        (["--out", "{tmp}/new", "--seed", "-1"], "got '-1', wanted a whole number"),
        (["--out", "{tmp}/new", "--steps", "9"], "unrecognized arguments: --steps 9"),
        (["--out", "{tmp}"], "exists already and is not an empty directory"),
        (["--out", "{tmp}/file"], "exists already and is not an empty directory"),
        (["--out", "{tmp}/none/new"], "none is not a directory. Make it first."),
        (["--out", "{tmp}/" + "x" * 300], "File name too long"),
    ],
)
def test_train_refuses_wrong_input(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    _assert_refused(train.main, [word.format(tmp=tmp_path) for word in arguments], expected, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_evaluate_refuses_what_is_not_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, expected in (
        ([], "the following arguments are required: checkpoint"),
        ([str(tmp_path)], "is not a checkpoint: it has no config.json, model.safetensors, tokenizer.json"),
        ([str(tmp_path / "none")], "is not a checkpoint"),
        ([str(CHECKPOINT), "--dtype", "int8"], "invalid choice: 'int8'"),
    ):
        _assert_refused(evaluate.main, arguments, expected, capsys)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_evaluate_refuses_a_truncated_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(CHECKPOINT, broken)
    whole = (broken / name).read_bytes()
    (broken / name).write_bytes(whole[: len(whole) // 2])
    _assert_refused(evaluate.main, [str(broken)], "cannot be read as a checkpoint", capsys)
