"""What every algorithm must show, whatever its idea."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semilearn_bbam.run import algorithm_names
from tests.conftest import batches
from tests.methods import ALGORITHMS, FITTED, ON_IMAGES, OWN_HEAD, SEMI_SUPERVISED, STEPPING

SIZES = {"batch_size": 8, "warmup_batch_size": 8, "ulb_batch_size": 20, "feature_dropout": 0.1}


# After two steps nothing is as sure as these methods want by default.
UNSURE = ("ml_fixmatch", "ml_defixmatch", "ml_pseudolabel")
CONFIDENT: dict[str, dict[str, Any]] = dict.fromkeys(UNSURE, {"p_cutoff": 0.5})
CONFIDENT["drml"] = {"added_share": 0.5}


def started(build: Any, algorithm: str, **options: Any) -> Any:
    """The algorithm as it is in the middle of a run: hooks begun, warmed up for a while, refreshed."""
    found = build(algorithm=algorithm, **SIZES | {"lr": 2e-3, "scheduler": "cosine", "num_train_iter": 60} | options)
    found.call_hook("before_run", "EMAHook")
    found.epoch = 0
    batch = batches(found)
    for _ in range(2):
        step(found, found.warmup_step, batch, ("x_lb_s", "y_lb"))
    found.epoch = 1
    if hasattr(found, "refresh"):
        found.refresh()
    return found


def step(algorithm: Any, take: Any, batch: dict[str, Any], wanted: Any = None) -> dict[str, float]:
    algorithm.out_dict, algorithm.log_dict = take(**algorithm.process_batch(wanted, **batch))
    algorithm.call_hook("after_train_step", "ParamUpdateHook")
    algorithm.call_hook("after_train_step", "EMAHook")
    algorithm.it += 1
    return {key: float(value) for key, value in algorithm.log_dict.items()}


def test_every_algorithm_has_its_row() -> None:
    assert set(ALGORITHMS) == set(algorithm_names())


@pytest.mark.parametrize(("algorithm", "options"), STEPPING)
def test_loss_falls_on_a_fixed_batch(algorithm: str, options: dict[str, Any], build: Any) -> None:
    """The labelled loss, as the unlabelled one moves with the pseudo-labels; and no step is lost to NaN."""
    found = started(build, algorithm, **options)
    batch = batches(found)
    torch.manual_seed(0)
    np.random.seed(0)
    logged = [step(found, found.train_step, batch) for _ in range(30)]
    losses = [values.get("train/sup_loss", values["train/total_loss"]) for values in logged]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("algorithm", [name for name in SEMI_SUPERVISED if name not in FITTED])
def test_unlabelled_term_teaches_when_student_and_teacher_differ(algorithm: str, build: Any) -> None:
    """With the weight of the unlabelled term in place, the step's gradient is another one."""
    gradients: list[Tensor] = []
    batch: dict[str, Any] = {}
    for weight in (0.0, 1.0):
        found = started(build, algorithm, ulb_loss_ratio=weight, **ALGORITHMS[algorithm] | CONFIDENT.get(algorithm, {}))
        found.it = 40  # past the ramps of the unlabelled term
        with torch.no_grad():  # a teacher of its own
            for parameter in found.ema_model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        if hasattr(found, "refresh"):
            found.refresh()
        batch = batch or batches(found)
        torch.manual_seed(0)
        np.random.seed(0)
        out, _ = found.train_step(**found.process_batch(None, **batch))
        found.model.zero_grad()
        out["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in found.model.parameters() if p.grad is not None]))
    assert float((gradients[0] - gradients[1]).norm()) > 1e-4 * float(gradients[0].norm())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_runs_in_mixed_precision(algorithm: str, train: Any, features_dir: Any) -> None:
    options = ALGORITHMS[algorithm] | {"amp": "true", "label_ratio": 0.2, "algorithm": algorithm}
    results, _ = train("bbam_ohsumed_features.yaml", data_dir=features_dir, **options)
    assert 0 < results["test"]["mAP"] <= 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_runs_on_images_with_the_cosine_head(algorithm: str, train: Any) -> None:
    head = "auto" if algorithm in OWN_HEAD else "cosine"
    options = {"num_train_iter": 6, "head": head, "img_size": 16} | ON_IMAGES.get(algorithm, {})
    results, _ = train("bbam_digits.yaml", algorithm=algorithm, **options)
    assert 0 < results["test"]["mAP"] <= 1
