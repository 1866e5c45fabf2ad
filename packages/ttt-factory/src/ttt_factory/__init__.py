"""Hugging Face checkpoints to running ttnn models."""

from ttt_factory.factory import ModelFactory as ModelFactory
from ttt_factory.huggingface import read_config as read_config, spec_of_config as spec_of_config
from ttt_factory.spec import DecoderLayerSpec as DecoderLayerSpec, ModelSpec as ModelSpec

__all__ = ["DecoderLayerSpec", "ModelFactory", "ModelSpec", "read_config", "spec_of_config"]
