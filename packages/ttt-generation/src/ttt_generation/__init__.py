"""Generation strategies for ttt models."""

from ttt_generation.generator import FileTokenizer as FileTokenizer, Generator as Generator, Tokenizer as Tokenizer
from ttt_generation.sampling import Sampler as Sampler, SamplingSpec as SamplingSpec
from ttt_generation.stopping import stop_tokens as stop_tokens
from ttt_generation.strategy import Completion as Completion, PrefillDecodeStrategy as PrefillDecodeStrategy

__all__ = [
    "Completion",
    "FileTokenizer",
    "Generator",
    "PrefillDecodeStrategy",
    "Sampler",
    "SamplingSpec",
    "Tokenizer",
    "stop_tokens",
]
