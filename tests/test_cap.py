"""CAP's steps and pseudo-labels, against plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import batches
from tests.plain_loops import asymmetric

SIZES = {"batch_size": 5, "ulb_batch_size": 11}


def make(build: Any, refresh: bool = True, **options: Any) -> Any:
    algorithm = build(algorithm="cap", **SIZES | options)
    if refresh and algorithm.args.threshold_source == "epoch":
        algorithm.refresh()
    return algorithm


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("use_cat", ["true", "false"])
def test_step_loss_in_plain_loops(reduction: str, use_cat: str, build: Any) -> None:
    options = {"gamma_negative": 3.0, "gamma_positive": 1.0, "clip": 0.1, "loss_reduction": reduction}
    algorithm = make(build, ulb_loss_ratio=0.7, use_cat=use_cat, positive_share=0.6, negative_share=0.5, **options)
    batch = batches(algorithm)
    out, logged = algorithm.train_step(**algorithm.process_batch(None, **batch))
    rows = batch["idx_ulb"]
    parts = (
        ("x_lb_s", batch["y_lb"], torch.ones(5, 7, dtype=torch.bool), 1.0),
        ("x_ulb_s", algorithm.pseudo_targets[rows], algorithm.mask[rows], 0.7),
    )
    expected = 0.0
    assert 0 < float(parts[1][2].float().mean()) < 1
    for key, targets, mask, weight in parts:
        logits = algorithm.model(batch[key])["logits"].detach()
        total = sum(
            asymmetric(float(logits[i, k]), float(targets[i, k]), 3.0, 1.0, 0.1)
            for i in range(len(targets))
            for k in range(7)
            if mask[i, k]
        )
        expected += weight * total / (targets.numel() if reduction == "mean" else 1)
    assert float(out["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    assert float(logged["train/total_loss"]) == pytest.approx(expected, rel=1e-4)


def test_warm_up_is_the_supervised_loss(build: Any) -> None:
    algorithm, twin = make(build, refresh=False), build(algorithm="supervised_asl", save_name="twin")
    batch = batches(algorithm)
    twin.model.load_state_dict(algorithm.model.state_dict())
    warmup, _ = algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"])
    supervised, _ = twin.train_step(batch["x_lb_s"], batch["y_lb"])
    assert float(warmup["loss"].detach()) == pytest.approx(float(supervised["loss"].detach()), rel=1e-6)


def test_pool_gets_the_labelled_rates_from_the_ema_model(build: Any) -> None:
    algorithm = make(build, refresh=False)
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter.zero_()  # the student must have no effect
    row = algorithm.refresh()
    expected = torch.floor(algorithm.positive_rate * 128 + 1e-3)
    assert torch.equal(algorithm.pseudo_targets.sum(0), expected)
    scores = algorithm.scores(algorithm.read("pool_ulb"))
    for k in range(7):
        positive = algorithm.pseudo_targets[:, k] > 0
        if positive.any():
            assert scores[positive, k].min() >= scores[~positive, k].max()
    assert row["pseudo_positive_rate"] == pytest.approx(float(expected.sum()) / (128 * 7))


def test_label_without_labelled_positive_gets_no_pseudo_positive(build: Any) -> None:
    algorithm = make(build, refresh=False)
    algorithm.positive_rate[3] = 0.0
    algorithm.refresh()
    assert algorithm.pseudo_targets[:, 3].sum() == 0


def test_queue_holds_the_last_scores_and_never_more_than_the_pool(build: Any) -> None:
    algorithm = make(build, threshold_source="queue", queue_size=20, num_train_iter=12)
    scores = []
    for labeled, unlabeled in zip(algorithm.loader_dict["train_lb"], algorithm.loader_dict["train_ulb"], strict=True):
        batch = algorithm.process_batch(None, **labeled, **unlabeled)
        out, _ = algorithm.train_step(**batch)
        assert out["loss"].isfinite()
        scores.append(algorithm.scores(algorithm.ema_model(batch["x_ulb_w"])))
        assert torch.equal(algorithm.queue, torch.cat(scores)[-20:])
    state = algorithm.get_state()
    algorithm.queue = algorithm.queue[:0]
    algorithm.set_state(state)
    assert len(algorithm.queue) == 20
    wide = make(build, threshold_source="queue", save_name="wide", num_train_iter=60)
    for labeled, unlabeled in zip(wide.loader_dict["train_lb"], wide.loader_dict["train_ulb"], strict=True):
        wide.train_step(**wide.process_batch(None, **labeled, **unlabeled))
    assert len(wide.queue) == 128


def test_queue_resumes(train: Any, features_dir: Any) -> None:
    results, _ = train("bbam_ohsumed_features.yaml", data_dir=features_dir, algorithm="cap", threshold_source="queue",
                       label_ratio=0.2)  # fmt: skip
    assert 0 < results["test"]["mAP"] < 1
