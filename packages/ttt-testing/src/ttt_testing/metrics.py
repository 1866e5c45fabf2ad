"""How close two tensors are."""

from __future__ import annotations

import torch

__all__ = ["max_difference", "pcc", "top_agreement"]


def pcc(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson correlation of all elements, in float64; 1 for equal tensors, also constant ones."""
    a, b = actual.flatten().double(), expected.flatten().double()
    if torch.equal(a, b):
        return 1.0
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm else 0.0


def max_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """max |actual − expected|."""
    return float((actual.double() - expected.double()).abs().max())


def top_agreement(actual: torch.Tensor, expected: torch.Tensor, k: int) -> float:
    """The share of rows whose best expected token is among the k best actual ones.

    Shapes: logits [rows, vocabulary].
    """
    return float(top_rows(actual, expected, k).double().mean())


def top_rows(actual: torch.Tensor, expected: torch.Tensor, k: int) -> torch.Tensor:
    """Which rows agree: [rows], bool."""
    best = expected.argmax(-1, keepdim=True)
    return (actual.topk(k, -1).indices == best).any(-1)
