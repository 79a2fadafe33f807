"""Cells of labelled rows whose label is unknown: what they are never read for, in every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.correctness import correctness_rates, midrange_thresholds
from semilearn_bbam.data import Pool
from semilearn_bbam.engine.labelwise import LabelwiseCELoss, PartlyKnown, partly_known
from semilearn_bbam.engine.mixed_pass import masked
from semilearn_bbam.mixing import mix_rows
from semilearn_bbam.pseudo_labels import pseudo_label_unknown
from semilearn_bbam.thresholds import f_beta_thresholds
from tests.methods import ALGORITHMS
from tests.test_no_leak import weights_and_log

# Those that give unknown cells pseudo-labels.
PSEUDO = ("bam", "bbam", "bbam_plus", "cap", "d2l", "dicap", "mime")
VARIANTS: dict[str, dict[str, Any]] = {
    "bbam mixed": {"mixup": 1.0},
    "bbam frozen": {"labeled_negatives": "frozen", "confidence_weights": "true", "neighbours": 2},
    "bbam all": {"labeled_negatives": "all", "negatives": "all", "loss_reduction": "sum", "num_branches": 2},
    "bbam online": {"refresh": "online", "online_window": 64},
    "cap mixed": {"mixup": 1.0, "confidence_weights": "true", "neighbours": 2},
    "cap queue": {"threshold_source": "queue"},
    "drml bce": {"element_loss": "bce"},
}
CASES = {**ALGORITHMS, **VARIANTS}


@pytest.fixture(scope="module")
def partly_dir(features_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small vectors with 30 % of the cells hidden, of the test part 10 %."""
    data, rng = dict(np.load(features_dir / "ohsumed_minilm.npz")), np.random.default_rng(1)
    for key, share in (("train_y", 0.3), ("test_y", 0.1)):
        targets = data[key].astype(np.int8)
        targets[rng.random(targets.shape) < share] = -1
        data[key] = targets
    folder = tmp_path_factory.mktemp("partly")
    np.savez(folder / "ohsumed_minilm.npz", **data)
    return folder


