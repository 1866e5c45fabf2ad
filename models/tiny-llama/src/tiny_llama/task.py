"""The task: ``37+58=`` is continued by ``95``, ``83-47=`` by ``36``.

Operands are 0..999 and a difference is never negative, so a program can check every answer.
Which prompts are held out is a property of the prompt itself (a hash), never of a seed: no training run
of any length or seed can see one.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

ALPHABET = "0123456789+-="
HELD_OUT_EVERY = 50  # one prompt in 50 is held out: about 30 000 of the 1.5 million
NUM_EVALUATED = 200

_PROMPT = re.compile(r"(0|[1-9]\d{0,2})([+-])(0|[1-9]\d{0,2})=", re.ASCII)
_DIGITS = (1, 2, 3)
_DIGIT_WEIGHTS = (1, 2, 7)  # short operands are few, so they are learned from a small share


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer that has to follow it."""

    prompt: str
    answer: str

    @property
    def shape(self) -> tuple[str, int]:
        """The operator and the number of digits in the answer."""
        return ("+" if "+" in self.prompt else "-", len(self.answer))


def solve(prompt: str) -> str:
    """The right answer to a prompt.

    Raises ``ValueError`` when the prompt is not of the task.
    """
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise ValueError(
            f"got the prompt {prompt!r}, wanted A+B= or A-B= with A and B from 0 to 999 "
            "and without leading zeros"
        )
    left, operator, right = int(match[1]), match[2], int(match[3])
    if operator == "-" and left < right:
        raise ValueError(f"got the prompt {prompt!r}, whose answer is negative; swap the two operands")
    return str(left + right if operator == "+" else left - right)


def check(prompt: str, completion: str) -> bool:
    """Whether the completion, without special tokens, is exactly the right answer."""
    return completion == solve(prompt)


def is_held_out(prompt: str) -> bool:
    """Whether the prompt is kept out of training: SHA-256(prompt) mod 50 = 0."""
    digest = hashlib.sha256(prompt.encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_EVERY == 0


def training_examples(seed: int) -> Iterator[Example]:
    """An endless stream of examples, none of them held out; the same seed gives the same stream."""
    return (example for example in _examples(seed) if not is_held_out(example.prompt))


def held_out(count: int = NUM_EVALUATED) -> list[Example]:
    """The first ``count`` of a fixed list of distinct held-out examples.

    The shapes (operator, answer length) take turns, so the first few show all kinds.
    Raises ``ValueError`` when ``count`` is not from 1 to 200.
    """
    if not 1 <= count <= NUM_EVALUATED:
        raise ValueError(f"got a count of {count} held-out examples, wanted 1 to {NUM_EVALUATED}")
    distinct: dict[Example, None] = {}
    for example in _examples(seed=0):
        if is_held_out(example.prompt):
            distinct[example] = None
        if len(distinct) == NUM_EVALUATED:
            break
    by_shape: dict[tuple[str, int], list[Example]] = {}
    for example in distinct:
        by_shape.setdefault(example.shape, []).append(example)
    turns = chain.from_iterable(zip_longest(*by_shape.values()))
    return [example for example in turns if example is not None][:count]


def _examples(seed: int) -> Iterator[Example]:
    rng = random.Random(seed)
    while True:
        left, right = (rng.randrange(10**digits) for digits in rng.choices(_DIGITS, _DIGIT_WEIGHTS, k=2))
        operator = rng.choice("+-")
        if operator == "-" and left < right:
            left, right = right, left
        prompt = f"{left}{operator}{right}="
        yield Example(prompt, solve(prompt))
