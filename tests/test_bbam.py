"""BBAM's steps, against the slides' formulas in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.algorithms import BBAM
from semilearn_bbam.algorithms.pool_state import PoolState
from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.pool_blocks import update_statistics
from tests.conftest import batches


@pytest.fixture
def make(build: Callable[..., BBAM]) -> Callable[..., BBAM]:
    """`make(**overrides)`: a BBAM instance on the small vectors, its refresh of epoch 1 done."""
    return partial(build, **{"refresh": True, "negatives": "sampled"})


def element(cosine: float, target: float, statistics: AngleStatistics | None, k: int, s: float, m: float) -> float:
    """One l_BBAM (or l_BAM without statistics), as the slides write it, in double precision."""
    if statistics is not None and bool(statistics.usable[k]):
        sigma_p, sigma_n = (math.sqrt(float(v[k])) for v in (statistics.var_pos, statistics.var_neg))
        sigma = math.sqrt((sigma_p**2 + sigma_n**2) / 2)
        a = sigma / (sigma_p if target == 1 else sigma_n)
        mean = float((statistics.mean_pos if target == 1 else statistics.mean_neg)[k])
        cosine = math.cos(a * math.acos(cosine) + (1 - a) * mean)
    probability = 1 / (1 + math.exp(-s * (cosine - m)))
    return -math.log(probability) if target == 1 else -math.log(1 - probability)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("use_cat", ["true", "false"])
def test_step_loss_is_the_slides_objective(reduction: str, use_cat: str, make: Any) -> None:
    algorithm = make(batch_size=5, ulb_batch_size=11, ulb_loss_ratio=0.7, loss_reduction=reduction, use_cat=use_cat)
    batch, state = batches(algorithm), algorithm.pool_state
    out, logged = algorithm.train_step(**batch)
    expected, num_labels = 0.0, 7
    parts = (
        ("x_lb_s", batch["y_lb"], state.beta_lb.whole[batch["idx_lb"]], 1.0),
        ("x_ulb_s", state.pseudo.whole[batch["idx_ulb"]], state.beta_ulb.whole[batch["idx_ulb"]], 0.7),
    )
    for key, targets, beta, weight in parts:
        cosine = algorithm.model(batch[key])["cosine"].detach()
        total = sum(
            element(float(cosine[i, k]), float(targets[i, k]), state.statistics, k, 20, 0.4)
            for i in range(len(targets))
            for k in range(num_labels)
            if beta[i, k]
        )
        expected += weight * total / (len(targets) * num_labels if reduction == "mean" else 1)
    assert float(out["loss"].detach()) == pytest.approx(expected, rel=1e-3)
    assert float(logged["train/total_loss"]) == pytest.approx(expected, rel=1e-3)


def test_without_the_map_it_is_the_bam_loss(make: Any) -> None:
    algorithm = make(balance="false", negatives="all")
    batch = batches(algorithm)
    out, _ = algorithm.train_step(**batch)
    cosines = [algorithm.model(batch[key])["cosine"].detach() for key in ("x_lb_s", "x_ulb_s")]
    targets = [batch["y_lb"], algorithm.pseudo_targets[batch["idx_ulb"]]]
    expected = sum(
        sum(element(float(c), float(t), None, 0, 20, 0.4) for c, t in zip(c.flatten(), t.flatten(), strict=True))
        / c.numel()
        for c, t in zip(cosines, targets, strict=True)
    )
    assert float(out["loss"].detach()) == pytest.approx(expected, rel=1e-3)


def test_refresh_keeps_its_counts(make: Any) -> None:
    algorithm = make(eta=3, candidate_ratio=0.5)
    state, rate = algorithm.pool_state, algorithm.positive_rate
    pseudo, size = state.pseudo.whole, len(state.pseudo)
    for k in range(7):
        assert int(pseudo[:, k].sum()) == math.floor(float(rate[k]) * size + 1e-3)
        positives = int(pseudo[:, k].sum() + algorithm.dataset_dict["pool_lb"].targets[:, k].sum())
        beta = int(state.beta_lb.whole[:, k].sum() + state.beta_ulb.whole[:, k].sum())
        negatives = size + 32 - positives
        assert beta == positives + min(3 * max(positives, 1), negatives)
    assert state.positive_rate == pytest.approx(float(pseudo.float().mean()))
    assert (state.beta_ulb.whole | (pseudo == 0)).all()


def test_pseudo_labels_are_the_highest_raw_cosines_of_the_ema_model(make: Any) -> None:
    algorithm = make()
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter.normal_()  # the student must have no effect
    algorithm.refresh()
    pool = algorithm.dataset_dict["pool_ulb"]
    cosine = algorithm.ema_model(pool[0]["x_lb"].new_tensor(pool.items[pool.rows]))["cosine"]
    for k, column in enumerate(algorithm.pseudo_targets.T):
        if column.any():
            assert cosine[column > 0, k].min() >= cosine[column == 0, k].max()


@pytest.mark.parametrize("choice", ["refresh", "frozen", "all"])
def test_negatives_of_labelled_rows(choice: str, make: Any) -> None:
    algorithm = make(labeled_negatives=choice, eta=1)
    first = algorithm.pool_state.beta_lb.whole
    algorithm.epoch = 2
    algorithm.refresh()
    second = algorithm.pool_state.beta_lb.whole
    assert torch.equal(first, second) == (choice != "refresh")
    assert bool(first.all()) == (choice == "all")


def test_one_refresh_is_one_pass_and_both_are_two(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled rows are read once, by the net whose features count."""
    for choice, passes in (("ema", 1), ("student", 1), ("both", 2)):
        algorithm = make(refresh=False, refresh_model=choice)
        names_read = []
        original = type(algorithm).read
        with monkeypatch.context() as patch:
            patch.setattr(
                BBAM,
                "read",
                lambda self, name, *a, o=original, r=names_read, **k: (r.append(name), o(self, name, *a, **k))[1],
            )
            algorithm.refresh()
        assert names_read == ["pool_lb"] + ["pool_ulb"] * passes


