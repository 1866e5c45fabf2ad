"""The one error of the package: a sentence, the text, a caret under the wrong part, and the way out."""

from __future__ import annotations

__all__ = ["LayoutError"]


class LayoutError(ValueError):
    """A layout text that cannot be read, or a layout that a tensor or a device does not allow.

    `reason` is the sentence, `text` the layout, `span` the wrong part of it, `choices` the last line.
    """

    exit_code = 2

    def __init__(self, reason: str, text: str = "", span: tuple[int, int] | None = None, choices: str = "") -> None:
        self.reason = reason
        self.text = text
        self.span = span
        self.choices = choices
        lines = [reason]
        if text:
            lines.append("  " + "".join(" " if c.isspace() else c for c in text))
        if text and span is not None:
            start, end = span
            lines.append("  " + " " * start + "^" * max(1, end - start))
        if choices:
            lines.append("  " + choices)
        super().__init__("\n".join(lines))


def nearest(word: str, allowed: tuple[str, ...]) -> str:
    """The last line of an error about a wrong word: the one that was meant, or all that are allowed."""
    from difflib import get_close_matches  # only an error pays for it

    close = get_close_matches(word, allowed, n=1)
    return f"nearest valid: {close[0]}" if close else f"allowed: {', '.join(allowed)}"
