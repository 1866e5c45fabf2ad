"""The package that shows what testing one's own attention takes; nox -s outside runs it with wheels alone."""

from pathlib import Path

from tools.outside import MOST_LINES, OUTSIDE, lines_of


def test_an_attention_from_outside_takes_less_than_60_lines_with_its_test(tmp_path: Path) -> None:
    assert 20 < lines_of(OUTSIDE) < MOST_LINES == 60
    assert {file.name for file in OUTSIDE.rglob("*.py")} == {"__init__.py", "test_outside.py"}
    (tmp_path / "a.py").write_text("a\n\n# b\n")
    assert lines_of(tmp_path) == 3
