"""The conformance kit: what it finds in real blocks, in broken ones, and in a package from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ttnn

from ttt_attention import GroupedQueryAttention
from ttt_core import KVCache, SpecError, Tensor
from ttt_ffn import SwiGLU
from ttt_hw import download, upload
from ttt_testing.conformance import ConformanceReport, Implementation, check, discover

OUTSIDE = '''
import numpy as np
import torch
import ttnn
from ttt_hw import upload
from ttt_testing.conformance import Implementation

class Doubling:
    """y = 2x + table, in 20 lines of somebody else."""
    def __init__(self, table, device):
        self.table = upload(table[None, None, None], device, dtype="bfloat16")
        self.spec = type("Spec", (), {"hidden_dim": len(table)})()
    def prefill_forward(self, x, /):
        return ttnn.add(ttnn.mul(x, FACTOR), self.table)
    def decode_forward(self, x, /):
        return ttnn.add(ttnn.mul(x, 2.0), self.table)

def make(mesh):
    table = np.arange(64, dtype=np.float32)
    return Doubling(table, mesh), lambda x: 2 * x + torch.from_numpy(table)

FACTOR = 2.0
doubling = Implementation(protocol="feed_forward", make=make)
'''


def checked(block: Any, reference: Any, mesh: Any, protocol: Any = "attention") -> ConformanceReport:
    implementation = Implementation(protocol=protocol, make=lambda _: (block, reference), tolerance=1e-4)
    return check({"it": implementation}, mesh)


def found(report: ConformanceReport) -> dict[str, str]:
    """Base checks by the first word of what they check, extended ones by their ability."""
    names = ("prefill", "decode", "precision", "memory")
    base = [result for result in report.results if result.ability == "base"]
    by_name = dict(zip(names, (result.status for result in base), strict=False))
    return by_name | {result.ability: result.status for result in report.results if result.ability != "base"}


def test_real_blocks_conform(blocks: Any, mesh: Any) -> None:
    attention, ffn, norm = blocks.attention(), blocks.ffn(), blocks.norm()
    base = dict.fromkeys(("prefill", "decode", "precision", "memory"), "passed")
    assert found(checked(attention, blocks.of(attention), mesh)) == base | {
        "cached": "passed", "weighted": "passed", "windowed": "not implemented", "paged": "passed",
    }  # fmt: skip
    assert found(checked(ffn, blocks.of(ffn), mesh, "feed_forward")) == base | {"weighted": "passed"}
    assert found(checked(norm, None, mesh, "norm")) == base | {"weighted": "passed"}
    layer = checked(blocks.layer(), None, mesh, "layer")
    assert not layer.failures, str(layer)


def test_the_blocks_that_packages_name_conform(mesh: Any) -> None:
    report = check(discover(), mesh)
    assert {result.implementation for result in report.results} >= {
        "decoder-layer", "decoder-model", "gated-mlp", "geglu", "grouped-query-attention", "layer-norm", "lm-head", "mlp", "moe",
        "multi-latent-attention", "rms-norm", "swiglu", "token-embedding",
    }  # fmt: skip
    assert not report.failures, str(report)


def test_the_command_checks_one_of_them() -> None:
    command = [str(Path(sys.executable).with_name("ttt")), "conformance", "--only", "rms-norm", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["device"], document["backend"], document["values"]) == ("n150", "mock", "golden")
    assert {result["implementation"] for result in document["results"]} == {"rms-norm"}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (3, "is a int; it must be an Implementation"),
        ({"protocol": "norm"}, "does not have the fields of an Implementation: .*'make'"),
        ({"protocol": "norm", "make": print, "atol": 1}, "does not have the fields of an Implementation: .*'atol'"),
    ],
)
def test_an_entry_that_is_something_else_is_refused(entry: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, value = "mine", "mine:it"

        @staticmethod
        def load() -> Any:
            return entry

    monkeypatch.setattr("ttt_testing.conformance.entry_points", lambda group: [Entry])
    with pytest.raises(SpecError, match=rf"The implementation mine \(mine:it\) {says}"):
        discover()


def test_a_module_that_keeps_memory_fails(blocks: Any, mesh: Any) -> None:
    kept = []

    class Keeping(SwiGLU):
        def decode_forward(self, x: Tensor, /) -> Tensor:
            y = super().decode_forward(x)
            kept.append(ttnn.to_memory_config(y, ttnn.DRAM_MEMORY_CONFIG))
            return y

    block = blocks.ffn(kind=Keeping)
    report = checked(block, blocks.of(block), mesh, "feed_forward")
    assert [failure.check for failure in report.failures] == ["a forward gives back the memory that it takes"]
    assert report.failures[0].detail.startswith("a decode keeps ")
    assert "it (feed_forward) fails on n150 (mock)\n  passed          base     prefill computes" in str(report)


def test_a_prefill_into_the_wrong_slot_fails(blocks: Any, mesh: Any) -> None:
    class Everywhere(GroupedQueryAttention):
        def prefill_forward(
            self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
        ) -> Tensor:
            if cache is not None:
                super().prefill_forward(x, cache=cache.for_user(0), positions=positions)
            return super().prefill_forward(x, cache=cache, positions=positions)

    block = blocks.attention(kind=Everywhere)
    report = checked(block, blocks.of(block), mesh)
    assert {failure.ability for failure in report.failures} == {"base", "cached"}  # it spoils user 0 for decode too
    assert "prefill for user 1 wrote keys of other users" in str(report)


def test_an_attention_without_a_cache_is_incomplete_not_wrong(blocks: Any, mesh: Any) -> None:
    class Uncached:
        def __init__(self, inner: Any) -> None:
            self.spec, self.weights = inner.spec, inner.weights
            self.prefill_forward, self.decode_forward = inner.prefill_forward, inner.decode_forward

    inner = blocks.attention()
    report = checked(Uncached(inner), blocks.of(inner), mesh)
    assert not report.failures, str(report)
    assert found(report)["decode"] == found(report)["cached"] == "not implemented"


@pytest.mark.parametrize("reads_table", [True, False])
def test_pages_are_found_by_the_table(reads_table: bool, blocks: Any, mesh: Any) -> None:
    """One page a user: reading the table is to deal the users to the slots that it names."""

    class Paged(GroupedQueryAttention):
        def decode_forward(
            self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
        ) -> Tensor:
            if page_table is None or not reads_table:
                return super().decode_forward(x, cache=cache, positions=positions)
            order = download(page_table)[:, 0]
            dealt = upload(download(x)[:, :, np.argsort(order)], mesh, dtype="bfloat16")
            now = upload(download(positions)[np.argsort(order)], mesh, dtype="int32", layout="row_major")
            y = super().decode_forward(dealt, cache=cache, positions=now)
            result: Tensor = upload(download(y)[:, :, order], mesh, dtype="bfloat16")
            return result

    block = blocks.attention(kind=Paged)
    report = checked(block, blocks.of(block), mesh)
    assert found(report)["paged"] == ("passed" if reads_table else "failed"), str(report)
    if not reads_table:
        assert (
            report.failures[0].detail == "user 0 was given page 2, and its keys are not there: the table was not read"
        )


def test_what_lacks_a_method_fails(mesh: Any) -> None:
    report = checked(object(), None, mesh, "norm")
    assert str(report).endswith("object is no Norm of ttt_core: a method is missing")


def test_one_command_checks_a_package_from_outside(tmp_path: Path) -> None:
    wrong = OUTSIDE.replace("FACTOR = 2.0", "FACTOR = 2.5")
    done = ttt(tmp_path, wrong, "--only", "doubling", "--backend", "mock")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith(
        "doubling (feed_forward) fails on n150 (mock)\n  failed          base     prefill computes"
    )
    assert "first beyond it: [0, 0] (row 0): got" in done.stdout
    assert "\n  passed          base     decode computes" in done.stdout
    assert "not implemented weighted weights are listed" in done.stdout


def test_one_json_document(tmp_path: Path) -> None:
    done = ttt(tmp_path, OUTSIDE, "--only", "doubling", "--device", "t3k", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert (data["device"], data["backend"], data["values"]) == ("t3k", "mock", "golden")
    assert {result["status"] for result in data["results"]} == {"passed", "not implemented"}


@pytest.mark.parametrize(
    ("text", "only", "message"),
    [
        (OUTSIDE, "doublin", "There is no implementation 'doublin'. Those installed: decoder-layer"),
        ("doubling = 3", "doubling", "(outside:doubling) is a int; it must be an Implementation of ttt_testing"),
        ("", "doubling", "(outside:doubling) cannot be loaded: "),
    ],
)
def test_what_cannot_be_checked_is_said(
    tmp_path: Path, text: str, only: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    with pytest.raises(SpecError) as caught:
        discover(only)
    assert message in str(caught.value)


def install(folder: Path, text: str) -> None:
    """What a wheel of a package `outside` would unpack."""
    (folder / "outside.py").write_text(text)
    information = folder / "outside-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[ttt.conformance]\ndoubling = outside:doubling\n")


def ttt(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ttt conformance` where the package is installed."""
    install(folder, text)
    code = (
        "import sys\nfrom ttt_core import TttError\nfrom ttt_testing.commands import app\n"
        "try: sys.exit(app(sys.argv[1:], result_action='return_value'))\n"
        "except TttError as error: print(error, file=sys.stderr); sys.exit(error.exit_code)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(folder), "LOGURU_LEVEL": "WARNING"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