@pytest.fixture(scope="module")
def positive_dir(features_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small vectors with one known positive per row and nothing else."""
    data, rng = dict(np.load(features_dir / "ohsumed_minilm.npz")), np.random.default_rng(1)
    targets = np.full(data["train_y"].shape, -1, np.int8)
    for row, labels in enumerate(data["train_y"]):
        if labels.any():
            targets[row, rng.choice(np.flatnonzero(labels))] = 1
    data["train_y"] = targets
    folder = tmp_path_factory.mktemp("positive")
    np.savez(folder / "ohsumed_minilm.npz", **data)
    return folder


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a positive into every unknown cell, of all pools."""
    original = Pool.__init__

    def poisoned(self: Pool, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if self.known is not None and self.targets is not None:
            self.targets = torch.where(self.known, self.targets, 1.0)

    monkeypatch.setattr(Pool, "__init__", poisoned)


@pytest.mark.parametrize(
    ("case", "unknown_labels"),
    [
        (case, choice)
        for case in CASES
        for choice in ("pseudo", "mask")
        if choice == "pseudo" or case.split()[0] in PSEUDO
    ],
)
def test_what_is_in_an_unknown_cell_has_no_effect(
    case: str, unknown_labels: str, train: Any, partly_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = case.split()[0]
    options = {"algorithm": method, "label_ratio": 0.2, "unknown_labels": unknown_labels, **CASES[case]}
    if method in PSEUDO:
        quality = "false" if CASES[case].get("refresh") == "online" else "true"  # it keeps no pseudo-labels of the pool
        options |= {"report_figures": "true", "report_pseudo_label_quality": quality}
    runs = []
    for name in ("clean", "poisoned"):
        _, folder = train("bbam_ohsumed_features.yaml", data_dir=partly_dir, save_name=name, **options)
        runs.append(weights_and_log(folder))
        poison(monkeypatch)
    (clean, clean_rows), (poisoned, poisoned_rows) = runs
    assert all(torch.equal(clean[key], poisoned[key]) for key in clean)
    assert all(value.isfinite().all() for value in clean.values() if value.is_floating_point())
    assert clean_rows == poisoned_rows


def test_rates_are_of_known_cells(build: Any, partly_dir: Path) -> None:
    algorithm = build(data_dir=partly_dir, label_ratio=0.5)
    targets = np.load(partly_dir / "ohsumed_minilm.npz")["train_y"][algorithm.split.labeled]
    expected = (targets == 1).sum(0) / (targets >= 0).sum(0)
    assert np.allclose(algorithm.positive_rate.numpy(), expected)
    assert algorithm.known_share == pytest.approx((targets >= 0).mean())


@pytest.mark.parametrize("method", ["bbam", "cap", "supervised_bce", "ml_fixmatch"])
def test_without_a_known_negative_the_rest_counts_as_negative_and_is_said(
    method: str, train: Any, build: Any, positive_dir: Path
) -> None:
    algorithm = build(algorithm=method, data_dir=positive_dir, label_ratio=0.5)
    targets = np.load(positive_dir / "ohsumed_minilm.npz")["train_y"]
    targets = targets[(targets >= 0).any(axis=1)][algorithm.split.labeled]
    assert np.allclose(algorithm.positive_rate.numpy(), (targets == 1).mean(0))
    assert algorithm.dataset_dict["train_lb"].known is None
    _, folder = train("bbam_ohsumed_features.yaml", data_dir=positive_dir, algorithm=method, label_ratio=0.5)
    assert "WARNING 7 label(s)" in (folder / "log.txt").read_text()


def test_pseudo_labels_go_into_unknown_cells_only(build: Any, partly_dir: Path) -> None:
    for method in ("bbam", "cap", "d2l"):
        algorithm = build(algorithm=method, data_dir=partly_dir, label_ratio=0.5, refresh=True)
        targets = algorithm.pool_state.targets_lb if method == "bbam" else algorithm.targets_lb
        pool, unknown = algorithm.dataset_dict["pool_lb"], algorithm.unknown_lb
        assert torch.equal(unknown, ~pool.known)
        assert torch.equal(targets[pool.known], pool.targets[pool.known])
        assert 0 < targets[unknown].mean() < 1


def test_mask_leaves_unknown_cells_out_of_everything(build: Any, partly_dir: Path) -> None:
    state = build(data_dir=partly_dir, label_ratio=0.5, unknown_labels="mask", refresh=True)
    assert state.unknown_lb is None
    assert state.pool_state.targets_lb is None
    assert not state.pool_state.beta_lb.whole[~state.dataset_dict["pool_lb"].known].any()


@pytest.mark.parametrize("method", PSEUDO)
def test_the_state_of_unknown_cells_is_saved(method: str, build: Any, partly_dir: Path) -> None:
    options = {"algorithm": method, "data_dir": partly_dir, "label_ratio": 0.5, **ALGORITHMS[method]}
    algorithm, other = build(refresh=True, **options), build(**options)
    other.set_state(algorithm.get_state())
    saved, restored = flat(algorithm.get_state()), flat(other.get_state())
    assert saved.keys() == restored.keys()
    for key, value in saved.items():
        same = torch.equal(value, restored[key]) if isinstance(value, torch.Tensor) else value == restored[key]
        assert same, key


def flat(state: Any, name: str = "") -> dict[str, Any]:
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flat(value, f"{name}.{key}").items()}
    return {name: state}


def test_a_mixed_cell_is_known_where_both_are() -> None:
    targets = torch.tensor([[1.0, 0.0], [float("nan"), 1.0], [0.0, float("nan")]])
    torch.manual_seed(0)
    rows, mixed = mix_rows(torch.eye(3), targets, 1.0)
    parts = rows > 0  # which rows are in each
    expected = torch.stack([~(parts & targets.isnan()[:, k]).any(dim=1) for k in range(2)], dim=1)
    assert torch.equal(~mixed.isnan(), expected)
    kept, weights = masked((mixed.nan_to_num(), torch.ones(3, 4)), ~mixed.isnan())
    assert not kept[~expected].any()
    assert torch.equal(weights > 0, expected.repeat(1, 2))


def test_cross_entropy_of_known_cells_keeps_its_mean() -> None:
    logits, targets = torch.randn(6, 3, 2), torch.randint(2, (6, 3))
    known = torch.rand(6, 3) < 0.5
    loss: Callable[..., torch.Tensor] = LabelwiseCELoss(known_share=float(known.float().mean()))
    value = loss(logits, partly_known(targets, known), reduction="mean")
    plain = LabelwiseCELoss()(logits, targets)
    assert value == pytest.approx(float(plain[known].mean()))
    assert torch.equal(loss(logits, targets), plain)  # pseudo-labels are not scaled
    hot = torch.nn.functional.one_hot(partly_known(targets, known), 2)
    assert not isinstance(hot, PartlyKnown)
    assert torch.equal(hot.isnan().all(-1), ~known)
    assert torch.equal(hot[known], torch.nn.functional.one_hot(targets, 2).float()[known])


def test_thresholds_and_correctness_of_known_cells_are_those_of_each_label_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets, known = (torch.rand(50, 4, generator=generator) for _ in range(3))
    targets, known = (targets < 0.4).float(), known < 0.6
    poisoned = torch.where(known, targets, 1 - targets)
    for function in (f_beta_thresholds, midrange_thresholds):
        for k in range(4):
            rows = known[:, k]
            alone = function(scores[rows, k : k + 1], targets[rows, k : k + 1])
            together = function(scores, poisoned, known=known)
            assert all(torch.equal(a[0], b[k]) for a, b in zip(alone, together, strict=True))
    rates = correctness_rates(scores, poisoned, 5, known)
    assert torch.equal(rates, correctness_rates(scores[known].unsqueeze(1), targets[known].unsqueeze(1), 5))


def test_an_unknown_cell_gets_the_pseudo_label_of_its_rank_in_the_pool() -> None:
    pool, rate = torch.linspace(0, 1, 11).unsqueeze(1), torch.tensor([0.3])
    scores, unknown = torch.tensor([[0.95], [0.85], [0.2]]), torch.tensor([[True], [True], [False]])
    filled, mask = pseudo_label_unknown(scores, pool, torch.tensor([[0], [0], [1]]), unknown, rate, negative_share=0.5)
    assert filled.T.tolist() == [[1, 1, 1]]
    assert mask.all()
    low = torch.tensor([[0.65], [0.05], [0.65]])
    filled, mask = pseudo_label_unknown(low, pool, torch.zeros(3, 1), unknown, rate, negative_share=0.5)
    assert not filled.any()
    assert mask.T.tolist() == [[False, True, True]]  # 0.65 is not among the lower half of the negatives
