"""MIME's steps against its objective in plain loops, and its growing set of positives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.algorithms.mime import MIME
from semilearn_bbam.config import ConfigError
from semilearn_bbam.errors import UserError
from tests.conftest import batches, naming

CONFIG = ("mime", "ohsumed_features")


@pytest.fixture
def make(build: Callable[..., Any]) -> Callable[..., MIME]:
    """`make(**overrides)`: a MIME instance on the small vectors, with a narrow latent variable."""

    def make_mime(**overrides: Any) -> MIME:
        return build(CONFIG, **{"z_dim": 6} | overrides)

    return make_mime


def scored(algorithm: MIME, scores: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next pass over the pool give these scores."""
    monkeypatch.setattr(algorithm, "read", lambda name, model=None: {"logits": torch.logit(scores)})


def term(outputs: dict[str, torch.Tensor], targets: torch.Tensor, beta: float) -> float:
    """Mean over B and K of cross-entropy and beta KL, one entry after the other."""
    logits, mean, deviation = (outputs[name].detach().tolist() for name in ("logits", "mean", "deviation"))
    total = 0.0
    for i, row in enumerate(targets.tolist()):
        for k, target in enumerate(row):
            probability = 1 / (1 + math.exp(-logits[i][k]))
            total -= math.log(probability) if target else math.log(1 - probability)
            pairs = list(zip(mean[i][k], deviation[i][k], strict=True))
            total += beta * sum((m * m + s * s - 1) / 2 - math.log(s) for m, s in pairs) / len(pairs)
    return total / targets.numel()


def step(algorithm: MIME, batch: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    torch.manual_seed(7)  # the same draws each time
    out, logged = algorithm.train_step(**algorithm.process_batch(**batch))
    return float(out["loss"].detach()), logged


@pytest.mark.parametrize("use_cat", ["true", "false"])
def test_step_loss_is_the_objective(use_cat: str, make: Any) -> None:
    algorithm = make(batch_size=5, ulb_batch_size=11, ulb_loss_ratio=0.7, beta=0.3, use_cat=use_cat)
    batch = batches(algorithm)
    algorithm.pseudo_targets[batch["idx_ulb"][:4], 2] = True
    loss, logged = step(algorithm, batch)
    torch.manual_seed(7)
    labeled, unlabeled = algorithm.joint(batch["x_lb_s"], batch["x_ulb_s"])
    assert labeled["mean"].shape == (5, 7, 6)
    assert unlabeled["mean"].shape == (11, 7, 6)
    sup = term(labeled, batch["y_lb"], 0.3)
    unsup = term(unlabeled, algorithm.pseudo_targets[batch["idx_ulb"]].float(), 0.3)
    assert loss == pytest.approx(sup + 0.7 * unsup, rel=1e-5)
    assert float(logged["train/sup_loss"]) == pytest.approx(sup, rel=1e-5)
    assert float(logged["train/unsup_loss"]) == pytest.approx(unsup, rel=1e-5)


def test_warm_up_is_the_labelled_term(make: Any) -> None:
    algorithm = make(beta=0.3)
    batch = batches(algorithm)
    torch.manual_seed(7)
    out, _ = algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"])
    torch.manual_seed(7)
    assert float(out["loss"].detach()) == pytest.approx(
        term(algorithm.model(batch["x_lb_s"]), batch["y_lb"], 0.3), rel=1e-5
    )


def test_loss_falls_on_a_fixed_batch(make: Any) -> None:
    algorithm = make()
    batch = batches(algorithm)
    first, _ = step(algorithm, batch)
    for group in algorithm.optimizer.param_groups:  # the schedule begins with less
        group["lr"] = 1e-2
    for _ in range(10):
        algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**algorithm.process_batch(**batch))
        algorithm.out_dict["loss"].backward()
        algorithm.optimizer.step()
        algorithm.model.zero_grad()
    assert step(algorithm, batch)[0] < 0.8 * first


def test_the_pool_teaches_even_before_it_has_positives(make: Any) -> None:
    """Assumed negatives pull the pool's scores down; added positives push theirs up."""
    algorithm = make(ulb_batch_size=8)
    batch = batches(algorithm)
    algorithm.pseudo_targets[batch["idx_ulb"], 3] = True
    slopes = []

    def watch(module: Any, inputs: Any, outputs: dict[str, torch.Tensor]) -> None:
        outputs["logits"].register_hook(slopes.append)

    algorithm.model.head.register_forward_hook(watch)
    out, _ = algorithm.train_step(**algorithm.process_batch(**batch))
    out["loss"].backward()
    pool = slopes[0][len(batch["x_lb_s"]) :]
    assert (pool[:, 3] < 0).all()
    assert (pool[:, [0, 1, 2, 4, 5, 6]] > 0).all()


