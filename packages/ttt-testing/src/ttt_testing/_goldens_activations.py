"""Golden functions of operations with fused activations: ttnn's own look at an activation's name and not at its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import ttnn

Golden = Callable[..., Any]
_GELU_TANH = 2.0  # of ttnn.GeluVariant; ttnn's goldens compute the exact one for each


def activated(x: torch.Tensor, chain: Iterable[Any]) -> torch.Tensor:
    """x through one activation after the other, each a name of ttnn.UnaryOpType, with parameters or without."""
    for activation in chain:
        kind = getattr(activation, "op_type", activation)
        params = list(getattr(activation, "params", ()))
        if kind == ttnn.UnaryOpType.GELU and params == [_GELU_TANH]:
            x = torch.nn.functional.gelu(x, approximate="tanh")
        elif kind in (ttnn.UnaryOpType.MINIMUM, ttnn.UnaryOpType.MAXIMUM):
            (bound,) = params
            x = x.clamp(max=bound) if kind == ttnn.UnaryOpType.MINIMUM else x.clamp(min=bound)
        elif kind == ttnn.UnaryOpType.CLAMP_TSS:
            x = x.clamp(*params)
        else:
            described = activation if hasattr(activation, "op_type") else ttnn.UnaryWithParam(activation)
            x = _own(ttnn.unary_chain)(x, [described])
    return x


def unary_chain(input_tensor: torch.Tensor, ops_chain: Iterable[Any]) -> torch.Tensor:
    """Stands for ttnn.unary_chain."""
    return activated(input_tensor, ops_chain)


def linear(
    input_tensor_a: torch.Tensor, input_tensor_b: torch.Tensor, *, bias: torch.Tensor | None = None,
    transpose_a: bool = False, transpose_b: bool = False, activation: Any = None, program_config: Any = None,
) -> torch.Tensor:  # fmt: skip
    """input_tensor_a @ input_tensor_b + bias, then the activation that the program config fuses. Stands for ttnn.linear."""
    fused = getattr(program_config, "fused_activation", None)
    product: torch.Tensor = _own(ttnn.linear)(
        input_tensor_a,
        input_tensor_b,
        bias=bias,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        activation=activation if fused is None else None,
    )
    return product if fused is None else activated(product, [fused])


def add(
    input_tensor_a: torch.Tensor, input_tensor_b: Any, *, activations: Any = None, input_tensor_a_activations: Any = None,
    input_tensor_b_activations: Any = None, use_legacy: bool | None = None,
) -> Any:  # fmt: skip
    """a + b, of what the activations of each make of them. Stands for ttnn.add."""
    a, of_a = _alone(input_tensor_a, input_tensor_a_activations)
    b, of_b = _alone(input_tensor_b, input_tensor_b_activations)
    return _own(ttnn.add)(
        a, b, activations=activations, input_tensor_a_activations=of_a, input_tensor_b_activations=of_b
    )


def multiply(
    input_tensor_a: torch.Tensor, input_tensor_b: Any, *, activations: Any = None, input_tensor_a_activations: Any = None,
    input_tensor_b_activations: Any = None, use_legacy: bool | None = None,
    fast_and_approximate_mode: bool | None = None,
) -> Any:  # fmt: skip
    """a · b, of what the activations of each make of them. Stands for ttnn.multiply."""
    a, of_a = _alone(input_tensor_a, input_tensor_a_activations)
    b, of_b = _alone(input_tensor_b, input_tensor_b_activations)
    return _own(ttnn.mul)(
        a, b, activations=activations, input_tensor_a_activations=of_a, input_tensor_b_activations=of_b
    )


def _alone(operand: Any, activations: Any) -> tuple[Any, list[Any] | None]:
    """An operand after activations with parameters, and those that are left to ttnn."""
    chain = list(activations or ())
    if any(getattr(each, "params", ()) for each in chain):
        return activated(operand, chain), None
    return operand, chain or None


def _own(operation: Any) -> Golden:
    golden: Golden = operation.golden_function
    return golden
