"""Methods that fit instead of stepping: their run, what they hold out, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import train as front_door
from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.data import Pool
from semilearn_bbam.engine.fitted import FittedAlgorithm
from semilearn_bbam.errors import Interrupted, NonFiniteError
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.kernels import kernel_ridge, unit_rows
from semilearn_bbam.logistic import logistic_regression
from semilearn_bbam.metrics import prediction_metrics
from semilearn_bbam.model_selection import cardinality_boundary
from semilearn_bbam.nets.fitted import FittedHead, function_of, function_state
from semilearn_bbam.pseudo_labels import class_thresholds
from semilearn_bbam.runs.folder import LATEST, RESULTS, RunFolder
from tests.conftest import FEATURES, has_line, naming, short_run
from tests.methods import FITTED
from tests.test_resume import assert_same_run


@pytest.fixture
def parts(features_dir: Path) -> Callable[[Path], dict[str, Tensor]]:
    """`parts(folder)`: the vectors and targets of a run's split."""

    def read(folder: Path) -> dict[str, Tensor]:
        data = np.load(features_dir / "ohsumed_minilm.npz")
        rows = json.loads((folder / "split.json").read_text())
        x, y = (torch.from_numpy(data[key].astype(np.float32)) for key in ("train_x", "train_y"))
        return {
            "x": x[rows["labeled"]],
            "y": y[rows["labeled"]],
            "pool": x[rows["unlabeled"]],
            "test": torch.from_numpy(data["test_x"].astype(np.float32)),
        }

    return read


def state_of(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / LATEST, weights_only=True)["state"]
    return state


def test_a_run_has_the_scores_of_the_pure_function(train: Any, features_dir: Path, parts: Any) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2, "report_figures": "true", "rare_shrinkage": 3}
    results, folder = train(FEATURES, algorithm="kernel_graph", **options)
    data = parts(folder)
    rate = data["y"].mean(0)
    fit = fit_kernel_graph(data["x"], data["y"], data["pool"], rate, shrinkage=3)
    boundary = cardinality_boundary(fit.leave_one_out[: len(data["x"])], data["y"])
    scores = (4 * (fit.scores(data["test"]) - boundary)).sigmoid().numpy()
    with np.load(folder / "figures.npz") as archive:
        np.testing.assert_allclose(archive["test_scores"], scores, atol=1e-5)
    held_out = (4 * (fit.leave_one_out[len(data["x"]) :] - boundary)).sigmoid()
    thresholds = class_thresholds(held_out, rate).numpy()
    np.testing.assert_allclose(np.float32(results["thresholds"]["prior"]), thresholds, atol=1e-5)
    assert torch.equal(state_of(folder)["pseudo_targets"], (fit.pseudo_targets > 0.5).float())
    plain, _ = train(FEATURES, algorithm="kernel_graph", save_name="plain", **options | {"rare_shrinkage": 0})
    assert plain["test"]["mAP"] != results["test"]["mAP"]


def test_logistic_scores_are_probabilities(train: Any, features_dir: Path, parts: Any) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.4, "report_figures": "true"}
    _, folder = train(FEATURES, algorithm="supervised_logistic", **options)
    data = parts(folder)
    log_odds = logistic_regression(unit_rows(data["x"]), data["y"])[0](unit_rows(data["test"]))
    with np.load(folder / "figures.npz") as archive:
        np.testing.assert_allclose(archive["test_scores"], log_odds.sigmoid(), atol=1e-3)


