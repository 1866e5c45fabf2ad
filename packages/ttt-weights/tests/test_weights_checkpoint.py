"""Checkpoints on disk: what is read, when, and what is said of damaged ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ttt_core import WeightError
from ttt_weights import Checkpoint, StoredTensor

RNG = np.random.default_rng(0)
TENSORS: dict[str, Any] = {
    "model.embed_tokens.weight": RNG.normal(size=(8, 4)).astype(np.float32),
    "model.layers.0.self_attn.q_proj.weight": RNG.normal(size=(4, 4)).astype(ml_dtypes.bfloat16),
    "model.layers.0.self_attn.k_proj.weight": RNG.normal(size=(2, 4)).astype(np.float16),
    "model.norm.weight": np.ones(4, np.float32),
}
SHARDS = {
    "model-00001-of-00002.safetensors": list(TENSORS)[:2],
    "model-00002-of-00002.safetensors": list(TENSORS)[2:],
}


@pytest.fixture
def single(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    for file, names in SHARDS.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / file)
    write_index(tmp_path, {name: file for file, names in SHARDS.items() for name in names})
    return tmp_path


def write_index(directory: Path, weight_map: Any) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def refusal(directory: Path | str) -> str:
    with pytest.raises(WeightError) as caught:
        Checkpoint(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_every_tensor_is_there(kind: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(kind)
    checkpoint = Checkpoint(directory)
    assert set(checkpoint) == set(TENSORS)
    assert len(checkpoint) == len(TENSORS)
    for name, values in TENSORS.items():
        assert name in checkpoint
        stored = checkpoint[name]
        assert isinstance(stored, StoredTensor)
        assert (stored.name, stored.shape) == (name, values.shape)
        read = stored.read()
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read.astype(np.float32), values.astype(np.float32))
        assert repr(stored) == f"StoredTensor({name}, {list(values.shape)})"
    assert checkpoint.num_bytes == sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    assert Checkpoint(str(directory)).keys() == checkpoint.keys()


def test_what_torch_wrote_is_read_without_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    save_torch({"a": values.bfloat16(), "b": values.half(), "c": values}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    for name, expected in (("a", values.bfloat16()), ("b", values.half()), ("c", values)):
        np.testing.assert_array_equal(checkpoint[name].read().astype(np.float32), expected.float().numpy())


def test_a_single_file_goes_before_an_index(single: Path) -> None:
    write_index(single, {"other": "missing.safetensors"})  # as transformers chooses
    assert set(Checkpoint(single)) == set(TENSORS)


def test_it_is_a_mapping(single: Path) -> None:
    checkpoint = Checkpoint(single)
    assert "nothing" not in checkpoint
    assert 5 not in checkpoint
    assert checkpoint.get("nothing") is None
    assert checkpoint.get("model.norm.weight") is checkpoint["model.norm.weight"]
    assert dict(checkpoint) == dict(checkpoint.items())


def test_an_unknown_name_has_the_nearest_as_a_hint(single: Path) -> None:
    checkpoint = Checkpoint(single)
    with pytest.raises(WeightError) as caught:
        checkpoint["model.layers.0.self_attn.qproj.weight"]
    assert str(caught.value) == (
        f"the checkpoint {single} has no tensor model.layers.0.self_attn.qproj.weight (it has 4 tensors). The closest name in it "
        "is model.layers.0.self_attn.q_proj.weight. Its config.json and its weights do not belong together, or the weights are "
        "incomplete."
    )
    with pytest.raises(WeightError) as caught:
        checkpoint["zzz"]
    assert "closest" not in str(caught.value)


def test_no_directory_and_no_files(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing", str(tmp_path)):
        assert refusal(directory) == (
            f"{directory} has neither model.safetensors nor model.safetensors.index.json. Give the directory of a checkpoint in "
            "safetensors format, as transformers' save_pretrained writes it."
        )


def test_a_missing_shard_is_named(sharded: Path) -> None:
    lost = sharded / "model-00002-of-00002.safetensors"
    lost.unlink()
    assert refusal(sharded) == (
        f"{lost} is missing; model.safetensors.index.json lists it as a part of the checkpoint. Fetch the checkpoint again."
    )


def test_an_index_that_names_a_tensor_that_is_not_there(sharded: Path) -> None:
    names = {name: file for file, names in SHARDS.items() for name in names}
    write_index(sharded, names | {"lm_head.weight": "model-00002-of-00002.safetensors"})
    assert refusal(sharded) == (
        f"{sharded}/model.safetensors.index.json says that lm_head.weight is in model-00002-of-00002.safetensors, but the file "
        "holds 2 other tensors. The download is mixed up: fetch the checkpoint again."
    )


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path, 0),
        lambda path: cut(path, 7),
        lambda path: cut(path, 100),
        lambda path: cut(path, path.stat().st_size - 1),
        lambda path: path.write_bytes(b"\xff" * 500),
        lambda path: path.write_text("<html>404: not found</html>" * 20),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
    ],
    ids=["empty", "no header", "half a header", "one byte short", "noise", "a web page", "too long"],
)
@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_a_damaged_file_is_named(damage: Callable[[Path], object], kind: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(kind)
    path = sorted(directory.glob("*.safetensors"))[-1]
    damage(path)
    message = refusal(directory)
    assert re.fullmatch(
        rf"{re.escape(str(path))} \({path.stat().st_size:,} bytes\) is not a whole safetensors file: .+\. "
        r"It was cut short or damaged: fetch it again\.",
        message,
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", '"text"', "{}", '{"weight_map": []}', '{"weight_map": null}', '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": null}}', '{"weight_map": {"a": ["x"]}}', '{"weight_map": {"a": {}}}', '{"weight_map": {}}',
    ],
)  # fmt: skip
def test_a_broken_index_is_named(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    message = refusal(tmp_path)
    assert message.startswith(f"{index} is not an index of safetensors files (a JSON object with a 'weight_map'")
    assert message.endswith(". Fetch the checkpoint again.")


def test_an_index_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(b"\xff\xfe\x00")
    assert "is not an index of safetensors files" in refusal(tmp_path)


def test_an_index_that_leads_out_of_the_directory(sharded: Path) -> None:
    outside = sharded.parent / "outside.safetensors"
    save_file({"a": np.ones(2, np.float32)}, outside)
    for file in ("../outside.safetensors", str(outside)):
        write_index(sharded, {"a": file})
        assert "is not an index of safetensors files" in refusal(sharded)


def test_an_unreadable_file_is_named(single: Path) -> None:
    (single / "model.safetensors").unlink()
    (single / "model.safetensors").mkdir()
    assert "neither model.safetensors nor" in refusal(single)


def test_nothing_is_read_until_asked(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda self, name: (reads.append(name), read(self, name))[1])
    checkpoint = Checkpoint(sharded)
    stored = [checkpoint[name] for name in checkpoint]
    assert [tensor.shape for tensor in stored] == [values.shape for values in TENSORS.values()]
    assert reads == []
    stored[0].read()
    assert reads == [next(iter(TENSORS))]


def test_a_large_checkpoint_opens_without_its_weights_in_memory(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((1, 4), np.float32)}, path)
    header = path.read_bytes()[8:-16].replace(b"[1,4]", b"[67108864,4]").replace(b"[0,16]", b"[0,1073741824]").rstrip()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:  # 1 GB with a hole where the values are
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**30)
    before = resident()
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint["a"].shape == (2**26, 4)
    assert resident() - before < 2**24
