"""Every block of the packages is registered, and what its record says is so; `ttt list-modules` imports none of them."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from tools.workspace import packages

from ttt_core import ModuleRecord, modules

BLOCKS = ("ttt_norm", "ttt_embedding", "ttt_attention", "ttt_ffn", "ttt_patterns")
CATEGORY_OF_PROTOCOL = {"feed_forward": "ffn", "causal_lm": "model"}
RECORDS = {record.path: record for record in modules() if record.package in packages()}


def test_every_public_block_is_registered() -> None:
    found = set()
    for name in BLOCKS:
        module = importlib.import_module(name)
        public = {each: getattr(module, each) for each in module.__all__}
        found |= {f"{name}.{each}" for each, value in public.items() if is_block(value)}
    assert len(found) > 18
    assert found - RECORDS.keys() == set()


def is_block(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "prefill_forward")


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_says_what_is_so(record: ModuleRecord) -> None:
    block = record.load()
    assert record.name in importlib.import_module(record.home).__all__
    assert record.package == record.home.replace("_", "-")
    assert record.version == packages()[record.package].project["version"]
    first = " ".join(block.__doc__.split()).split(". ")[0].rstrip(".")
    assert record.summary == first
    assert "=" not in record.summary.split("with")[0], "the docstring begins with a formula; say first what it does"
    assert len(record.summary) <= 130
    assert record.features


def test_categories_are_those_of_the_conformance_kit() -> None:
    """Its entries are called as the classes: grouped-query-attention."""
    by_name = {
        re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", r.name).lower(): r for r in RECORDS.values()
    }
    by_name |= {record.name.lower(): record for record in RECORDS.values()}
    entries = [
        each for each in entry_points(group="ttt.conformance") if each.value.split(".")[0] in (*BLOCKS, "ttt_factory")
    ]
    assert len(entries) > 10
    for entry in entries:
        protocol = entry.load()["protocol"]
        assert by_name[entry.name].category == CATEGORY_OF_PROTOCOL.get(protocol, protocol)


@pytest.mark.parametrize("arguments", [["list-modules", "--category", "attention"], ["search", "flash attention"]])
def test_the_commands_import_no_block(arguments: list[str]) -> None:
    code = "import sys\nfrom ttt_cli import main\ncode = main(sys.argv[1:])\n"
    code += f"print(code, *({{'torch', 'ttnn', 'numpy', *{BLOCKS}}} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"], capture_output=True, text=True, check=True
    )
    assert done.stderr == "0\n"
    found = json.loads(done.stdout)
    names = [each["name"] for each in found.get("modules", found.get("results"))]
    assert names[0 if "search" in arguments else 1] == "FlashAttention"


def test_an_unknown_category_is_one_paragraph() -> None:
    command = Path(sys.executable).with_name("ttt")
    done = subprocess.run(
        [command, "list-modules", "--category", "attentoin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("There are no modules of the category 'attentoin'; those are attention, cache, ")
    assert len(done.stderr.splitlines()) == 1
