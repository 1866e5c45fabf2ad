"""Converted weights on disk: when they are found again, when not, and what crashes and other processes leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ttt_weights import ArraySource, Checkpoint, LazyWeight, cache_folder
from ttt_weights._recipe import recipe_of
from ttt_weights.cache import open_cache

SHAPE = (512, 1024)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTT_WEIGHTS_CACHE", str(tmp_path / "cache"))
    open_cache.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of weights that were converted, not found."""
    found: list[str] = []
    convert = LazyWeight._convert
    monkeypatch.setattr(LazyWeight, "_convert", lambda self: (found.append(self.name), convert(self))[1])
    return found


def checkpoint(folder: Path, seed: int = 0) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).normal(size=SHAPE).astype(ml_dtypes.bfloat16)
    save_file({"w": values}, folder / "new")
    os.replace(folder / "new", folder / "model.safetensors")
    return Checkpoint(folder)


def weight(source: Any, mesh: Any, build: Callable[..., Any] = np.transpose, **options: Any) -> LazyWeight:
    options = {"dtype": "bfloat8_b", "placement": "k n in dram", "shape": SHAPE[::-1]} | options
    return LazyWeight([source], build, device=mesh, **options)


def transposed(values: Any) -> Any:
    return values.T


def test_the_second_time_it_is_found(folder: Path, conversions: list[str], mesh: Any, tmp_path: Path) -> None:
    first = weight(checkpoint(tmp_path / "a")["w"], mesh, transposed)
    second = weight(Checkpoint(tmp_path / "a")["w"], mesh, transposed)
    assert first.tensor.shape == second.tensor.shape
    assert conversions == ["w"]
    copied = weight(checkpoint(tmp_path / "b")["w"], mesh, transposed)  # of the same content, at another place
    assert copied.tensor is not None
    assert conversions == ["w"]
    open_cache(folder).wait()
    assert len(list(folder.glob("*.tensorbin"))) == 1
    assert "partial" not in str(list(folder.iterdir()))


def test_what_is_found_has_the_same_bytes_and_exact_values_for_a_shadow(
    folder: Path, conversions: list[str], mesh: Any, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from ttt_testing import shadow

    source = checkpoint(tmp_path / "a")["w"]
    exact = torch.from_numpy(source.read().astype(np.float32).T)
    _ = weight(source, mesh, transposed).tensor
    found = weight(source, mesh, transposed)
    with shadow("none") as values:
        assert torch.equal(values.to_torch(found.tensor), exact)
    with shadow("device") as values:
        rounded = values.to_torch(weight(source, mesh, transposed).tensor)
    assert conversions == ["w"]
    assert not torch.equal(rounded, exact)
    assert torch.allclose(rounded, exact, atol=0.05)
    with shadow("device") as values:
        assert torch.equal(values.to_torch(weight(ArraySource(source.read(), "w"), mesh, transposed).tensor), rounded)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "bfloat4_b"},
        {"shape": (1, *SHAPE[::-1]), "build": lambda values: values.T[None], "placement": "b k n in dram"},
        {"build": lambda values: 2 * values.T},
        {"dtype": "bfloat16", "layout": "row_major"},
        {"placement": "k|2048 n in dram"},
    ],
    ids=["dtype", "shape", "build", "layout", "padding"],
)
def test_it_is_converted_again_where_it_differs(
    change: dict[str, Any], folder: Path, conversions: list[str], mesh: Any, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "a")["w"]
    _ = weight(source, mesh, transposed).tensor
    _ = weight(source, mesh, **({"build": transposed} | change)).tensor
    assert conversions == ["w", "w"]


def test_another_place_on_the_chip_is_the_same_file(
    folder: Path, conversions: list[str], mesh: Any, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "a")["w"]
    for placement in ("k n in dram", "k n@bank in dram", "k n in l1"):
        _ = weight(source, mesh, transposed, placement=placement).tensor
    assert conversions == ["w"]


def test_a_changed_source_is_converted_again(folder: Path, conversions: list[str], mesh: Any, tmp_path: Path) -> None:
    def value(of: Checkpoint) -> Any:
        return weight(of["w"], mesh, transposed)._converted().to_torch()[3, 5].item()

    old = checkpoint(tmp_path / "a")
    before = value(old)
    new = checkpoint(tmp_path / "a", seed=1)
    assert value(new) != before
    assert value(old) == before  # its file is still the one that was there when it was opened
    assert len(conversions) == 2
    path = tmp_path / "a" / "model.safetensors"
    times = path.stat()
    with path.open("r+b") as file:  # in place, with the same size and times
        file.seek(-2000, os.SEEK_END)
        file.write(bytes(2000))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert value(Checkpoint(tmp_path / "a")) != before
    assert len(conversions) == 3


def test_a_changed_ttnn_converts_again(
    folder: Path, conversions: list[str], mesh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint(tmp_path / "a")["w"]
    _ = weight(source, mesh, transposed).tensor
    monkeypatch.setattr("ttt_weights.cache._ttnn_version", lambda: "0.81.2")
    _ = weight(source, mesh, transposed).tensor
    assert conversions == ["w", "w"]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 5000)])
def test_a_damaged_entry_is_replaced(
    damage: Callable[[Path], object], folder: Path, conversions: list[str], mesh: Any, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "a")["w"]
    _ = weight(source, mesh, transposed).tensor
    open_cache(folder).wait()
    (entry,) = folder.glob("*.tensorbin")
    damage(entry)
    for _ in range(2):
        _ = weight(source, mesh, transposed).tensor
    assert conversions == ["w", "w"]


