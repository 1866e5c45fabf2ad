"""`ttt layout`, through its app."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

if importlib.util.find_spec("cyclopts") is None or importlib.util.find_spec("rich") is None:
    pytest.skip("needs the extra cli", allow_module_level=True)

from ttt_shard_dsl import LayoutError, from_json, parse, parse_rule
from ttt_shard_dsl.commands import app


def run(*arguments: str) -> int:
    code = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


def test_a_layout_is_checked_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    svg = tmp_path / "layout.svg"
    assert run("1 1 s d@core in l1", "--shape", "1,1,32,4096", "--grid", "8x4", "--mesh", "1x2", "--svg", str(svg)) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "1 1 s d@core in l1\n1×1×32×4096 bfloat16 tiles: 32 width shards of 32×128 in l1 on 0-0..7-3, "
    )
    assert "each chip: 8×4 cores" in out
    assert f"Drawn in {svg}." in out
    assert svg.read_text(encoding="utf-8").startswith("<svg ")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("k n@bank", "--shape", "64,4096", "--banks", "8", "--dtype", "bfp8", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert from_json(json.dumps(document["tree"])) == parse("k n@bank")
    assert (document["placement"]["num_shards"], document["placement"]["dtype"]) == (8, "bfloat8_b")
    assert document["placement"]["cores"] == [[bank, 0] for bank in range(8)]


RULE = "1 1 s d@cols@core in l1 -> 1 1 s d@core in l1"


def test_a_rule_lists_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RULE, "--shape", "1,1,32,4096", "--mesh", "1x8", "--topology", "line") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == RULE
    assert "x = ttnn.all_gather(x, dim=3, cluster_axis=1)" in lines
    assert [line.split() for line in lines if line.startswith("all_gather")] == [
        ["all_gather", "cols", "131,072", "229,376"]
    ]
    assert lines[-1].startswith("229,376 bytes on the busiest link of a line")
    assert run("s d -> s d in dram", "--shape", "32,64") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_rule_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RULE, "--shape", "1,1,32,4096", "--mesh", "1x8", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert from_json(json.dumps(document["tree"])) == parse_rule(RULE)
    kinds = [step["kind"] for step in document["steps"]]
    assert kinds == ["sharded_to_interleaved", "all_gather", "interleaved_to_sharded"]
    assert document["link_bytes"] == 131072


@pytest.mark.skipif(importlib.util.find_spec("ttt_hw") is None, reason="needs ttt-hw")
def test_a_board_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("1 1 s d@cols", "--shape", "1,1,32,4096", "--device", "t3k") == 0
    assert "mesh of 1×8 chips" in capsys.readouterr().out
    assert run("1 1 s d@cols", "--shape", "1,1,32,4096", "--device", "t3k", "--mesh", "2x4") == 0
    assert "mesh of 2×4 chips" in capsys.readouterr().out


def test_without_ttt_hw(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("ttt_shard_dsl.commands.import_module", missing)
    with pytest.raises(LayoutError) as error:
        run("1 1 s d", "--shape", "1,1,32,32", "--device", "t3k")
    assert str(error.value) == (
        "--device t3k: boards come from ttt-hw, which is not installed\n  allowed: --grid 8x8 --banks 12 --mesh 1x8"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["1 1 s d@cores", "--shape", "1,1,32,32"],
            "'cores' is not an axis of the device\n  1 1 s d@cores\n          ^^^^^\n  nearest valid: core",
        ),
        (
            ["1 1 s d", "--shape", "1x32"],
            "--shape 1x32 is not a list of sizes\n  allowed: integers of at least 1, as 1,1,32,4096",
        ),
        (["s d", "--shape", "32,32", "--grid", "8"], "--grid 8 is not two sizes\n  allowed: as 8x8"),
        (
            ["s d", "--shape", "32,32", "--mesh", "1x0"],
            "--mesh 1x0 is not a list of sizes\n  allowed: integers of at least 1, as 1x8",
        ),
        (["s d", "--shape", "32,32", "--banks", "0"], "--banks 0\n  allowed: at least 1"),
        (
            ["s -> s", "--shape", "32", "--svg", "x.svg"],
            '--svg draws one layout, not a rule\n  s -> s\n  nearest valid: "s"',
        ),
    ],
)
def test_bad_input_is_a_paragraph_and_exit_code_2(arguments: list[str], message: str) -> None:
    with pytest.raises(LayoutError) as error:
        run(*arguments)
    assert str(error.value) == message
    assert error.value.exit_code == 2
