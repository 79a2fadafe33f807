from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch import nn

from semilearn_bbam.engine.hooks.ema import ModelEMA, ModelEMAHook


def nets() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model, ema_model = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    ema_model.load_state_dict(model.state_dict())
    return model, ema_model


def test_buffers_are_averaged_like_weights() -> None:
    model, ema_model = nets()
    expected = {key: value.clone() for key, value in ema_model.state_dict().items()}
    ema = ModelEMA(model, ema_model, 0.9, ramp=False)
    ema.register()
    for _ in range(5):
        model(torch.randn(8, 3))  # moves the batch-norm buffers
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update()
        for key, value in model.state_dict().items():
            expected[key] = 0.9 * expected[key] + 0.1 * value if value.is_floating_point() else value.clone()
    for key, value in ema_model.state_dict().items():
        torch.testing.assert_close(value, expected[key])
    assert not torch.equal(ema_model[1].running_mean, model[1].running_mean)


def test_ramp_starts_with_the_current_weights() -> None:
    model, ema_model = nets()
    ema = ModelEMA(model, ema_model, 0.999, ramp=True)
    ema.register()
    start = ema_model[0].weight.clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    ema.update()  # d = 1 / 10
    torch.testing.assert_close(ema_model[0].weight, start + 0.9)
    ema.updates = 10**6
    ema.update()
    torch.testing.assert_close(ema_model[0].weight, start + 0.9 + 0.1 * 0.001)


def test_usb_swap_still_works() -> None:
    model, ema_model = nets()
    ema = ModelEMA(model, ema_model, 0.5, ramp=False)
    ema.register()
    student = model[0].weight.clone()
    with torch.no_grad():
        ema_model[0].weight.fill_(3.0)
    ema.apply_shadow()
    assert (model[0].weight == 3).all()
    ema.restore()
    torch.testing.assert_close(model[0].weight, student)
    ema.restart()
    torch.testing.assert_close(ema_model[0].weight, student)


@pytest.mark.parametrize("config", ["ema", "student"])
def test_the_second_stage_can_begin_from_either_set_of_weights(config: str) -> None:
    model, ema_model = nets()
    hook = ModelEMAHook()
    args = Namespace(ema_ramp=False, ema_restart=config == "ema", student_restart=config == "student")
    plan = Namespace(warmup_epochs=2)
    algorithm = Namespace(args=args, model=model, ema_model=ema_model, ema_m=0.9, it=0, plan=plan, epoch=0)
    hook.before_run(algorithm)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    trained, averaged = model[0].weight.clone(), ema_model[0].weight.clone()
    for algorithm.epoch in (0, 1, 3):
        hook.before_train_epoch(algorithm)
        assert torch.equal(model[0].weight, trained)
        assert torch.equal(ema_model[0].weight, averaged)
    algorithm.epoch = 2
    hook.before_train_epoch(algorithm)
    expected = trained if config == "ema" else averaged
    assert torch.equal(model[0].weight, expected)
    assert torch.equal(ema_model[0].weight, expected)
