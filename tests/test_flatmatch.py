"""FlatMatch's step against the paper's two gradients, taken one after the other on copies of the net."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.conftest import batches

SIZES = {"batch_size": 5, "ulb_batch_size": 11, "ulb_loss_ratio": 0.7}


def make(build: Any, **options: Any) -> Any:
    algorithm = build(algorithm="flatmatch", **SIZES | options)
    algorithm.call_hook("before_run", "EMAHook")
    return algorithm


def deposited(algorithm: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
    out, _ = algorithm.train_step(**algorithm.process_batch(None, **batch))
    algorithm.model.zero_grad()
    out["loss"].backward()
    return [parameter.grad.clone() for parameter in algorithm.model.parameters()]


def labelled_gradient(net: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    logits = net(batch["x_lb"])["logits"][..., 1]
    return torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, batch["y_lb"]), tuple(net.parameters()))


def moved(net: nn.Module, along: Any, rho: float) -> nn.Module:
    other = copy.deepcopy(net)
    norm = torch.sqrt(sum((g**2).sum() for g in along))
    with torch.no_grad():
        for parameter, g in zip(other.parameters(), along, strict=True):
            parameter += rho * g / norm
    return other


@pytest.mark.parametrize("rho", [0.05, 0.1, 2.0])
@pytest.mark.parametrize("sharpness", ["pseudo_label", "mse"])
def test_step_is_labelled_gradient_plus_unlabelled_gradient_at_the_worst_weights(
    sharpness: str, rho: float, build: Any
) -> None:
    algorithm = make(build, rho=rho, sharpness=sharpness, ent_loss_ratio=0.0, ema_p=0.0)
    batch, net = batches(algorithm), copy.deepcopy(algorithm.model)
    gradients = deposited(algorithm, batch)
    labelled = labelled_gradient(net, batch)
    weak = net(batch["x_ulb_w"])["logits"][..., 1].detach()
    worst = moved(net, labelled, rho)
    strong = worst(batch["x_ulb_s"])["logits"][..., 1]
    if sharpness == "mse":
        loss = (strong.sigmoid() - weak.sigmoid()).square().mean()
    else:
        confidence = torch.maximum(weak.sigmoid(), (-weak).sigmoid())
        hook = algorithm.hooks_dict["MaskingHook"]
        scale = hook.p_model / hook.p_model.amax(-1, keepdim=True)
        mask = confidence >= hook.time_p * torch.where(weak > 0, scale[:, 1], scale[:, 0])
        assert 0 < mask.float().mean() < 1
        loss = (F.binary_cross_entropy_with_logits(strong, (weak > 0).float(), reduction="none") * mask).mean()
    unlabelled = torch.autograd.grad(loss, tuple(worst.parameters()))
    for gradient, first, second in zip(gradients, labelled, unlabelled, strict=True):
        torch.testing.assert_close(gradient, first + 0.7 * second, rtol=1e-4, atol=1e-6)
    for before, after in zip(net.parameters(), algorithm.model.parameters(), strict=True):
        assert torch.equal(before, after)  # the step of the optimiser is still to come


def test_the_perturbation_matters(build: Any) -> None:
    batch = None
    gradients = []
    for rho in (0.0, 0.5):
        algorithm = make(build, rho=rho)
        batch = batch or batches(algorithm)
        gradients.append(deposited(algorithm, batch))
    assert any(not torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_gradient_is_the_same_under_a_loss_scaler(build: Any) -> None:
    """Scaled and unscaled gradients must not be added to each other."""
    plain, scaled = make(build), make(build)
    batch = batches(plain)
    expected = deposited(plain, batch)
    scaled.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    out, _ = scaled.train_step(**scaled.process_batch(None, **batch))
    scaled.loss_scaler.scale(out["loss"]).backward()
    scaled.loss_scaler.unscale_(scaled.optimizer)
    for parameter, gradient in zip(scaled.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_gradient_under_autocast_is_near_the_exact_one(build: Any) -> None:
    plain, half = make(build), make(build, amp="true")
    batch = batches(plain)
    exact, rough = (torch.cat([g.flatten() for g in deposited(a, batch)]) for a in (plain, half))
    assert rough.isfinite().all()
    assert float(F.cosine_similarity(exact, rough, dim=0)) > 0.98


def test_buffer_is_a_running_mean_of_past_labelled_gradients(build: Any) -> None:
    algorithm = make(build, perturb_along="buffer", buffer_momentum=0.75, rho=0.5)
    expected = None
    for labeled, unlabeled in zip(algorithm.loader_dict["train_lb"], algorithm.loader_dict["train_ulb"], strict=True):
        batch, net = {**labeled, **unlabeled}, copy.deepcopy(algorithm.model)
        along = [past.clone() for past in algorithm.buffer]
        gradients = labelled_gradient(net, batch)
        past = expected or [torch.zeros_like(g) for g in gradients]
        expected = [0.25 * g + 0.75 * p for g, p in zip(gradients, past, strict=True)]
        step_gradients = deposited(algorithm, batch)
        for buffered, mean in zip(algorithm.buffer, expected, strict=True):
            torch.testing.assert_close(buffered, mean, rtol=1e-4, atol=1e-7)
        assert not torch.equal(along[0], algorithm.buffer[0])
        assert all(g.isfinite().all() for g in step_gradients)
        algorithm.optimizer.step()
    state = algorithm.get_state()
    algorithm.buffer = []
    algorithm.set_state(state)
    torch.testing.assert_close(algorithm.buffer[0], expected[0], rtol=1e-4, atol=1e-7)


def test_buffer_survives_an_overflow(build: Any) -> None:
    algorithm = make(build, perturb_along="buffer")
    before = [past.clone() for past in algorithm.buffer]
    algorithm.direction([torch.full_like(past, float("inf")) for past in before])
    assert all(torch.equal(a, b) for a, b in zip(algorithm.buffer, before, strict=True))


def test_batch_norm_statistics_are_those_of_the_clean_passes(build: Any) -> None:
    algorithm = make(build, config="bbam_digits.yaml", rho=5.0, num_train_iter=6)
    batch, net = batches(algorithm), copy.deepcopy(algorithm.model)
    algorithm.train_step(**algorithm.process_batch(None, **batch))
    net(batch["x_lb"])
    net(batch["x_ulb_w"])
    expected, buffers = dict(net.named_buffers()), dict(algorithm.model.named_buffers())
    assert any("running_mean" in name for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(buffers[name], value)
