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
        given = ctx.saved_tensors
        return (None, *(upstream[0] * gradient for gradient in given), *(None for _ in given))


def with_gradients(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar equal to `value` whose backward gives each parameter the gradient that belongs to it.

    So that a step which computed its gradients by itself still ends in somebody else's `loss.backward()`, with the
    scaling of a GradScaler applied as to any loss. value []; gradients have the shapes of the parameters and carry no
    gradient themselves. ValueError where the two sequences differ in length.
    """
    if len(parameters) != len(gradients):
        raise ValueError(f"{len(parameters)} parameters but {len(gradients)} gradients")
    given = (gradient.detach() for gradient in gradients)
    result: Tensor = _GivenGradients.apply(value.detach(), *parameters, *given)  # type: ignore[no-untyped-call]
    return result


def gradients_of(loss: Tensor, parameters: Sequence[Tensor], scaler: GradScaler) -> list[Tensor]:
    """Gradients of `loss` [] at its own scale, computed at the scaler's so that half precision does not lose them.

    A parameter that the loss does not reach gets zeros. Where the scaled gradient overflows it stays infinite, and
    the scaler skips the step that uses it.
    """
    one = scaler.scale(torch.ones((), device=loss.device))
    found = torch.autograd.grad(loss * one, parameters, allow_unused=True, materialize_grads=True)
    return [gradient / one for gradient in found]


def ascent(gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """The perturbation rho g / |g|_2, with the norm over all tensors jointly; zeros stay zeros.

    Source: FlatMatch, Eq. 4, after SAM. rho >= 0 is the length of the result.
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    return [gradient * (rho / (norm + 1e-12)) for gradient in gradients]


@contextmanager
def perturbed(parameters: Sequence[Tensor], perturbation: Sequence[Tensor]) -> Iterator[None]:
    """Add the perturbation to the parameters inside the block, and put their very bits back after it.

    What is computed inside must also be differentiated inside: autograd refuses a graph whose weights changed.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(list(parameters), list(perturbation))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)
