"""What a mock device is made of: the program, the compiler, the runtime root, the descriptor."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ttt_core import DeviceError
from ttt_hw._mock.descriptor import cluster_descriptor
from ttt_hw._mock.elf import null_executable
from ttt_hw._mock.toolchain import COMPILER, cache_folder, runtime_root
from ttt_hw.catalogue import BOARDS, board


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return runtime_root()


def test_null_executable_is_a_valid_elf() -> None:
    elf = null_executable()
    assert len(elf) < 500
    assert elf[:7] == b"\x7fELF\x01\x01\x01"  # 32-bit, little-endian, version 1
    kind, machine, _, entry, segments_at, sections_at = struct.unpack_from("<2H4I", elf, 16)
    header_size, segment_size, segment_count, section_size, section_count, names_index = struct.unpack_from(
        "<6H", elf, 40
    )
    assert (kind, machine, header_size, segment_size, segment_count, section_size) == (2, 243, 52, 32, 1, 40)
    assert sections_at + section_size * section_count == len(elf)

    loaded, offset, address, _, file_size, memory_size, flags, align = struct.unpack_from("<8I", elf, segments_at)
    assert (loaded, address, file_size, memory_size, flags) == (1, entry, 8, 8, 5)  # PT_LOAD, read and execute
    assert offset % align == address % align == 0
    assert elf[offset : offset + file_size] == struct.pack("<2I", 0x13, 0x8067)  # nop; ret

    sections = [struct.unpack_from("<10I", elf, sections_at + index * section_size) for index in range(section_count)]
    strings_at, strings_size = sections[names_index][4:6]
    strings = elf[strings_at : strings_at + strings_size]
    names = [strings[section[0] : strings.index(b"\0", section[0])].decode() for section in sections]
    assert names == ["", ".text", ".rela.text", ".symtab", ".strtab", ".shstrtab"]
    assert [name for name, section in zip(names, sections, strict=True) if section[2] & 2] == [".text"]  # allocated
    assert all(section[4] + section[5] <= sections_at for section in sections)
    by_name = dict(zip(names, sections, strict=True))
    assert by_name[".text"][3:6] == (entry, offset, 8)
    assert names[by_name[".rela.text"][6]] == ".symtab"
    assert names[by_name[".symtab"][6]] == ".strtab"
    target, info, _ = struct.unpack_from("<2Ii", elf, by_name[".rela.text"][4])
    assert (target, info) == (entry, 1 << 8 | 51)


def test_compiler_writes_the_program_and_its_dependencies(root: Path, tmp_path: Path) -> None:
    def compile_(*arguments: str) -> str:
        return subprocess.run([root / COMPILER, *arguments], check=True, capture_output=True, text=True).stdout

    assert compile_("--version") == "ttt null toolchain 1\n"
    assert compile_("-O2", "x.cpp", "-o", f"{tmp_path}/a b.elf") == ""
    assert (tmp_path / "a b.elf").read_bytes() == null_executable()
    assert (tmp_path / "a b.d").read_text() == f"{tmp_path}/a b.elf:\n"
    compile_("-MF", f"{tmp_path}/other.d", "-o", f"{tmp_path}/x.o", "x.cpp")
    assert (tmp_path / "other.d").read_text() == f"{tmp_path}/x.o:\n"
    assert not (tmp_path / "x.d").exists()
    failed = subprocess.run([root / COMPILER, "-o", f"{tmp_path}/no/such/x.o"], capture_output=True, check=False)
    assert failed.returncode != 0


def test_runtime_root_is_below_the_users_cache_and_stays(root: Path) -> None:
    assert root.is_relative_to(cache_folder())
    assert sorted(path.name for path in root.iterdir()) == ["runtime", "tt_metal", "ttnn"]
    assert (root / "tt_metal" / "hw").is_dir()
    assert (root / "runtime" / "hw").is_symlink()
    written = (root / COMPILER).stat().st_mtime_ns
    assert runtime_root() == root
    assert (root / COMPILER).stat().st_mtime_ns == written


def test_a_damaged_runtime_root_is_mended(root: Path) -> None:
    (root / COMPILER).write_text("half")
    (root / "tt_metal").unlink()
    (root / "ttnn").unlink()
    (root / "ttnn").symlink_to("/nowhere")
    assert runtime_root() == root
    assert os.access(root / COMPILER, os.X_OK)
    assert (root / COMPILER).read_text() != "half"
    assert (root / "tt_metal" / "hw").is_dir()
    assert (root / "ttnn").is_dir()
    assert [path for path in root.rglob(".new-*") if not path.is_symlink()] == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match=r"Cannot prepare .*Set XDG_CACHE_HOME to a folder that can be written"):
        runtime_root()


def test_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for value in ("", "relative"):  # relative paths are to be ignored, says the XDG specification
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path("/home/someone/.cache/ttt/mock")


def connections(descriptor: dict[str, Any]) -> dict[tuple[int, int], int]:
    """How many cables there are between two chips."""
    return Counter((one["chip"], other["chip"]) for one, other in descriptor["ethernet_connections"])


def test_descriptor_of_one_chip() -> None:
    one = json.loads(cluster_descriptor(board("n150")))
    assert one["arch"] == {"0": "wormhole_b0"}
    assert one["chip_to_boardtype"] == {"0": "n150"}
    assert one["boards"] == [[{"board_id": 0x18 << 36}, {"board_type": "n150"}, {"chips": [0]}]]
    assert one["harvesting"]["0"]["harvest_mask"] == 64
    assert (one["chips_with_mmio"], one["ethernet_connections"], one["chip_to_bus_id"]) == ([{"0": 0}], [], {})


def test_descriptor_of_cards_with_a_remote_chip() -> None:
    """A T3K is four n300: 2×4 chips, of which the inner four have PCIe."""
    t3k = json.loads(cluster_descriptor(board("t3k")))
    assert [next(iter(entry)) for entry in t3k["chips_with_mmio"]] == ["1", "2", "5", "6"]
    assert [entry[2]["chips"] for entry in t3k["boards"]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert list(t3k["asic_locations"].values()) == [1, 0, 0, 1, 1, 0, 0, 1]
    assert t3k["chips"]["6"] == [2, 1, 0, 0]
    links = connections(t3k)
    assert links == {(c, c + 1): 2 for c in (0, 1, 2, 4, 5, 6)} | {(c, c + 4): 2 for c in range(4)}
    n300 = json.loads(cluster_descriptor(board("n300")))
    assert (n300["chips_with_mmio"], connections(n300)) == ([{"0": 0}], {(0, 1): 2})


@pytest.mark.parametrize("name", BOARDS)
def test_descriptor_uses_each_ethernet_core_once(name: str) -> None:
    descriptor = json.loads(cluster_descriptor(board(name)))
    ends = [(end["chip"], end["chan"]) for pair in descriptor["ethernet_connections"] for end in pair]
    assert len(set(ends)) == len(ends)
    cores = 16 if board(name).chip.arch == "wormhole_b0" else 12  # Ethernet cores of a chip
    assert all(channel < cores for _, channel in ends)
    seats = [
        (entry[0]["board_id"], descriptor["asic_locations"][str(chip)])
        for entry in descriptor["boards"]
        for chip in entry[2]["chips"]
    ]
    assert len(set(seats)) == len(seats) == board(name).num_chips


def test_descriptor_of_trays() -> None:
    """Chip 1 of each of a Galaxy's four trays sits in a corner, and a tray's chips 1 to 8 are neighbours in turn."""
    galaxy = json.loads(cluster_descriptor(board("tg")))
    position = galaxy["asic_locations"]
    assert [position[corner] for corner in ("0", "3", "28", "31")] == [1] * 4
    for tray, bus in zip(galaxy["boards"], (0xC0, 0x80, 0x00, 0x40), strict=True):
        chips = sorted(tray[2]["chips"], key=lambda chip: position[str(chip)])
        assert [position[str(chip)] for chip in chips] == list(range(1, 9))
        assert [int(galaxy["chip_to_bus_id"][str(chip)], 16) for chip in chips] == [
            bus | place for place in range(1, 9)
        ]
        for one, other in itertools.pairwise(chips):
            assert connections(galaxy)[min(one, other), max(one, other)] == 4


def test_descriptor_of_a_card_with_two_unlike_chips() -> None:
    p300 = json.loads(cluster_descriptor(board("p300")))
    assert [p300["harvesting"][chip]["pcie_harvesting_mask"] for chip in ("0", "1")] == [2, 1]
    assert len(p300["chips_with_mmio"]) == 2
