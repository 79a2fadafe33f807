from __future__ import annotations

import pytest
import torch

from semilearn_bbam.gradients import ascent, gradients_of, perturbed, with_gradients

OFF = torch.amp.GradScaler("cpu", enabled=False)


def tensors(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), ())]


def test_backward_of_the_scalar_deposits_what_was_given() -> None:
    parameters = [value.requires_grad_() for value in tensors()]
    given = tensors(1)
    loss = with_gradients(torch.tensor(2.5), parameters, given)
    assert float(loss.detach()) == 2.5
    (8 * loss).backward()
    for parameter, gradient in zip(parameters, given, strict=True):
        torch.testing.assert_close(parameter.grad, 8 * gradient)
    with pytest.raises(ValueError, match="3 parameters but 2 gradients"):
        with_gradients(torch.tensor(0.0), parameters, given[:2])


@pytest.mark.parametrize("scaler", [OFF, torch.amp.GradScaler("cpu", init_scale=2.0**12)])
def test_gradients_do_not_depend_on_the_scaler(scaler: torch.amp.GradScaler) -> None:
    one, two, unused = (value.requires_grad_() for value in tensors())
    found = gradients_of((one**3).sum() + two.sum(), [one, two, unused], scaler)
    torch.testing.assert_close(found[0], 3 * one.detach() ** 2)
    torch.testing.assert_close(found[1], torch.ones(5))
    assert torch.equal(found[2], torch.zeros(()))


def test_small_gradients_survive_half_precision_at_the_scalers_scale() -> None:
    weight = torch.ones(1, requires_grad=True)

    def loss() -> torch.Tensor:
        return (weight.half() * 1e-4).float().sum() * 1e-4

    assert float(gradients_of(loss(), [weight], OFF)[0]) == 0
    kept = gradients_of(loss(), [weight], torch.amp.GradScaler("cpu"))[0]
    assert float(kept) == pytest.approx(1e-8, rel=0.01)


def test_ascent_has_length_rho_over_all_tensors_together() -> None:
    gradients = tensors()
    found = ascent(gradients, 0.3)
    assert float(torch.cat([part.flatten() for part in found]).norm()) == pytest.approx(0.3, rel=1e-5)
    torch.testing.assert_close(found[0] / found[1][0], gradients[0] / gradients[1][0])
    assert all(torch.equal(part, torch.zeros_like(part)) for part in ascent([torch.zeros(2), torch.zeros(3)], 0.3))


def test_perturbed_weights_come_back_bit_for_bit_even_after_nan_or_an_error() -> None:
    parameters = [value.requires_grad_() for value in tensors()]
    before = [parameter.detach().clone() for parameter in parameters]
    shift = [torch.full_like(value, 1e7) for value in before]
    with perturbed(parameters, shift):
        torch.testing.assert_close(parameters[1].detach(), before[1] + 1e7)
    with pytest.raises(RuntimeError), perturbed(parameters, [value * float("nan") for value in shift]):
        raise RuntimeError
    assert all(torch.equal(p.detach(), value) for p, value in zip(parameters, before, strict=True))
