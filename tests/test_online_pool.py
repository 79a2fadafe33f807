"""BBAM with `refresh: online`: what a step learns from its own outputs, and what it never reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from semilearn_bbam.algorithms import BBAM
from semilearn_bbam.algorithms.online_pool import OnlineState
from semilearn_bbam.angles import AngleStatistics, label_angles, label_prototypes
from semilearn_bbam.engine.reading import PoolReading
from semilearn_bbam.pseudo_labels import class_counts
from tests.conftest import FEATURES, batches
from tests.test_bbam import element
from tests.test_no_leak import poisoned, tensors, weights_and_log
from tests.test_resume import assert_same

ONLINE: dict[str, Any] = {"refresh": "online", "negatives": "all", "batch_size": 9, "ulb_batch_size": 40}
# Nothing random in a pass, and a window in which the rows of a few steps hardly lose weight.
PLAIN = ONLINE | {"feature_dropout": 0, "online_window": 10**9}


@pytest.fixture
def make(build: Callable[..., BBAM]) -> Callable[..., BBAM]:
    """`make(**overrides)`: a BBAM instance on the small vectors that follows its steps."""
    return partial(build, **PLAIN)


def warm_up(algorithm: BBAM, batch: dict[str, Any]) -> None:
    """A step of the warm-up, without an update of the weights."""
    algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"], batch.get("known_lb"))


def rows_of(algorithm: BBAM, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Features and cosines of a batch, the labelled rows first."""
    outputs = [algorithm.model(batch[key]) for key in ("x_lb_s", "x_ulb_s")]
    return tuple(torch.cat([out[key].detach() for out in outputs]) for key in ("feat", "cosine"))  # type: ignore[return-value]


@pytest.mark.parametrize("use_cat", ["true", "false"])
def test_a_step_is_the_slides_objective_with_what_it_met(use_cat: str, make: Any) -> None:
    """Nothing is forgotten here: statistics are those of all rows so far, thresholds those of the batch."""
    algorithm = make(use_cat=use_cat, ulb_loss_ratio=0.7)
    batch = batches(algorithm)
    warm_up(algorithm, batch)
    out, _ = algorithm.train_step(**algorithm.process_batch(None, **batch))
    features, cosine = rows_of(algorithm, batch)
    size = len(algorithm.dataset_dict["pool_ulb"])
    pseudo = torch.zeros(40, 7)
    counts = class_counts(algorithm.positive_rate.double(), 1.0, size) / size * 40
    for k in range(7):
        # A threshold between two scores of one bin may take one row more or less; the counts are whole but for that.
        place = cosine[9:, k].sort(descending=True).indices[: round(float(counts[k]))]
        pseudo[place, k] = 1
    found = (cosine[9:] >= algorithm.online_state.scores.thresholds(algorithm.online_rates)).float()
    assert (found - pseudo).abs().sum(0).max() <= 1
    counted = algorithm.online_state.scores.ready(algorithm.online_rates).float()
    assert counted.sum() > 3
    targets = torch.cat([batch["y_lb"], batch["y_lb"], found * counted])
    everything = torch.cat([features[:9], features])
    weights = torch.cat([torch.ones(18, 7), counted.expand(40, 7)])
    prototypes = [label_prototypes(everything[:9], batch["y_lb"]), label_prototypes(everything, targets)]
    # The angles of the warm-up's rows are those to the prototypes of their time.
    angles = torch.cat([label_angles(everything[:9], prototypes[0]), label_angles(features, prototypes[1])])
    expected = AngleStatistics.estimate(angles, targets, weights * (1 - targets), valid=(weights > 0))
    statistics = algorithm.statistics
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(getattr(statistics, key), value, rtol=1e-3, atol=1e-5, msg=key)
    total = 0.0
    for start, stop, weight in ((0, 9, 1.0), (9, 49, 0.7)):
        part = sum(
            element(float(cosine[i, k]), float(targets[9 + i, k]), statistics, k, 20, 0.4)
            for i in range(start, stop)
            for k in range(7)
            if weights[9 + i, k]
        )
        total += weight * part / ((stop - start) * 7)
    assert float(out["loss"].detach()) == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize(("scores", "passes"), [("student", 0), ("ema", 1)])
