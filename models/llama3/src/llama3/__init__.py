"""Llama 3 composed by hand from ttt's blocks."""

from llama3.config import (
    LLAMA_3_1_8B as LLAMA_3_1_8B,
    LLAMA_3_2_1B as LLAMA_3_2_1B,
    LLAMA_3_2_3B as LLAMA_3_2_3B,
    Llama3Config as Llama3Config,
)
from llama3.model import llama3 as llama3

__all__ = ["LLAMA_3_1_8B", "LLAMA_3_2_1B", "LLAMA_3_2_3B", "Llama3Config", "llama3"]
