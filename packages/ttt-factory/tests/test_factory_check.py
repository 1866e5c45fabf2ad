"""`ttt check`: public models on four boards, its bytes against sums made another way, and bad input."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ttnn

from ttt_cli import main
from ttt_factory import ModelFactory, spec_of_config
from ttt_factory.check import ModeCheck
from ttt_factory.huggingface import read_json
from ttt_factory.memory import Demand, dram_use, placement_of_cache
from ttt_hw import DType, OperationRecord, allocate, board_of, open_mesh

PROGRAM = Path(__file__).with_name("check_models.py")
CONFIGS = Path(__file__).with_name("configs")
CHIPS = {"n150": 1, "n300": 2, "t3k": 8, "p150": 1}
# One test process per board has its reports.
DEVICES = [pytest.param(device, marks=pytest.mark.xdist_group(f"check {device}")) for device in CHIPS]
FITTING = ("llama-3.2-1b", "llama-3.1-8b", "mistral-7b-v0.1", "qwen2.5-7b", "qwen3-8b")
# Columns of a weight that lies over DRAM banks are whole tiles on each of 12 banks: of 1792, an eighth of Llama-70B's, 1920.
OVER_BANKS = 1.07
MODES = ["prefill 128", "prefill 1024", "prefill 2048"]


@cache
def reports(device: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), device], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("model", FITTING)
def test_every_operation_is_legal(model: str, batch: int, device: str) -> None:
    report = reports(device)[f"{model} {batch} bfloat8_b"]
    if (model, device) == ("qwen2.5-7b", "t3k"):
        assert report["refused"].startswith(
            "28 query heads and 4 key-value heads do not split over 8 chips: query heads must be a multiple of the chips, "
            "key-value heads a multiple or a divisor. Nearest legal degree: 4;"
        )
        return
    assert report["legal"]
    assert [mode["mode"] for mode in report["modes"]] == [f"decode batch {batch}", *MODES]
    assert all(operation["error"] is None for mode in report["modes"] for operation in mode["operations"])
    assert all(len(mode["operations"]) > 25 for mode in report["modes"])
    assert all(mode["refusal"] is None for mode in report["modes"])
    if batch == 1:
        assert report["fits"]


def expected_bytes(name: str, chips: int, *, batch: int, bytes_per_weight: float) -> tuple[int, int]:
    """Weights and cache of a model from its parameter counts: matrices in the weight's dtype, the table and vectors in bf16.

    bfp8 has 1088 bytes a tile of 1024 values. Equal to what is reported but for padding: vectors fill a tile's 32 rows, and
    each tensor rounds up to whole pages on all banks, or to whole tiles of columns on each.
    """
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv_heads, vocabulary = config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"]
    head_dim = config.get("head_dim") or hidden // heads
    matrices = layers * (2 * heads * head_dim * hidden + 2 * kv_heads * head_dim * hidden + 3 * hidden * inner)
    matrices += vocabulary * hidden  # the head, split like the rest
    shared = vocabulary * hidden * 2  # the embedding table, whole on every chip
    shared += 2 * config["max_position_embeddings"] * head_dim * 2  # cosines and sines
    cache = 2 * layers * batch * kv_heads * 2048 * head_dim * 1088 / 1024
    return round(matrices * bytes_per_weight / chips + shared), round(cache / chips)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", [*FITTING, "llama-3.1-70b"])
def test_bytes(model: str, device: str) -> None:
    chips = CHIPS[device]
    for batch, dtype, size in ((1, "bfloat8_b", 1088 / 1024), (32, "bfloat8_b", 1088 / 1024), (1, "bfloat16", 2)):
        report = reports(device)[f"{model} {batch} {dtype}"]
        if "refused" in report:
            continue
        weights, cache_bytes = expected_bytes(model, chips, batch=batch, bytes_per_weight=size)
        dram = report["dram_bytes_per_chip"]
        assert weights <= dram["weights"] < weights * OVER_BANKS + 2**24
        assert cache_bytes <= dram["cache"] < cache_bytes * 1.04
        assert dram["total"] == dram["weights"] + dram["cache"] + dram["activations"]
        assert report["fits"] == (dram["total"] <= dram["capacity"])
        assert dram["missing"] == max(0, dram["total"] - dram["capacity"])
        assert dram["activations"] >= 2048 * 4 * json.loads((CONFIGS / f"{model}.json").read_text())["hidden_size"]


def test_another_mesh_of_the_board() -> None:
    """28 heads do not split over 8 chips, and do over 4 columns. In a process of its own: t3k is another cluster."""
    config = str(CONFIGS / "qwen2.5-7b.json")
    ttt = Path(sys.executable).with_name("ttt")
    arguments = ["check", config, "--device", "t3k", "--mesh", "2x4", "--prefill", "128", "--json"]
    done = subprocess.run([ttt, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["legal"], report["fits"], report["chips"]) == (True, True, 8)
    assert (report["tensor_parallel"], report["data_parallel"]) == (4, 2)


@pytest.mark.xdist_group("check n150")
def test_what_does_not_fit_says_what_would_help() -> None:
    large = reports("n150")["llama-3.1-70b 1 bfloat8_b"]
    assert (large["legal"], large["fits"]) == (True, False)
    assert large["changes"] == ["t3k fits"]
    assert large["dram_bytes_per_chip"]["missing"] > 60 * 10**9
    coarse = reports("n150")["llama-3.1-8b 1 bfloat16"]
    assert (coarse["legal"], coarse["fits"]) == (True, False)
    assert coarse["changes"][0] == "bfp8 fits"
    assert math.isclose(coarse["dram_bytes_per_chip"]["missing"], 3.6e9, rel_tol=0.1)
    many = reports("n150")["llama-3.1-8b 32 bfloat8_b"]
    assert many["changes"] == ["bfp4 fits", "batch 16 fits", "n300 fits"]


@pytest.mark.xdist_group("check t3k")
def test_eight_chips_hold_what_one_does_not() -> None:
    report = reports("t3k")["llama-3.1-70b 1 bfloat8_b"]
    assert (report["legal"], report["fits"], report["chips"]) == (True, True, 8)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "llama-3.1-8b.json")
    assert main(["check", config, "--device", "N150", "--prefill", "128"]) == 0
    printed = capsys.readouterr().out
    assert "legal: yes" in printed
    assert "fits: yes" in printed
    assert "DramShardedMatmul" in printed
    assert "MinimalMatmul" in printed
    assert main(["check", config, "--device", "n150", "--prefill", "128", "--weights", "bf16", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["legal"], document["fits"], document["values"]) == (True, False, "none")
    assert document["changes"][0] == "bfp8 fits"


def checked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, Any]:
    assert main(["check", *arguments, "--device", "n150", "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(("users", "context", "cache_dtype"), [(3, 2000, "bfloat8_b"), (1, 100, "bfloat16")])
def test_bytes_are_those_that_ttnn_allocates(users: int, context: int, cache_dtype: DType) -> None:
    """All layers of a model at once, to the byte."""
    spec = spec_of_config(read_json(CONFIGS / "llama-3.2-1b.json"))
    demand = Demand(spec=spec, users=users, context=context, weight_dtype="bfloat8_b", cache_dtype=cache_dtype)
    with open_mesh("n150", backend="mock") as mesh:
        board = board_of(mesh)

        def allocated() -> int:
            dram = ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM)
            return int(dram.total_bytes_allocated_per_bank * dram.num_banks)

        start = allocated()
        model = ModelFactory.from_spec(spec, device=mesh, weight_dtype="bfloat8_b", cache_dtype=cache_dtype)
        weights = [weight.tensor for weight in model.weights]
        after_weights = allocated()
        caches = [
            allocate(mesh, dtype=cache_dtype, placement=placement_of_cache(layer.attention, demand, board))
            for layer in spec.layers
            for _ in ("keys", "values")
        ]
        found = dram_use(demand, board)
        assert (found.weights, found.cache) == (after_weights - start, allocated() - after_weights)
        assert len(weights) + len(caches) > 100


LONG = ["--batch", "32", "--context", "131072", "--prefill", "128"]
CACHE = 2 * 32 * 32 * 8 * 131072 * 128  # values of Llama-3.1-8B's keys and values for 32 users


def test_a_cache_of_many_gigabytes_takes_no_host_memory(capsys: pytest.CaptureFixture[str]) -> None:
    report = checked(capsys, str(CONFIGS / "llama-3.1-8b.json"), *LONG, code=1)
    assert (report["legal"], report["fits"]) == (True, False)
    assert CACHE * 1088 // 1024 <= report["dram_bytes_per_chip"]["cache"] < CACHE * 1.07
    assert report["changes"] == ["context 1024 fits"]


def test_one_layer_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys and values of one layer are larger than the board: no operation is tried, and the bytes are right."""
    report = checked(capsys, str(CONFIGS / "llama-3.1-8b.json"), *LONG, "--kv", "bf16", code=1)
    assert (report["legal"], report["fits"], report["modes"]) == (None, False, [])
    assert CACHE * 2 <= report["dram_bytes_per_chip"]["cache"] < CACHE * 2.01
    assert main(["check", str(CONFIGS / "llama-3.1-8b.json"), "--device", "n150", *LONG, "--kv", "bf16"]) == 1
    assert "legal: not known (0 operations accepted before memory ran out)" in capsys.readouterr().out


