"""Hugging Face checkpoints to running ttnn models.

Names are imported when first used: `ttt --help` loads this package for its command, and ttnn takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttt_core import on_demand

if TYPE_CHECKING:
    from ttt_factory.check import CheckReport as CheckReport
    from ttt_factory.factory import ModelFactory as ModelFactory
    from ttt_factory.huggingface import read_config as read_config, spec_of_config as spec_of_config
    from ttt_factory.memory import Demand as Demand, DramUse as DramUse, dram_use as dram_use
    from ttt_factory.plan import ModelPlan as ModelPlan, PlanDemand as PlanDemand, plan_model as plan_model
    from ttt_factory.plan_file import read_plan as read_plan, save_plan as save_plan
    from ttt_factory.requests import (
        ModelPart as ModelPart,
        ModelRequest as ModelRequest,
        model_request as model_request,
        precision_of as precision_of,
    )
    from ttt_factory.spec import DecoderLayerSpec as DecoderLayerSpec, ModelSpec as ModelSpec
else:
    __getattr__ = on_demand(
        __name__,
        {
            "check": ["CheckReport"],
            "factory": ["ModelFactory"],
            "huggingface": ["read_config", "spec_of_config"],
            "memory": ["Demand", "DramUse", "dram_use"],
            "plan": ["ModelPlan", "PlanDemand", "plan_model"],
            "plan_file": ["read_plan", "save_plan"],
            "requests": ["ModelPart", "ModelRequest", "model_request", "precision_of"],
            "spec": ["DecoderLayerSpec", "ModelSpec"],
        },
        globals(),
    )

__all__ = [
    "CheckReport",
    "DecoderLayerSpec",
    "Demand",
    "DramUse",
    "ModelFactory",
    "ModelPart",
    "ModelPlan",
    "ModelRequest",
    "ModelSpec",
    "PlanDemand",
    "dram_use",
    "model_request",
    "plan_model",
    "precision_of",
    "read_config",
    "read_plan",
    "save_plan",
    "spec_of_config",
]
