"""Gradients as values: perturbations along them, and scalars that hand given ones to an optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler


class _GivenGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *pairs: Tensor) -> Tensor:
        ctx.save_for_backward(*pairs[len(pairs) // 2 :])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        gradients = ctx.saved_tensors
        return (None, *(upstream[0] * gradient for gradient in gradients), *(None for _ in gradients))


def with_gradients(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Make a scalar whose backward gives each parameter the gradient that belongs to it.

    A step that computes its gradients itself can so end in the training loop's `loss.backward()`, where a GradScaler
    scales them as it scales any loss.

    Args:
        value: what the scalar equals, [].
        parameters: leaves that need gradients.
        gradients: one of each parameter's shape; they carry no gradient themselves.

    Returns:
        A scalar [].

    Raises:
        ValueError: sequences of different lengths.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> with_gradients(torch.tensor(5.0), [w], [torch.tensor([1.0, 2.0])]).backward()
        >>> w.grad
        tensor([1., 2.])
    """
    if len(parameters) != len(gradients):
        raise ValueError(f"{len(parameters)} parameters but {len(gradients)} gradients")
    detached = (gradient.detach() for gradient in gradients)
    result: Tensor = _GivenGradients.apply(value.detach(), *parameters, *detached)  # type: ignore[no-untyped-call]
    return result


def gradients_of(loss: Tensor, parameters: Sequence[Tensor], scaler: GradScaler) -> list[Tensor]:
    """Gradients of a loss, computed at a scaler's scale, so that half precision does not lose them, and divided by it.

    Args:
        loss: [].
        parameters: tensors of any shape.
        scaler: a GradScaler, enabled or not.

    Returns:
        A gradient of each parameter's shape, zeros where the loss does not reach it. Where the scaled gradient
        overflows it stays infinite, and the scaler skips the step that uses it.

    Example:
        >>> w, unused = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> gradients_of((3 * w).sum(), [w, unused], GradScaler("cpu", enabled=False))
        [tensor([3., 3.]), tensor([0.])]
    """
    scale = scaler.scale(torch.ones((), device=loss.device))
    scaled = torch.autograd.grad(loss * scale, parameters, allow_unused=True, materialize_grads=True)
    return [gradient / scale for gradient in scaled]


def ascent(gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """Perturbation of a given length along the gradient (FlatMatch, Eq. 4, after SAM).

        rho g / |g|_2, with the norm over all tensors jointly

    Args:
        gradients: g, tensors of any shape.
        rho: length of the result, >= 0.

    Returns:
        A tensor of each one's shape; zeros stay zeros.

    Example:
        >>> ascent([torch.tensor([3.0]), torch.tensor([4.0])], rho=10.0)
        [tensor([6.]), tensor([8.])]
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    return [gradient * (rho / (norm + 1e-12)) for gradient in gradients]


@contextmanager
def perturbed(parameters: Sequence[Tensor], perturbation: Sequence[Tensor]) -> Iterator[None]:
    """Add a perturbation to parameters inside the block, and restore their very bits after it.

    What is computed inside must also be differentiated inside: autograd refuses a graph whose weights changed.

    Args:
        parameters: tensors of any shape.
        perturbation: one of each parameter's shape.

    Returns:
        A context manager.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> with perturbed([w], [torch.ones(2)]):
        ...     w.tolist()
        [1.0, 1.0]
        >>> w.tolist()
        [0.0, 0.0]
    """
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(list(parameters), list(perturbation))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)
