"""Where two results part, and what that looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ttt_testing.metrics import pcc

__all__ = ["Departure"]

_ALIKE = 0.9999  # the correlation of what differs by a factor alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """One element that departs: its index in rows × elements, what its row is, and both values."""

    index: tuple[int, int]
    row: str
    got: float
    expected: float

    def __str__(self) -> str:
        return f"[{self.index[0]}, {self.index[1]}] ({self.row}): got {self.got:.6g}, expected {self.expected:.6g}"


def first_departure(
    actual: torch.Tensor, expected: torch.Tensor, rows: Sequence[str], *, atol: float, rtol: float = 0.0
) -> Departure | None:
    """The first element, row by row, with |actual − expected| > atol + rtol·|expected|, or that is no number."""
    close = (actual - expected).abs() <= atol + rtol * expected.abs()
    return None if bool(close.all()) else _at(actual, expected, rows, int((~close).flatten().byte().argmax()))


def largest_departure(actual: torch.Tensor, expected: torch.Tensor, rows: Sequence[str]) -> Departure:
    difference = torch.nan_to_num((actual - expected).abs(), nan=torch.inf)
    return _at(actual, expected, rows, int(difference.flatten().argmax()))


def likeness(actual: torch.Tensor, expected: torch.Tensor, rows: Sequence[str], atol: float) -> str:
    """In words, what the two have in common although they differ: the first thing to know about a wrong result.

    Shapes: [rows, elements]; `rows` says what each row is.
    """
    if bool(torch.isnan(actual).any()):
        return "Some of it is not a number: something was read that nothing had written."
    factor = float((actual * expected).sum() / (expected * expected).sum().clamp_min(1e-30))
    if pcc(actual, expected) > _ALIKE and abs(factor - 1) > 1e-6:
        per_row = (actual * expected).sum(-1) / (expected * expected).sum(-1).clamp_min(1e-30)
        if float(per_row.max() - per_row.min()) > 1e-3 * abs(factor) or _is_row_factor(
            actual, expected, per_row, factor
        ):
            return (
                f"Each row is what is expected times a factor of its own, {float(per_row.min()):.6g} to "
                f"{float(per_row.max()):.6g}: a normalisation, its epsilon say."
            )
        return f"All of it is {factor:.6g} times what is expected: a scale."
    right = ((actual - expected).abs() <= atol).all(-1)
    if bool(right.any()) and not bool(right.all()):
        wrong = [row for row, fine in zip(rows, right.tolist(), strict=True) if not fine]
        return f"{len(wrong)} of {len(rows)} rows depart, {_some(wrong)}; the others agree."
    return "All rows depart, by no common factor."


def _is_row_factor(actual: torch.Tensor, expected: torch.Tensor, per_row: torch.Tensor, factor: float) -> bool:
    """Whether a factor for each row explains the difference much better than one for all does."""
    by_row = float((actual - per_row[:, None] * expected).norm())
    by_one = float((actual - factor * expected).norm())
    return by_row < 0.1 * by_one


def _at(actual: torch.Tensor, expected: torch.Tensor, rows: Sequence[str], flat: int) -> Departure:
    row, column = divmod(flat, actual.shape[-1])
    return Departure(
        index=(row, column),
        row=rows[row],
        got=float(actual[row, column]),
        expected=float(expected[row, column]),
    )


def _some(rows: Sequence[str]) -> str:
    return ", ".join(rows) if len(rows) <= 3 else f"{rows[0]}, {rows[1]} … {rows[-1]}"
