"""The command without any package's subcommand: usage errors and the errors of commands."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from ttt_cli import main
from ttt_core import ShapeError


class Command:
    """Stands for the entry point of a package."""

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self._app = App(name=name, help=f"Help of {name}.")
        self._app.default(function)

    def load(self) -> App:
        return self._app


class OddError(Exception):
    exit_code = 2


def fail_with(error: BaseException) -> Any:
    def command(count: int = 1) -> int:
        raise error

    return command


def answer(count: int = 1) -> int:
    return count


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        Command("answer", answer),
        Command("shape", fail_with(ShapeError("3 rows for 2; give 2."))),
        Command("odd", fail_with(OddError("not a TttError, but marked."))),
        Command("stop", fail_with(KeyboardInterrupt())),
        Command("denied", fail_with(PermissionError(errno.EACCES, "Permission denied", "model.safetensors"))),
        Command("bug", fail_with(ZeroDivisionError("a bug"))),
    ]
    monkeypatch.setattr(sys.modules[main.__module__], "entry_points", lambda group: entries)


def test_exit_codes_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answer", "--count", "0"]) == 0
    assert main(["answer", "--count", "1"]) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["shape"], 2, "3 rows for 2; give 2.\n"),
        (["odd"], 2, "not a TttError, but marked.\n"),
        (
            ["denied"],
            2,
            "ttt: model.safetensors: Permission denied. Free or grant what is lacking there, and call again.\n",
        ),
        (["stop"], 130, "Interrupted.\n"),
        (
            ["anwser"],
            2,
            "ttt: unknown command 'anwser'. The commands are: answer, bug, denied, odd, shape, stop. `ttt --help` describes "
            "them.\n",
        ),
        (
            ["answer", "--count", "many"],
            2,
            'ttt answer: Invalid value for --count: unable to convert "many" into int. `ttt answer --help` lists what it '
            "takes.\n",
        ),
        (["answer", "--cont", "1"], 2, None),
    ],
)
def test_one_paragraph(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str | None
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    if message is not None:
        assert captured.err == message


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        main(["bug"])


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"Help of {name}." in printed for name in ("answer", "shape", "odd"))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["devices", "--json"]])
def test_a_reader_that_leaves_ends_it_in_silence(arguments: list[str]) -> None:
    ttt = Path(sys.executable).with_name("ttt")
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    done = subprocess.run([ttt, *arguments], stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False)
    reader.stdin.close()
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk_is_one_paragraph() -> None:
    ttt = Path(sys.executable).with_name("ttt")
    with open("/dev/full", "w") as full:
        done = subprocess.run([ttt, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "No space left on device" in done.stderr
