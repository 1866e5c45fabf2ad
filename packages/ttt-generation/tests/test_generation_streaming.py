"""Text on a terminal while it is generated: no broken characters, and what a person sees in the end."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend, decoders, models, pre_tokenizers

from ttt_generation._report import Answer
from ttt_generation._streaming import PartialText, PlainStream, TableStream

TINY = Path(__file__).parents[3] / "models" / "tiny-llama" / "checkpoint"
TEXT = "naïve 日本 🙂 e\N{COMBINING ACUTE ACCENT}, 50 €"
BROKEN = "\N{REPLACEMENT CHARACTER}"


class Bytes:
    """A token a byte, by the decoders of real models: GPT-2's and Llama 3's byte level, Llama 2's byte fallback."""

    def __init__(self, kind: str) -> None:
        if kind == "byte level":
            alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
            self._backend = Backend(
                models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[])
            )
            self._backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            self._backend.decoder = decoders.ByteLevel()
        else:
            vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
            self._backend = Backend(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
            self._backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])

    def encode(self, text: str, /) -> list[int]:
        return list(self._backend.encode(text).ids)

    def decode(self, tokens: Sequence[int], /) -> str:
        return str(self._backend.decode(list(tokens)))


class Revising:
    """Decodes to these texts, one more token each."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def encode(self, text: str, /) -> list[int]:
        return []

    def decode(self, tokens: Sequence[int], /) -> str:
        return self.texts[len(tokens) - 1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answer(prompt: str, text: str, expected: str | None = None) -> Answer:
    return Answer(prompt=prompt, answer=text, tokens=[], stopped=True, expected=expected)


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_characters_come_whole(kind: str) -> None:
    tokenizer = Bytes(kind)
    tokens = tokenizer.encode(TEXT)
    assert len(tokens) == len(TEXT.encode())
    partial = PartialText(tokenizer)
    pieces = [partial.add(token) for token in tokens]
    assert BROKEN in tokenizer.decode(tokens[:3])
    assert not any(BROKEN in piece for piece in pieces)
    assert "".join(pieces) == partial.text == TEXT


def test_a_text_that_is_revised_waits_until_it_goes_on() -> None:
    partial = PartialText(Revising("a", "a b", "a, ", "a b c"))
    assert [partial.add(token) for token in range(4)] == ["a", " b", "", " c"]


def test_one_prompt_is_plain_text() -> None:
    tokenizer, file = Bytes("byte level"), io.StringIO()
    tokens = tokenizer.encode(TEXT)
    with PlainStream(tokenizer, file) as stream:
        for count, token in enumerate(tokens, start=1):
            stream(0, token)
            assert TEXT.startswith(file.getvalue())
            assert len(file.getvalue().encode()) > count - 4
        stream.finish([answer("?", TEXT, "42")])
    assert file.getvalue() == f"{TEXT}\nwrong, 42 expected\n\n"


def test_bytes_that_never_make_a_character_are_shown_in_the_end() -> None:
    tokenizer, file = Bytes("byte level"), io.StringIO()
    tokens = tokenizer.encode("so 🙂")[:-1]
    with PlainStream(tokenizer, file) as stream:
        for token in tokens:
            stream(0, token)
        assert file.getvalue() == "so "
        stream.finish([answer("?", tokenizer.decode(tokens))])
    assert file.getvalue() == f"so {BROKEN}\n\n"


def test_an_answer_that_ends_revised_is_shown_again() -> None:
    file = io.StringIO()
    with PlainStream(Revising("Wait .", "Wait..."), file) as stream:
        stream(0, 0)
        stream(0, 1)
        stream.finish([answer("?", "Wait...")])
    assert file.getvalue() == "Wait .\nWait...\n\n"


def test_what_a_model_writes_does_not_steer_the_terminal() -> None:
    file, text = io.StringIO(), "a\x1b[2J\r\n\tb\x07\x7f\x9b"
    with PlainStream(Revising(text), file) as stream:
        stream(0, 0)
        stream.finish([answer("?", text)])
    assert file.getvalue() == f"a␛[2J␍\n\tb␇␡{BROKEN}\n\n"


def test_several_prompts_are_a_table_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    tokenizer, file = Bytes("byte level"), Terminal()
    with TableStream(["first", "second"], tokenizer, file) as stream:
        for token in tokenizer.encode("日本"):
            stream(1, token)
        until = time.monotonic() + 20
        while "日本" not in file.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        assert "日本" in file.getvalue()
        stream.finish([answer("first", "one", "one"), answer("second", "日本", "two")])
    *_, last = re.split(r"(?:\x1b\[1A\x1b\[2K)+", file.getvalue())
    assert [line.split() for line in plain(last).splitlines() if line.strip(" ─")] == [
        ["prompt", "answer", "verdict"],
        ["first", "one", "right"],
        ["second", "日本", "wrong,", "two", "expected"],
    ]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def on_a_terminal(arguments: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code of `ttt run` with a pseudo-terminal as stdin, stdout and stderr, and what it wrote there, by reads."""
    ttt = str(Path(sys.executable).with_name("ttt"))
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [ttt, "run", *arguments], stdin=end, stdout=end, stderr=end, cwd=folder, env=environment, start_new_session=True
    )
    os.close(end)
    written = []
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not read:
            break
        written.append(read)
    os.close(terminal)
    return process.wait(), [read.decode(errors="replace") for read in written]


def test_one_prompt_on_a_terminal(tmp_path: Path) -> None:
    arguments = [str(TINY), "--backend", "mock", "--prompt", "583+785=", "--temperature", "0.5", "--seed", "3"]
    code, written = on_a_terminal(arguments, tmp_path)
    assert code == 0
    # A line that the progress display rewrites starts with CR and erases itself.
    lines = [re.sub(r".*\r(?=.)", "", line) for line in plain("".join(written)).replace("\r\n", "\n").split("\n")]
    start = next(index for index, line in enumerate(lines) if line.endswith("1368"))
    assert lines[start + 1 : start + 2] == ["right"]
    assert re.fullmatch(r"device ops validated: \d+", lines[-4])
    assert lines[-3] == "sampled: temperature 0.5, seed 3"
    assert not any("prompt" in line for line in lines)


def test_several_prompts_on_a_terminal(tmp_path: Path) -> None:
    prompts = ["583+785=", "2+7=", "185-89="]
    code, written = on_a_terminal(
        [str(TINY), "--backend", "mock", *(word for prompt in prompts for word in ("--prompt", prompt))], tmp_path
    )
    assert code == 0
    # Each table is written over the one before it.
    tables = [text for text in plain("".join(written)).split("answer ") if "2+7=" in text]
    assert len(tables) > 1
    for prompt, text in zip(prompts, ["1368", "9", "96"], strict=True):
        cells = [table.split(prompt)[1].split("\r\n")[0].split() for table in tables]
        assert cells[0] in ([], list(text[:1]))  # the table begins with the first token
        assert cells[-1] == [text, "right"]
        assert all(text.startswith("".join(cell)) for cell in cells[:-1])


def test_json_on_a_terminal_is_not_streamed(tmp_path: Path) -> None:
    code, written = on_a_terminal([str(TINY), "--backend", "mock", "--prompt", "2+7=", "--json"], tmp_path)
    assert code == 0
    assert plain("".join(written)).count('"answer": "9"') == 1
    assert "right\r\n" not in "".join(written)
