"""D2L's steps, thresholds and options, against plain loops."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from semilearn_bbam.algorithms.d2l import D2L
from semilearn_bbam.errors import UserError
from semilearn_bbam.nets.twins import TwinNet
from semilearn_bbam.thresholds import f_beta_thresholds
from tests.conftest import batches, naming
from tests.plain_loops import asymmetric

CONFIG = "data/ohsumed_features.yaml"  # the method at its defaults
K = 7


@pytest.fixture
def make(build: Callable[..., Any]) -> Callable[..., D2L]:
    """`make(**overrides)`: a D2L instance on the small vectors, its refresh of epoch 1 done."""

    def make_d2l(**overrides: Any) -> D2L:
        algorithm = build(CONFIG, **{"algorithm": "d2l", "batch_size": 5, "ulb_batch_size": 11} | overrides)
        algorithm.refresh()
        return algorithm

    return make_d2l


def step(algorithm: D2L, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A training step on the parts of this batch that are its arguments, as in the loop."""
    return algorithm.train_step(**algorithm.process_batch(None, **batch))


def move(net: torch.nn.Module, seed: int = 1) -> None:
    """Change the weights, so that the two nets, and the heads of each, differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def sums(outputs: dict[str, Tensor], suffix: str, targets: Tensor, reduction: str) -> float:
    """ASL of both views in loops: their means over B and K, or their sums, added."""
    total = 0.0
    for view in ("global", "local"):
        entries = zip(outputs[f"{view}{suffix}"].flatten(), targets.flatten(), strict=True)
        values = [asymmetric(float(a), float(b)) for a, b in entries]
        total += sum(values) / (len(values) if reduction == "mean" else 1)
    return total


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("use_cat", "decouple"), [("true", "true"), ("false", "true"), ("true", "false")])
def test_step_loss_is_the_stated_objective(reduction: str, use_cat: str, decouple: str, make: Any) -> None:
    options = {"loss_reduction": reduction, "use_cat": use_cat, "decouple": decouple}
    algorithm = make(ulb_loss_ratio=0.7, projection="6 gelu", **options)
    move(algorithm.model)
    move(algorithm.ema_model, seed=2)
    batch = batches(algorithm)
    algorithm.thresholds = torch.linspace(0.3, 0.6, K)
    out, logged = step(algorithm, batch)
    with torch.no_grad():
        labeled, unlabeled = algorithm.model(batch["x_lb_s"]), algorithm.model(batch["x_ulb_s"])
        teacher = algorithm.ema_model(batch["x_ulb_w"])
    targets = torch.zeros(11, K)
    for i in range(11):
        for k in range(K):
            mean = (float(teacher["global"][i, k]) + float(teacher["local"][i, k])) / 2
            targets[i, k] = float(1 / (1 + math.exp(-mean)) >= 0.3 + 0.05 * k)
    assert 0 < targets.sum() < targets.numel()
    assert batch["y_lb"].shape == (5, K)
    suffix = "_used" if decouple == "true" else ""
    parts = sums(labeled, "", batch["y_lb"], reduction), sums(unlabeled, suffix, targets, reduction)
    assert float(out["loss"].detach()) == pytest.approx(parts[0] + 0.7 * parts[1], rel=1e-4)
    assert float(logged["train/sup_loss"]) == pytest.approx(parts[0], rel=1e-4)
    assert float(logged["train/unsup_loss"]) == pytest.approx(parts[1], rel=1e-4)
    assert float(logged["train/pseudo_positive_rate"]) == pytest.approx(float(targets.mean()))
    assert torch.equal(algorithm.pseudo_targets[batch["idx_ulb"]], targets)
    assert algorithm.pseudo_targets.sum() == targets.sum()


def test_warm_up_trains_the_heads_that_make_pseudo_labels(make: Any) -> None:
    algorithm = make()
    batch = batches(algorithm)
    out, _ = algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"])
    outputs = {key: value.detach() for key, value in algorithm.model(batch["x_lb_s"]).items()}
    assert float(out["loss"].detach()) == pytest.approx(sums(outputs, "", batch["y_lb"], "mean"), rel=1e-4)
    algorithm.model.zero_grad()
    out["loss"].backward()
    for name, parameter in algorithm.model.named_parameters():
        assert (parameter.grad is None) == name.startswith("head.use_"), name


def test_heads_learn_from_their_own_rows_only(make: Any) -> None:
    algorithm = make()
    move(algorithm.ema_model)
    batch, gradients = batches(algorithm), []
    for weight in (1.0, 0.0):
        algorithm.lambda_u = weight
        algorithm.model.zero_grad()
        step(algorithm, batch)[0]["loss"].backward()
        gradients.append({name: p.grad.clone() for name, p in algorithm.model.named_parameters()})
    both, labeled = gradients
    for name in both:
        if name.startswith("head.make_"):
            assert torch.allclose(both[name], labeled[name], atol=1e-7), name
        else:
            assert float((both[name] - labeled[name]).norm()) > 1e-6, name
        assert bool(labeled[name].any()) == (not name.startswith("head.use_")), name


def test_loss_falls_on_a_fixed_batch(make: Any) -> None:
    algorithm = make()
    move(algorithm.ema_model)
    batch = batches(algorithm)
    optimizer = torch.optim.Adam(algorithm.model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = step(algorithm, batch)[0]["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


METRICS = [{}, {"beta": 2}, {"f_beta_form": "released"}, {"threshold_ties": "highest"}]


@pytest.mark.parametrize("options", METRICS)
def test_refresh_takes_the_best_thresholds_of_the_ema_model(options: dict[str, Any], make: Any) -> None:
    algorithm = make(**options)
    move(algorithm.model)  # the student must have no effect
    move(algorithm.ema_model, seed=3)
    row = algorithm.refresh()
    pool = algorithm.dataset_dict["pool_lb"]
    outputs = algorithm.ema_model(torch.tensor(pool.items[pool.rows], dtype=torch.float32))
    scores = ((outputs["global"] + outputs["local"]) / 2).detach().sigmoid()
    beta, form = options.get("beta", 0.5), options.get("f_beta_form", "standard")
    ties = options.get("threshold_ties", "lowest")
    expected, best = f_beta_thresholds(scores, pool.targets, beta=beta, form=form, ties=ties)
    assert torch.equal(algorithm.thresholds, expected)
    assert row["f_beta_mean"] == pytest.approx(float(best.mean()))
    assert row["threshold_mean"] == pytest.approx(float(expected.mean()))
    assert (row["threshold_min"], row["threshold_max"]) == (float(expected.min()), float(expected.max()))
    assert row["labels_without_threshold"] == 0


def test_options_of_the_metric_change_thresholds(make: Any) -> None:
    thresholds = []
    for options in METRICS:
        algorithm = make(**options)
        move(algorithm.ema_model, seed=3)
        algorithm.refresh()
        thresholds.append(algorithm.thresholds)
    assert not any(torch.equal(thresholds[0], other) for other in thresholds[1:])


def test_asymmetric_options_reach_every_loss(make: Any) -> None:
    algorithm = make(gamma_negative=0, clip=0, ulb_loss_ratio=0)
    batch = batches(algorithm)
    outputs = algorithm.model(batch["x_lb_s"])
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = float(sum(entropy(outputs[view], batch["y_lb"]) for view in ("global", "local")).detach())
    assert float(step(algorithm, batch)[0]["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    warm, _ = algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"])
    assert float(warm["loss"].detach()) == pytest.approx(expected, rel=1e-4)


def test_heads_are_handed_over_once_in_both_nets(make: Any) -> None:
    algorithm = make()
    nets = algorithm.model, algorithm.ema_model
    for net in nets:
        assert torch.equal(net.head.use_global.linear.weight, net.head.make_global.linear.weight)
        assert torch.equal(net.head.use_local.linear.weight, net.head.make_local.linear.weight)
        move(net)
    algorithm.epoch = 2
    algorithm.refresh()
    for net in nets:
        assert not torch.equal(net.head.use_global.linear.weight, net.head.make_global.linear.weight)


def test_predictions_are_those_of_the_heads_that_make_pseudo_labels(make: Any) -> None:
    algorithm = make()
    before = algorithm.predict("test")[0]
    for head in (algorithm.ema_model.head.use_global, algorithm.ema_model.head.use_local):
        move(head)
    assert torch.equal(algorithm.predict("test")[0], before)
    for name in ("make_global", "make_local"):
        move(getattr(algorithm.ema_model.head, name))
        after = algorithm.predict("test")[0]
        assert not torch.equal(after, before)
        before = after


@pytest.mark.parametrize("local_view", ["auto", "parts", "projection"])
def test_local_views_of_vectors(local_view: str, make: Any) -> None:
    algorithm = make(local_view=local_view)
    for net in (algorithm.model, algorithm.ema_model):
        assert isinstance(net, TwinNet)
        assert net.local_view == ("projection" if local_view == "auto" else local_view)


@pytest.mark.parametrize("local_view", ["auto", "parts"])
def test_local_views_of_images(local_view: str, build: Any) -> None:
    options = {"batch_size": 3, "ulb_batch_size": 4, "data_dir": "", "head": "linear"}
    algorithm = build("bbam_digits.yaml", algorithm="d2l", local_view=local_view, **options)
    assert algorithm.model.local_view == ("patches" if local_view == "auto" else "parts")
    algorithm.refresh()
    out, _ = step(algorithm, batches(algorithm))
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())


def test_a_run_on_texts(train: Any, ohsumed_dir: Path, bert_dir: Path) -> None:
    settings = {"algorithm": "d2l", "data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.4}
    results, _ = train("bbam_ohsumed.yaml", batch_size=4, ulb_batch_size=8, **settings)
    assert 0 < results["test"]["mAP"] <= 1


def test_state_survives_a_round_trip(make: Any) -> None:
    algorithm = make()
    algorithm.dataset_dict["pool_lb"].targets[:, 5] = 0
    move(algorithm.ema_model)
    algorithm.refresh()
    step(algorithm, batches(algorithm))
    state, before = algorithm.get_state(), (algorithm.thresholds, algorithm.pseudo_targets)
    algorithm.set_state({})
    assert algorithm.get_state() == {}
    algorithm.set_state(state)
    assert before[1].any()
    assert torch.equal(algorithm.thresholds, before[0])
    assert float(algorithm.thresholds[5]) == math.inf
    assert torch.equal(algorithm.pseudo_targets, before[1])


def test_rare_labels_keep_working(make: Any) -> None:
    """Labels with no labelled positive get no pseudo-positive; one positive is enough; no NaN."""
    algorithm = make()
    for name in ("pool_lb", "train_lb"):
        algorithm.dataset_dict[name].targets[:, 5:] = 0
        algorithm.dataset_dict[name].targets[0, 6] = 1
    with torch.no_grad():
        algorithm.ema_model.head.make_global.linear.bias[5:] += 50
    row = algorithm.refresh()
    assert row["labels_without_threshold"] == 1
    assert math.isfinite(row["threshold_max"])
    out, _ = step(algorithm, batches(algorithm))
    assert not algorithm.pseudo_targets[:, 5].any()
    assert algorithm.pseudo_targets[:, 6].any()
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())
    algorithm.dataset_dict["pool_lb"].targets[:] = 0
    row = algorithm.refresh()
    assert row["labels_without_threshold"] == K
    assert row["threshold_mean"] == row["f_beta_mean"] == 0


@pytest.mark.parametrize("change", [{"amp": "true"}, {"head": "cosine"}, {"local_view": "parts", "amp": "true"}])
def test_half_precision_and_the_cosine_head_train(change: dict[str, str], make: Any) -> None:
    algorithm = make(**change)
    out, logged = step(algorithm, batches(algorithm))
    out["loss"].backward()
    assert out["loss"].dtype == algorithm.thresholds.dtype == torch.float32
    assert float(logged["train/unsup_loss"]) > 0
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"local_view": "patches"}, ("local_view", "features data", "patches", "auto, parts or projection")),
        ({"local_view": "halves"}, ("local_view", "auto, patches, parts, projection", "'halves'")),
        ({"projection": "none"}, ("local_view: projection", "needs a projection")),
        ({"beta": 0}, ("beta", "above 0", "0.0")),
        ({"f_beta_form": "f1"}, ("f_beta_form", "standard, released", "'f1'")),
        ({"threshold_ties": "first"}, ("threshold_ties", "lowest, middle, highest", "'first'")),
    ],
)
def test_mistakes_are_one_sentence(overrides: dict[str, Any], message: tuple[str, ...], make: Any) -> None:
    with pytest.raises(UserError, match=naming(*message)):
        make(**overrides)


def test_a_run_logs_thresholds_and_the_quality_of_pseudo_labels(train: Any, features_dir: Path) -> None:
    results, folder = train(
        CONFIG, algorithm="d2l", data_dir=features_dir, label_ratio=0.2, report_pseudo_label_quality="true"
    )
    assert results["steps"] == 2 + 2 * 3
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "threshold_mean" in row] == [1, 2]
    assert [row["epoch"] for row in rows if "pseudo_micro_f1" in row] == [2]
