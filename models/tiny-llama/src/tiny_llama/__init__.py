"""A Llama of 0.7 million parameters that adds and subtracts numbers up to 999."""

from tiny_llama.task import Example as Example
from tiny_llama.task import check as check
from tiny_llama.task import held_out as held_out

__all__ = ["Example", "check", "held_out"]