@pytest.mark.parametrize("algorithm", ["fullysupervised_kernel", "supervised_kernel", "supervised_ridge"])
def test_with_all_labels_thresholds_are_of_scores_that_leave_the_row_out(
    algorithm: str, train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratio = 0.2 if algorithm.startswith("fully") else 1
    options = {"data_dir": features_dir, "algorithm": algorithm, "label_ratio": ratio}
    results, folder = train(FEATURES, **options)
    state = state_of(folder)
    assert state["held_out"].shape == (160, 7)
    head = FittedHead(7)
    head.set_state(state)
    targets = torch.from_numpy(np.load(features_dir / "ohsumed_minilm.npz")["train_y"]).float()
    expected = class_thresholds(head.logits_of(state["held_out"]).sigmoid(), targets.mean(0)).numpy()
    np.testing.assert_allclose(np.float32(results["thresholds"]["prior"]), expected, atol=1e-6)

    monkeypatch.setattr(FittedAlgorithm, "predict", MultiLabelAlgorithm.predict)
    seen, _ = train(FEATURES, save_name="seen", **options)
    assert seen["test"] == results["test"]
    assert not np.allclose(seen["thresholds"]["prior"], results["thresholds"]["prior"], atol=1e-3)


def test_thresholds_of_rows_that_a_fit_has_seen_are_too_high_for_new_ones() -> None:
    """With a low ridge seen positives score near 1; thresholds there give new rows too few labels."""
    rng = np.random.default_rng(0)
    directions = 0.35 * rng.normal(size=(4, 40))

    def part(size: int) -> tuple[Tensor, Tensor]:
        targets = rng.random((size, 4)) < 0.3
        x = unit_rows(torch.from_numpy(targets @ directions + rng.normal(size=(size, 40))).float())
        return x, torch.from_numpy(targets).float()

    (x, targets), (new, new_targets) = part(150), part(300)
    fit = kernel_ridge(x, targets, gamma=1.0, ridge=0.1)
    macro_f1, rate = [], []
    for scores in (fit.leave_one_out, fit.scores(x)):
        predictions = fit.scores(new) >= class_thresholds(scores, targets.mean(0))
        macro_f1.append(prediction_metrics(predictions.numpy(), new_targets.numpy())["macro_f1"])
        rate.append(float(predictions.float().mean()))
    assert abs(rate[0] - 0.3) < 0.05 < 0.1 < 0.3 - rate[1]
    assert macro_f1[0] > macro_f1[1] + 0.05


def test_the_boundary_gives_as_many_positives_as_the_labelled_rows_have(build: Any) -> None:
    """At 0.5 of the leave-one-out scores, which least squares shrink towards 0."""
    algorithm = build(algorithm="supervised_kernel", label_ratio=0.5)
    kept = {}
    fit = algorithm.fit

    def keep(*args: Any) -> Any:
        kept["function"], kept["leave_one_out"] = fit(*args)
        return kept["function"], kept["leave_one_out"]

    algorithm.fit = keep
    algorithm.train_step()
    targets = algorithm.dataset_dict["pool_lb"].targets
    head = algorithm.model.head
    assert 0 < head.boundary < 0.5
    positives = head.logits_of(kept["leave_one_out"]) >= 0
    assert int(positives.sum()) == pytest.approx(int(targets.sum()), abs=1)


@pytest.mark.parametrize("algorithm", sorted(FITTED))
def test_settings_of_steps_have_no_effect_and_the_log_says_so(algorithm: str, train: Any, features_dir: Path) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm}
    results, folder = train(FEATURES, **options)
    changes = {"lr": 1.0, "epoch": 9, "num_train_iter": 90, "batch_size": 3, "strong": "none", "optim": "SGD"}
    other, other_folder = train(FEATURES, save_name="other", **options | changes)
    assert (results["steps"], results["epochs"], results["selected_epoch"]) == (1, 1, 1)
    for key in ("steps", "test", "test_prior", "thresholds"):
        assert other[key] == results[key]
    log = (folder / "log.txt").read_text()
    assert has_line(log, algorithm, "learning rate", "no effect")
    assert has_line(log, "leave-one-out mAP")
    assert len([row for row in RunFolder(folder).read_metrics() if "test/mAP" in row]) == 1


def test_a_finished_run_has_no_other_cycle_and_can_be_finished_again(
    train: Any, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": "kernel_graph"}
    results, folder = train(FEATURES, **options)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".yaml", ".jsonl")}
    longer = short_run(FEATURES, tmp_path / "runs", **options | {"epoch": 5, "num_train_iter": 15, "resume": "true"})
    assert front_door.main(longer) == 2
    assert has_line(capsys.readouterr().err, "kernel_graph", "--resume", "--epoch")
    for name, content in before.items():
        assert (folder / name).read_bytes() == content
    again, _ = train(FEATURES, resume="true", **options)
    assert {key: again[key] for key in ("test", "thresholds", "steps")} == {
        key: results[key] for key in ("test", "thresholds", "steps")
    }