def test_no_pool_is_read_and_the_passes_are_those_named(
    scores: str, passes: int, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(online_scores=scores)
    calls = []
    monkeypatch.setattr(PoolReading, "batch_outputs", lambda *args, **options: pytest.fail("reads a pool"))
    algorithm.ema_model.register_forward_hook(lambda *args: calls.append(args))
    batch = batches(algorithm)
    assert ("x_ulb_w" in batch) == (scores == "ema")
    warm_up(algorithm, batch)
    row = algorithm.refresh()
    algorithm.train_step(**algorithm.process_batch(None, **batch))
    assert len(calls) == passes
    assert row["pseudo_positive_rate"] == 0
    assert 0 < algorithm.refresh()["pseudo_positive_rate"] < 1
    assert algorithm.pool_state is algorithm.pseudo_targets is None


def test_scores_of_the_ema_model_rank(make: Any) -> None:
    algorithm = make(online_scores="ema")
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter.normal_()  # the student must have no effect on the ranking
    batch = batches(algorithm)
    algorithm.train_step(**algorithm.process_batch(None, **batch))
    cosine = algorithm.ema_model(batch["x_ulb_w"])["cosine"]
    again = algorithm.online_state.scores.zeros(7).add(cosine, torch.ones_like(cosine), 1.0)
    assert torch.equal(algorithm.online_state.scores.weights, again.weights)


@pytest.mark.parametrize("choice", ["sampled", "all"])
def test_negatives_per_positive(choice: str, make: Any) -> None:
    """Drawn ones are eta per positive on average, in labelled and unlabelled rows, and the nearer half only."""
    algorithm = make(negatives=choice, eta=2, candidate_ratio=0.5)
    drawn, positive = torch.zeros(7), torch.zeros(7)
    for step in range(120):
        batch = batches(algorithm)
        algorithm.it = step
        outputs = [algorithm.model(batch[key]) for key in ("x_lb_s", "x_ulb_s")]
        targets, beta = algorithm.learn(outputs[0], batch["y_lb"], None, outputs[1])
        assert beta[targets > 0].all()
        drawn, positive = drawn + (beta & (targets == 0)).sum(0), positive + targets.sum(0)
    share = drawn / positive
    common = positive / 120 < 10  # of the others there are fewer than two negatives to a positive
    assert common.any()
    assert torch.allclose(share[common], torch.tensor(2.0), atol=0.3) == (choice == "sampled")


def test_rare_labels_keep_working(make: Any) -> None:
    """Labels with no labelled positive, or one, get no pseudo-positives, no NaN, and the plain loss."""
    algorithm = make(negatives="sampled")
    batch = batches(algorithm)
    batch["y_lb"][:, 5:] = 0
    batch["y_lb"][0, 6] = 1
    algorithm.online_rates[5:] = 0
    warm_up(algorithm, batch)
    for _ in range(2):
        out, _ = algorithm.train_step(**algorithm.process_batch(None, **batch))
    out["loss"].backward()
    statistics = algorithm.statistics
    assert not statistics.usable[5]
    assert not algorithm.online_state.prototypes[:, 5].any()
    assert all(value.isfinite().all() for value in statistics.state_dict().values())
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())
    outputs = [algorithm.model(batch[key]) for key in ("x_lb_s", "x_ulb_s")]
    targets, beta = algorithm.learn(outputs[0], batch["y_lb"], None, outputs[1])
    assert not targets[9:, 5:].any()
    assert not beta[9:, 5:].any()


def test_rows_that_are_not_finite_do_not_count(make: Any) -> None:
    algorithm = make()
    batch = batches(algorithm)
    outputs = [{k: v.detach().clone() for k, v in algorithm.model(batch[key]).items()} for key in ("x_lb_s", "x_ulb_s")]
    outputs[0]["feat"][2, 0] = float("nan")
    outputs[1]["cosine"][5, 3] = float("inf")
    _, beta = algorithm.learn(outputs[0], batch["y_lb"], None, outputs[1])
    assert not beta[[2, 9 + 5]].any()
    assert algorithm.online_state.scores.total.tolist() == [39.0] * 7
    state = algorithm.online_state.state_dict()
    assert all(value.isfinite().all() for _, value in tensors(state))
    again = OnlineState.from_state_dict(state, algorithm.device).state_dict()
    assert_same(state, again)


def test_labelled_rows_with_all_their_negatives(make: Any) -> None:
    algorithm = make(negatives="sampled", labeled_negatives="all", eta=0)
    batch = batches(algorithm)
    outputs = [algorithm.model(batch[key]) for key in ("x_lb_s", "x_ulb_s")]
    targets, beta = algorithm.learn(outputs[0], batch["y_lb"], None, outputs[1])
    assert beta[:9].all()
    assert torch.equal(beta[9:], targets[9:] > 0)


FURTHER = {"score_map": "average", "num_branches": 2, "rare_shrinkage": 5, "amp": "true", "online_scores": "ema"}


@pytest.mark.parametrize("options", [{}, FURTHER, {"pool_storage": "disk"}])
def test_labels_of_the_pool_have_no_effect(
    options: dict[str, Any], train: Any, features_dir: Path, tmp_path: Path
) -> None:
    """And the same seed gives the same run, bit for bit."""
    settings = ONLINE | {"label_ratio": 0.2, "negatives": "sampled", "online_window": 100, **options}
    results, clean = train(FEATURES, data_dir=features_dir, save_name="clean", **settings)
    assert 0 < results["test"]["mAP"] <= 1
    first = weights_and_log(clean)
    labeled = json.loads((clean / "split.json").read_text())["labeled"]
    bad = poisoned(tmp_path / "bad", features_dir, labeled, "train_y")
    _, dirty = train(FEATURES, data_dir=bad, save_name="dirty", **settings)
    second = weights_and_log(dirty)
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(first[0][key], second[0][key]) for key in first[0])


class NoWaiting(TorchDispatchMode):
    """Fails where an operation needs a value of the device on the host, or makes a tensor of unknown size."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "unique", "equal", "is_nonzero")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        masks = [part for arg in args if isinstance(arg, (list, tuple)) for part in arg if isinstance(part, Tensor)]
        assert name not in self.WAITING, name
        assert not (name.startswith("index") and any(part.dtype == torch.bool for part in masks)), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("negatives", ["sampled", "all"])
def test_a_step_does_not_wait_for_the_device(negatives: str, make: Any) -> None:
    algorithm = make(negatives=negatives, positive_share=0.9, negative_share=0.9, online_scores="ema")
    batch = batches(algorithm)
    with NoWaiting():
        warm_up(algorithm, batch)
        algorithm.train_step(**algorithm.process_batch(None, **batch))
    with pytest.raises(AssertionError), NoWaiting():
        float(torch.ones(2).sum())