def test_small_ones_arrays_and_unknown_builds_are_not_kept(folder: Path, mesh: Any, tmp_path: Path) -> None:
    class Opaque:
        factor = 2

    opaque = Opaque()
    source = checkpoint(tmp_path / "a")["w"]
    _ = weight(ArraySource(source.read(), "array"), mesh, transposed).tensor
    _ = weight(source, mesh, lambda values: values.T * opaque.factor).tensor
    _ = weight(source, mesh, lambda values: values.T[:64, :64], shape=(64, 64)).tensor
    open_cache(folder).wait()
    assert not list(folder.glob("*.tensorbin"))


def test_switched_off_or_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text in ("off", "OFF", "0", "no", ""):
        monkeypatch.setenv("TTT_WEIGHTS_CACHE", text)
        assert cache_folder() is None
    monkeypatch.setenv("TTT_WEIGHTS_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("TTT_WEIGHTS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ttt" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "ttt" / "weights"


def test_a_folder_that_cannot_be_written_is_said_once(
    mesh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TTT_WEIGHTS_CACHE", str(tmp_path / "file" / "cache"))
    source = checkpoint(tmp_path / "a")["w"]
    with pytest.warns(UserWarning, match=r"^converted weights are not kept in .+file/cache: .+, or to off\.$"):
        _ = weight(source, mesh, transposed).tensor
    _ = weight(source, mesh, transposed).tensor


def test_recipes_tell_builds_apart() -> None:
    def scaled(factor: float) -> Callable[..., Any]:
        return lambda values: values * factor

    assert recipe_of(scaled(1.0)) == recipe_of(scaled(1.0)) is not None
    assert recipe_of(scaled(1.0)) != recipe_of(scaled(2.0))
    assert recipe_of(lambda values: values + 1) != recipe_of(lambda values: values + 2)
    one, other = (lambda values: values.T), (lambda values: values.T.copy())
    assert recipe_of(one) != recipe_of(other)
    assert recipe_of(lambda values: values + id(Path)) is not None
    sources = Path("/")
    assert recipe_of(lambda values: (values, sources)) is None


CONVERT = """
import sys
from ttt_hw import open_mesh
from ttt_weights import Checkpoint, LazyWeight
from test_weights_cache import transposed
checkpoint = Checkpoint(sys.argv[1])
with open_mesh("n150", backend="mock") as mesh:
    print("ready", flush=True)
    for _ in range(int(sys.argv[2])):
        for name in sorted(checkpoint):
            shape = checkpoint[name].shape[::-1]
            for dtype in ("bfloat8_b", "bfloat4_b", "bfloat16"):
                weight = LazyWeight(
                    [checkpoint[name]], transposed, shape=shape, dtype=dtype, device=mesh, placement="k n in dram"
                )
                weight.tensor
print("done", flush=True)
"""


def start(source: Path, folder: Path, rounds: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(source), str(rounds)],
        cwd=Path(__file__).parent, env=os.environ | {"TTT_WEIGHTS_CACHE": str(folder)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def correct(source: Path, folder: Path, mesh: Any) -> int:
    """The number of entries, each of which is checked against a conversion of its own."""
    import ttnn

    expected = set()
    held = Checkpoint(source)
    for name in held:
        for dtype in ("bfloat8_b", "bfloat4_b", "bfloat16"):
            made = weight(held[name], mesh, transposed, shape=held[name].shape[::-1], dtype=dtype)._convert()
            expected.add((dtype, _bytes(made)))
    entries = [path for path in folder.glob("*.tensorbin") if "partial" not in path.name]
    found = [ttnn.load_tensor(path) for path in entries]
    assert all((tensor.dtype.name.lower(), _bytes(tensor)) in expected for tensor in found)
    return len(found)


def _bytes(host: Any) -> bytes:
    import ttnn

    return np.from_dlpack(host.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0))).tobytes()


def test_two_processes_at_once(folder: Path, mesh: Any, tmp_path: Path) -> None:
    checkpoint(tmp_path / "a")
    processes = [start(tmp_path / "a", folder) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    assert correct(tmp_path / "a", folder, mesh) == 3
    assert len(list(folder.glob("*.tensorbin"))) == 3


@pytest.mark.parametrize("kills", [int(os.environ.get("TTT_KILLS", "1"))])
def test_killed_while_it_converts(kills: int, folder: Path, mesh: Any, tmp_path: Path) -> None:
    """`nox -s bench` kills 50 times, at moments spread over the whole conversion."""
    source = tmp_path / "a"
    source.mkdir()
    rng = np.random.default_rng(0)
    save_file(
        {f"w{i}": rng.normal(size=(1024, 1024)).astype(ml_dtypes.bfloat16) for i in range(8)},
        source / "model.safetensors",
    )
    abandoned = 0
    for kill in range(kills):
        if kill % 5 == 0:
            for path in folder.glob("*.tensorbin"):
                path.unlink()
        process = start(source, folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.4 * (kill + 0.5) / kills)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        abandoned += len(list(folder.glob("*.partial.tensorbin")))
        correct(source, folder, mesh)
    final = start(source, folder)
    assert final.wait(timeout=60) == 0
    assert final.stdout is not None
    final.stdout.close()
    assert correct(source, folder, mesh) == 24
    assert not list(folder.glob("*.partial.tensorbin"))
    print(f"killed {kills} times, {abandoned} times with a file half written; 24 of 24 entries right")