def test_a_stop_within_a_fit_is_between_its_parts_and_the_run_goes_on(
    train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": "kernel_graph"}
    _, straight = train(FEATURES, save_name="straight", **options)
    with monkeypatch.context() as patch:
        patch.setattr("semilearn_bbam.util.signals.StopSignals.requested", lambda self: True)
        with pytest.raises(Interrupted, match=naming("step 0 of 1", "--resume")):
            train(FEATURES, save_name="stopped", **options)
    folder = straight.with_name("stopped")
    assert torch.load(folder / LATEST, weights_only=True)["it"] == 0
    assert not (folder / RESULTS).exists()
    train(FEATURES, save_name="stopped", resume="true", **options)
    assert_same_run(straight, folder)


def test_vectors_that_are_not_finite_are_named(train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a net: those of a file are found as it is read. The cure is none of a learning rate."""
    read = Pool.__getitems__

    def spoiled(self: Pool, positions: list[int]) -> dict[str, Any]:
        batch = read(self, positions)
        batch["x_lb"][3] = torch.nan
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "__getitems__", spoiled)
        with pytest.raises(NonFiniteError, match=naming("feat", "row 3", "net", "data")) as caught:
            train(FEATURES, data_dir=features_dir, label_ratio=0.2, algorithm="kernel_graph")
    assert "lr" not in str(caught.value).split()


@pytest.mark.parametrize(
    ("config", "changes", "named"),
    [
        ("bbam_digits.yaml", {}, ("net", "small_cnn", "pixels", "encoder")),
        (FEATURES, {"net": "mlp"}, ("mlp", "net: plain")),
        (FEATURES, {"projection": "16"}, ("projection",)),
        (FEATURES, {"include_lb_to_ulb": "true"}, ("include_lb_to_ulb",)),
        (FEATURES, {"head": "linear"}, ("head",)),
        (FEATURES, {"rare_shrinkage": -1}, ("rare_shrinkage",)),
        (FEATURES, {"label_ratio": 1}, ("label_ratio", "unlabelled")),
    ],
)
def test_what_kernel_graph_refuses(
    config: str,
    changes: dict[str, Any],
    named: tuple[str, ...],
    features_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = {"data_dir": features_dir} if config == FEATURES else {}
    options = {"label_ratio": 0.2, "algorithm": "kernel_graph", **data} | changes
    assert front_door.main(short_run(config, tmp_path / "runs", **options)) == 2
    assert has_line(capsys.readouterr().err, *named)
    assert not (tmp_path / "runs" / "run").exists()


def test_pixels_are_the_vectors_of_images(train: Any) -> None:
    options = {"net": "pixels", "img_size": 8, "num_labels": 400, "label_ratio": 0}
    results, folder = train("bbam_digits.yaml", algorithm="supervised_kernel", **options)
    support = function_of(state_of(folder)["function"]).support
    assert support.shape[0] == 400
    assert support.shape[1] == 8 * 8 * (support.shape[1] // 64)
    torch.testing.assert_close(support.norm(dim=1), torch.ones(400))
    assert results["test"]["mAP"] > 0.2


def test_a_function_is_the_same_after_its_state() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    targets = (x[:5, :2] > 0).float()
    function = fit_kernel_graph(x[:5], targets, x[5:], targets.mean(0), num_neighbours=2).scores
    restored = function_of(function_state(function))
    assert torch.equal(restored(x), function(x))
    head = FittedHead(2)
    assert not head(x)["logits"].any()
    assert head.state() == {}
    head.set_function(function, 0.25)
    other = FittedHead(2)
    other.set_state(head.state())
    assert torch.equal(other(x)["logits"], head(x)["logits"])
    torch.testing.assert_close(head(x)["logits"], 4 * (function(x) - 0.25))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(x.bfloat16())["logits"], head(x.bfloat16().float())["logits"])
    assert head.double().function.x.dtype == torch.float64