def test_positives_lie_above_theta_and_stay(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = make(theta=0.6)
    assert algorithm.pseudo_targets.dtype == torch.bool
    assert not algorithm.pseudo_targets.any()
    size = len(algorithm.pseudo_targets)
    scores = torch.full((size, 7), 0.59)
    scores[3, 2], scores[4, 5] = 0.61, 0.99
    scored(algorithm, scores, monkeypatch)
    row = algorithm.refresh()
    assert algorithm.pseudo_targets.nonzero().tolist() == [[3, 2], [4, 5]]
    assert row == {
        "pseudo_positive_rate": pytest.approx(2 / 7 / size),
        "new_positive_rate": pytest.approx(2 / 7 / size),
    }
    scores = torch.full((size, 7), 0.01)
    scores[3, 2], scores[6, 0] = 0.7, 0.7
    scored(algorithm, scores, monkeypatch)
    row = algorithm.refresh()
    assert algorithm.pseudo_targets.nonzero().tolist() == [[3, 2], [4, 5], [6, 0]]
    assert row["new_positive_rate"] == pytest.approx(1 / 7 / size)


@pytest.mark.parametrize("choice", ["student", "ema"])
def test_the_named_net_adds_the_positives(choice: str, make: Any) -> None:
    algorithm = make(refresh_model=choice)
    for model, sure in ((algorithm.model, choice == "student"), (algorithm.ema_model, choice == "ema")):
        with torch.no_grad():
            model.head.weight.zero_()
            model.head.bias.fill_(5.0 if sure else -5.0)
    algorithm.refresh()
    assert algorithm.pseudo_targets.all()
    assert algorithm.model.training
    assert not algorithm.ema_model.training


def test_head_options_reach_both_nets(make: Any) -> None:
    algorithm = make(z_dim=9, num_samples=3)
    for model in (algorithm.model, algorithm.ema_model):
        assert model.head.weight.shape == (7, 9)
        assert model.head.num_samples == 3


def test_labels_without_or_with_one_positive_are_harmless(make: Any) -> None:
    algorithm = make()
    batch = batches(algorithm)
    batch["y_lb"][:, 5:] = 0
    batch["y_lb"][0, 6] = 1
    algorithm.refresh()
    out, _ = algorithm.train_step(**algorithm.process_batch(**batch))
    out["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in algorithm.model.parameters())


def test_half_precision_training_is_finite(make: Any) -> None:
    algorithm = make(amp="true")
    out, _ = algorithm.train_step(**algorithm.process_batch(**batches(algorithm)))
    out["loss"].backward()
    assert out["loss"].dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in algorithm.model.parameters())


def test_state_survives_a_round_trip(make: Any, tmp_path: Path) -> None:
    algorithm, other = make(theta=0.4), make()
    algorithm.refresh()
    assert 0 < int(algorithm.pseudo_targets.sum()) < algorithm.pseudo_targets.numel()
    torch.save(algorithm.get_state(), tmp_path / "state.pth")
    other.set_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(other.pseudo_targets, algorithm.pseudo_targets)
    assert other.pseudo_targets.dtype == torch.bool


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_another_head_is_one_sentence(head: str, make: Any) -> None:
    with pytest.raises(UserError, match=naming("head", head, "mime", "auto")):
        make(head=head)


@pytest.mark.parametrize(
    ("option", "value"), [("theta", 1.2), ("beta", -1), ("beta", "inf"), ("z_dim", 0), ("num_samples", 0)]
)
def test_settings_out_of_range_are_named(option: str, value: Any, make: Any) -> None:
    with pytest.raises(ConfigError, match=naming("command line", f"{option} must")):
        make(**{option: value})


def test_a_run_logs_how_many_positives_the_pool_has(train: Any, features_dir: Path) -> None:
    results, folder = train(CONFIG, data_dir=features_dir, label_ratio=0.2, theta=0.5, z_dim=6)
    assert 0 < results["test"]["mAP"] <= 1
    assert (folder / "metrics.jsonl").read_text().count("new_positive_rate") == 2
    state = torch.load(folder / "latest_model.pth", weights_only=True)["state"]
    assert 0 < int(state["pseudo_targets"].sum()) < state["pseudo_targets"].numel()


def test_texts_train(train: Any, ohsumed_dir: Path, bert_dir: Path) -> None:
    settings = {"algorithm": "mime", "net": f"hf:{bert_dir}", "label_ratio": 0.3, "max_length": 8, "z_dim": 6}
    results, _ = train("bbam_ohsumed.yaml", data_dir=ohsumed_dir, **settings)
    assert 0 < results["test"]["mAP"] <= 1