def test_one_tensor_that_does_not_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = json.loads((CONFIGS / "llama-3.1-8b.json").read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "max_position_embeddings": 524288}))
    report = checked(capsys, str(path), "--batch", "32", "--context", "524288", "--prefill", "128", code=1)
    assert (report["legal"], report["fits"], report["modes"]) == (None, False, [])
    assert CACHE * 4 * 1088 // 1024 <= report["dram_bytes_per_chip"]["cache"] < CACHE * 4 * 1.07


def test_activations_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    """They are not all counted, so no change is called enough."""
    arguments = [str(CONFIGS / "llama-3.1-8b.json"), "--context", "131072", "--prefill", "131072"]
    report = checked(capsys, *arguments, code=1)
    assert (report["legal"], report["fits"], report["changes"]) == (None, False, [])
    assert not report["activations_complete"]
    assert "Out of Memory" in report["modes"][-1]["refusal"]
    assert main(["check", *arguments, "--device", "n150"]) == 1
    assert "fits: no, at least " in capsys.readouterr().out


def test_a_refusal_of_ttt_itself_is_not_legal() -> None:
    """An error that no operation carries, as of a planner that finds no config."""
    refused = ModeCheck(mode="prefill 128", operations=[], refusal="qkv_matmul: no block size fits")
    ran_out = replace(
        refused,
        operations=[
            OperationRecord(name="linear", inputs=(), config="", cores=0, l1_bytes=0, error="Out of Memory", fits=False)
        ],
    )
    assert (refused.legal, ran_out.legal, replace(refused, refusal=None).legal) == (False, None, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch 0; 1 to 32 users can decode together."),
        (["--batch", "33"], "--batch 33; 1 to 32 users can decode together."),
        (["--context", "0"], "--context 0; give at least 1 token."),
        (
            ["--context", "200000"],
            "--context 200000 is beyond the model's 131072 positions. Give at most 131072.",
        ),
        (
            ["--prefill", "4096"],
            "--prefill 4096 with a context of 2048; a prompt has 1 to 2048 tokens. Shorten it, or give a longer --context.",
        ),
        (
            ["--prefill", "128;256"],
            "--prefill '128;256'; numbers of tokens with commas between them are wanted, such as 128,1024.",
        ),
        (["--weights", "fp8"], 'Invalid value "fp8" for --weights.'),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "llama-3.1-8b.json")
    assert main(["check", config, "--device", "n150", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_other_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(CONFIGS / "qwen2.5-7b.json")
    assert main(["check", config, "--device", "t3k"]) == 2
    assert "28 query heads and 4 key-value heads do not split over 8 chips" in capsys.readouterr().err
    assert main(["check", config, "--device", "t3k", "--mesh", "3x3"]) == 2
    assert (
        "t3k does not open as a mesh '3x3': it opens as 1x8, 8x1, 2x4, 4x2 (rows x columns), each with :hidden"
        in capsys.readouterr().err
    )
    assert main(["check", config, "--device", "t4k"]) == 2
    assert "Unknown device 't4k'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["check"], ["plan"], ["measure", "--output", "m.json"]])
def test_a_config_that_is_not_there(command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name, *more = command
    next_step = "Give a Hugging Face config.json, or the folder of one.\n"
    assert main([name, str(tmp_path), "--device", "n150", *more]) == 2
    assert capsys.readouterr().err == f"The folder {tmp_path} has no config.json. {next_step}"
    missing = tmp_path / "missing.json"
    assert main([name, str(missing), "--device", "n150", *more]) == 2
    assert capsys.readouterr().err == f"There is no {missing}. {next_step}"
