"""`gradient_accumulation`: a step in parts equals one with the whole batch, is one step for all else, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from semilearn.core.utils import ALGORITHMS as METHODS

from semilearn_bbam.algorithms.usb_methods import MLVAT
from semilearn_bbam.config import ConfigError
from semilearn_bbam.engine.accumulation import micro_batches
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import read_settings
from semilearn_bbam.runs.folder import LATEST, RunFolder
from tests.conftest import FEATURES, TIMED, arguments, batches, naming
from tests.methods import ALGORITHMS, FITTED
from tests.processes import shared
from tests.test_resume import assert_same_run
from tests.test_world_methods import assert_close, fast_options, without_noise

SIZES = {"batch_size": 8, "warmup_batch_size": 8, "ulb_batch_size": 20, "strong": "none"}
WHOLE_BATCH = {  # what each needs it for
    "dicap": "a contrastive term over the rows of a batch",
    "drml": "optimisers that step inside a step",
    "flatmatch": "a perturbation along the gradient of the batch",
    "ml_adamatch": "mean confidences of a batch",
    "ml_dash": "a count of steps",
    "ml_flexmatch": "counts of what was learnt so far",
    "ml_freematch": "running means over batches",
    "ml_remixmatch": "running means over batches",
    "ml_softmatch": "running means over batches",
}
ACCUMULATING = [name for name in ALGORITHMS if name not in {*WHOLE_BATCH, *FITTED}]


def test_every_method_is_on_one_side() -> None:
    assert {name for name in ALGORITHMS if not METHODS[name].accumulates} == set(WHOLE_BATCH)


def gradients(build: Callable[..., Any], name: str, parts: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Loss, logged values and gradients of a semi-supervised step on one batch, in float64."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)  # what a method draws for each pass
    monkeypatch.setattr(torch.distributions.normal, "_standard_normal", torch.ones)
    monkeypatch.setattr(MLVAT.vat_loss, "__defaults__", (0.1, 6, 1))  # a first step longer than rounding
    algorithm = build(algorithm=name, gradient_accumulation=parts, **SIZES | fast_options(name, ALGORITHMS[name]))
    algorithm.model.double()
    algorithm.ema_model.double()
    algorithm.call_hook("before_run", "EMAHook")
    if hasattr(algorithm, "refresh"):
        pools = {loader.dataset: loader.dataset.views for loader in algorithm.loader_dict.values()}
        for pool, views in pools.items():
            pool.views = {key: lambda raw, view=view: view(raw).double() for key, view in views.items()}
        algorithm.refresh()
    batch = {
        key: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in batches(algorithm).items()
    }
    torch.manual_seed(0)
    np.random.seed(0)
    algorithm.it = 5
    outputs, logged = algorithm.take_step(algorithm.train_step, batch)
    outputs["loss"].backward()
    found = {key: None if one.grad is None else one.grad for key, one in algorithm.model.named_parameters()}
    return {"loss": outputs["loss"].item(), **{key: float(value) for key, value in logged.items()}, **found}


@pytest.mark.parametrize("name", ACCUMULATING)
def test_a_step_in_parts_has_the_gradients_of_the_whole_batch(
    name: str, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (gradients(build, name, count, monkeypatch) for count in (1, 4))
    tolerance = {"rtol": 1e-4 if name == "ml_vat" else 1e-6, "atol": 1e-8}  # its direction is found in float32
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        if value is None:
            assert parts[key] is None, key
        else:
            torch.testing.assert_close(parts[key], value, **tolerance, msg=lambda text, key=key: f"{key}: {text}")
    assert any(isinstance(value, torch.Tensor) and bool(value.any()) for value in whole.values())


def test_a_run_in_parts_is_one_with_the_large_batch(train: Any, features_dir: Path) -> None:
    """Steps, rows, schedule, log and weights; dropout of the strong view is drawn per batch, before it is divided."""
    options = {"data_dir": features_dir, "label_ratio": 0.2, **SIZES, "strong": "auto", "clip_grad": 0.5}
    _, first = train(FEATURES, save_name="whole", **options)
    _, second = train(FEATURES, save_name="parts", gradient_accumulation=4, **options)
    before, after = (torch.load(folder / LATEST, weights_only=True) for folder in (first, second))
    for part in ("model", "ema_model", "it", "scheduler", "state"):
        assert_close(before[part], after[part], part)
    rows = [RunFolder(folder).read_metrics() for folder in (first, second)]
    for row, other in zip(*rows, strict=True):
        assert_close({k: v for k, v in row.items() if k not in TIMED}, other, "metrics.jsonl")


def test_it_goes_on_bit_for_bit(train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from semilearn_bbam.errors import Interrupted
    from semilearn_bbam.util.signals import StopSignals

    options = {"data_dir": features_dir, "label_ratio": 0.2, **SIZES, "gradient_accumulation": 2}
    options |= {"strong": "auto", "algorithm": "bbam_plus", "num_save_iter": 1}
    _, straight = train(FEATURES, save_name="straight", **options)
    asked = iter([False, False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(StopSignals, "requested", lambda self: next(asked))
        with pytest.raises(Interrupted):
            train(FEATURES, save_name="broken", **options)
    _, broken = train(FEATURES, save_name="broken", resume="true", **options)
    assert_same_run(straight, broken)


def test_two_processes_in_parts_equal_one_without(shareable: Callable[..., list[str]], tmp_path: Path) -> None:
    sizes = {"batch_size": 8, "warmup_batch_size": 8, "ulb_batch_size": 8}
    assert shared(shareable(save_name="two", gradient_accumulation=2, **sizes), tmp_path, without_noise) == [0, 0]
    from semilearn_bbam.run import run

    run(read_settings(shareable(save_name="one", **sizes)))
    one, two = (torch.load(tmp_path / "runs" / name / LATEST, weights_only=True) for name in ("one", "two"))
    for part in ("model", "ema_model", "state"):
        assert_close(one[part], two[part], part)
    refused = shareable(save_name="x", gradient_accumulation=4, **sizes | {"batch_size": 4})
    assert shared(refused, tmp_path) == [2, 2]
    message = (tmp_path / "log0.txt").read_text()
    assert all(words in message for words in ("a batch of 4", "2 processes", "4 parts each", "a multiple of 8")), (
        message
    )


def test_a_part_that_is_not_finite_leaves_the_whole_batch_out(
    train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semilearn_bbam.algorithms.bbam import BBAM

    reduced_losses, calls = BBAM.reduced_losses, []

    def spoiled(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        losses = reduced_losses(self, *args, **options)
        return tuple(loss * float("nan") for loss in losses) if len(calls) == 3 else losses  # of the second step

    monkeypatch.setattr(BBAM, "reduced_losses", spoiled)
    options = {"data_dir": features_dir, "label_ratio": 0.2, **SIZES, "gradient_accumulation": 2}
    _, folder = train(FEATURES, on_nonfinite="skip", **options)
    checkpoint = torch.load(folder / LATEST, weights_only=True)
    assert checkpoint["nonfinite_steps"] == 1
    assert json.loads((folder / "nonfinite.json").read_text())["step"] == 2
    assert all(torch.isfinite(value).all() for value in checkpoint["model"].values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"algorithm": name, "gradient_accumulation": 2}, (name, "whole batch")) for name in WHOLE_BATCH),
        ({"gradient_accumulation": 3}, ("batch_size (8 rows)", "3 equal parts", "a multiple of 3")),
        ({"gradient_accumulation": 8, "ulb_batch_size": 20}, ("ulb_batch_size (20 rows)", "a multiple of 8")),
        ({"gradient_accumulation": 16, "ulb_batch_size": 0, "uratio": 3}, ("uratio (24 rows)", "a multiple of 16")),
        ({"gradient_accumulation": 2, "loss_reduction": "sum"}, ("loss_reduction: mean",)),
        ({"gradient_accumulation": 2, "algorithm": "cap", "threshold_source": "queue"}, ("threshold_source: epoch",)),
        ({"gradient_accumulation": 0}, ("gradient_accumulation", "at least 1")),
    ],
)
def test_what_it_does_not_go_with_is_named(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=naming("gradient_accumulation", *words)):
        read_settings(arguments(FEATURES, **SIZES | {"label_ratio": 0.2} | changes))


def test_a_method_takes_no_part_of_batches_that_it_does_not_draw() -> None:
    """A supervised method draws those of the warm-up only, and one that fits none."""
    sizes = {"batch_size": 5, "ulb_batch_size": 7, "warmup_batch_size": 8, "gradient_accumulation": 4}
    for name in ("supervised_bam", "kernel_graph"):
        read_settings(arguments(FEATURES, algorithm=name, label_ratio=0.2, **sizes))
    with pytest.raises(UserError, match="warmup_batch_size"):
        read_settings(
            arguments(FEATURES, algorithm="supervised_bam", label_ratio=0.2, **sizes | {"warmup_batch_size": 6})
        )


def test_a_method_that_fits_has_no_parts(train: Any, features_dir: Path) -> None:
    results, _ = train(
        FEATURES, data_dir=features_dir, label_ratio=0.2, algorithm="kernel_graph", gradient_accumulation=4
    )
    assert 0 <= results["test"]["mAP"] <= 1


def test_parts_are_consecutive_rows() -> None:
    batch = {"idx_lb": torch.arange(4), "x": {"input_ids": torch.arange(12).view(6, 2)}}
    first, second = micro_batches(batch, 2)
    assert first["idx_lb"].tolist() == [0, 1]
    assert second["idx_lb"].tolist() == [2, 3]
    assert torch.cat([first["x"]["input_ids"], second["x"]["input_ids"]]).equal(batch["x"]["input_ids"])