def test_no_strong_view_is_computed_for_a_refresh(make: Any) -> None:
    algorithm = make(refresh=False)
    calls = []
    for pool in algorithm.dataset_dict.values():
        pool.views = {
            key: (lambda raw, v=view, k=key: (calls.append(k), v(raw))[1]) for key, view in pool.views.items()
        }
    algorithm.refresh()
    assert calls
    assert set(calls) == {"x_lb"}


def test_no_unlabelled_batch_is_loaded_in_the_warm_up(make: Any) -> None:
    algorithm = make(refresh=False)
    assert all("x_ulb_s" not in batch for batch in algorithm.batches(0))
    assert all("x_ulb_s" in batch for batch in algorithm.batches(1))
    assert len(list(algorithm.batches(0))) == algorithm.plan.warmup_steps == 2
    assert len(list(algorithm.batches(1))) == algorithm.plan.steps == 3


def test_rare_labels_keep_working(make: Any, features_dir: Path) -> None:
    """Labels with no labelled positive, or one, get no pseudo-positives, no NaN, and the plain loss."""
    algorithm = make(refresh=False)
    targets = algorithm.dataset_dict["pool_lb"].targets
    for pool in ("pool_lb", "train_lb"):
        algorithm.dataset_dict[pool].targets[:, 5] = 0
        algorithm.dataset_dict[pool].targets[:, 6] = 0
        algorithm.dataset_dict[pool].targets[0, 6] = 1
    algorithm.positive_rate = targets.mean(0) / torch.tensor([1, 1, 1, 1, 1, 1, 10])  # 0.4 expected positives
    algorithm.refresh()
    state = algorithm.pool_state
    assert not state.pseudo.whole[:, 5:].any()
    assert not state.statistics.usable[5:].any()
    assert 0 < int(state.beta_ulb.whole[:, 5].sum() + state.beta_lb.whole[:, 5].sum()) <= 5  # eta, never all
    out, _ = algorithm.train_step(**batches(algorithm))
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())


def test_average_score_is_label_free_and_ranks_as_the_cosine(make: Any) -> None:
    algorithm = make(score_map="average")
    outputs = algorithm.read("test")
    scores = algorithm.scores(outputs)
    statistics = algorithm.pool_state.statistics
    k = int(statistics.usable.nonzero()[0])
    theta = math.acos(float(outputs["cosine"][0, k]))
    sigma = math.sqrt(float(statistics.var_pos[k] + statistics.var_neg[k]) / 2)
    a_p, a_n = sigma / float(statistics.var_pos[k]) ** 0.5, sigma / float(statistics.var_neg[k]) ** 0.5
    psi_p = a_p * theta + (1 - a_p) * float(statistics.mean_pos[k])
    psi_n = a_n * theta + (1 - a_n) * float(statistics.mean_neg[k])
    expected = 1 / (1 + math.exp(-20 * (math.cos((psi_p + psi_n) / 2) - 0.4)))
    assert float(scores[0, k]) == pytest.approx(expected, rel=1e-3)


def test_state_survives_a_round_trip(make: Any) -> None:
    state = make().pool_state
    again = PoolState.from_state_dict(state.state_dict(), torch.device("cpu"))
    for name in ("pseudo", "beta_lb", "beta_ulb"):
        assert torch.equal(getattr(again, name).whole, getattr(state, name).whole)
    assert again.positive_rate == state.positive_rate
    assert torch.equal(again.statistics.var_neg, state.statistics.var_neg)


def test_released_statistics_start_from_zeros_and_use_blended_means() -> None:
    torch.manual_seed(0)
    angles, targets = torch.rand(50, 1) + 1, (torch.rand(50, 1) < 0.4).float()
    blended = update_statistics(lambda center: AngleStatistics.estimate(angles, targets, center=center), 0.01, None)
    positive_angles = angles[targets > 0].double()
    mean = 0.99 * positive_angles.mean()
    assert float(blended.mean_pos) == pytest.approx(float(mean), rel=1e-5)
    variance = 0.99 * ((positive_angles - mean) ** 2).sum() / (len(positive_angles) - 1)
    assert float(blended.var_pos) == pytest.approx(float(variance), rel=1e-4)


def test_half_precision_training_is_finite(make: Any) -> None:
    algorithm = make(amp="true")
    out, _ = algorithm.train_step(**batches(algorithm))
    out["loss"].backward()
    assert out["loss"].dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())
