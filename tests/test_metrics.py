from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (  # type: ignore[import-untyped,unused-ignore]
    average_precision_score,
    coverage_error,
    f1_score,
    hamming_loss,
    label_ranking_average_precision_score,
    label_ranking_loss,
)

from semilearn_bbam.metrics import (
    average_precision_per_label,
    multilabel_metrics,
    oracle_predictions,
    prediction_metrics,
    prior_predictions,
)
from tests.conftest import naming

Rows = list[list[float]]
KEYS = {
    "mAP", "mAP_present", "micro_f1", "macro_f1", "hamming_loss", "vca", "one_error", "ranking_loss",
    "coverage_error", "lrap", "oracle_micro_f1", "oracle_macro_f1", "oracle_hamming_loss",
}  # fmt: skip


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def loop_average_precision(scores: list[float], targets: list[float]) -> float:
    total, value, before = sum(targets), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [t for s, t in zip(scores, targets, strict=True) if s >= threshold]
        recall = sum(taken) / total
        value += (recall - before) * sum(taken) / len(taken)
        before = recall
    return value


def loop_hard(predicted: Rows, targets: Rows) -> dict[str, float]:
    n, labels = len(targets), len(targets[0])
    hits, sizes, variances = [], [], []
    for k in range(labels):
        p, t = [row[k] for row in predicted], [row[k] for row in targets]
        hits.append(sum(a * b for a, b in zip(p, t, strict=True)))
        sizes.append(sum(p) + sum(t))
        if 0 < sum(t) < n:
            positive = hits[k] / sum(t)
            negative = sum((1 - a) * (1 - b) for a, b in zip(p, t, strict=True)) / (n - sum(t))
            middle = (positive + negative) / 2
            variances.append(((positive - middle) ** 2 + (negative - middle) ** 2) / 2)
    wrong = sum(p != t for x, y in zip(predicted, targets, strict=True) for p, t in zip(x, y, strict=True))
    return {
        "micro_f1": 2 * sum(hits) / sum(sizes) if sum(sizes) else 0.0,
        "macro_f1": mean([2 * h / s if s else 0.0 for h, s in zip(hits, sizes, strict=True)]),
        "hamming_loss": wrong / (n * labels),
        "vca": mean(variances),
    }


def loop_ranking(scores: Rows, targets: Rows) -> dict[str, float]:
    errors, losses, covers, precisions = [], [], [], []
    for s, t in zip(scores, targets, strict=True):
        relevant = [s[k] for k in range(len(s)) if t[k]]
        others = [s[k] for k in range(len(s)) if not t[k]]
        errors.append(0.0 if t[s.index(max(s))] else 1.0)
        pairs = len(relevant) * len(others)
        losses.append(sum(o >= r for r in relevant for o in others) / pairs if pairs else 0.0)
        covers.append(float(sum(v >= min(relevant) for v in s)) if relevant else 0.0)
        above = [sum(o >= r for o in relevant) / sum(v >= r for v in s) for r in relevant]
        precisions.append(mean(above) if pairs else 1.0)
    return {
        "one_error": mean(errors), "ranking_loss": mean(losses),
        "coverage_error": mean(covers), "lrap": mean(precisions),
    }  # fmt: skip


def loop_metrics(scores: Rows, targets: Rows) -> dict[str, float]:
    labels = range(len(scores[0]))
    columns = [([s[k] for s in scores], [t[k] for t in targets]) for k in labels]
    precision = [loop_average_precision(s, t) for s, t in columns if sum(t)]
    oracle = []
    for s, t in zip(scores, targets, strict=True):
        best = sorted(labels, key=lambda k: (-s[k], k))[: int(sum(t))]
        oracle.append([float(k in best) for k in labels])
    oracle_metrics = loop_hard(oracle, targets)
    return {
        "mAP": sum(precision) / len(labels),
        "mAP_present": mean(precision),
        **loop_hard([[float(v >= 0.5) for v in row] for row in scores], targets),
        **loop_ranking(scores, targets),
        **{f"oracle_{name}": oracle_metrics[name] for name in ("micro_f1", "macro_f1", "hamming_loss")},
    }


@st.composite
def problems(draw: st.DrawFn) -> tuple[Rows, Rows]:
    n, labels = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    score = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(-2, 2, width=32))

    def matrix(values: st.SearchStrategy[float]) -> Rows:
        row = st.lists(values, min_size=labels, max_size=labels)
        return draw(st.lists(row, min_size=n, max_size=n))

    return matrix(score), matrix(st.sampled_from([0.0, 1.0]))


@settings(max_examples=100, deadline=None)
@given(problems())
def test_all_metrics_match_loops_and_no_warning_leaks(problem: tuple[Rows, Rows]) -> None:
    scores, targets = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = multilabel_metrics(np.array(scores), np.array(targets))
    assert set(result) == KEYS
    assert all(type(value) is float for value in result.values())
    assert result == pytest.approx(loop_metrics(scores, targets), abs=1e-9)


@pytest.mark.parametrize("labels", [2, 6])
def test_f1_and_hamming_are_those_of_scikit_learn(labels: int) -> None:
    random = np.random.default_rng(0)
    targets = (random.random((50, labels)) < 0.3).astype(int)
    predictions = (random.random((50, labels)) < 0.4).astype(int)
    predictions[:, 0] = targets[:, 0] = 0
    result = multilabel_metrics(random.random((50, labels)), targets, predictions=predictions)
    for average in ("micro", "macro"):
        expected = f1_score(targets, predictions, average=average, zero_division=0)
        assert result[f"{average}_f1"] == pytest.approx(expected)
    assert result["hamming_loss"] == pytest.approx(hamming_loss(targets, predictions))


@pytest.mark.parametrize("digits", [1, 8])
def test_ranking_metrics_are_those_of_scikit_learn(digits: int) -> None:
    random = np.random.default_rng(0)
    scores, targets = random.random((60, 7)).round(digits), (random.random((60, 7)) < 0.3).astype(int)
    targets[0], targets[1] = 0, 1
    result = multilabel_metrics(scores, targets)
    assert result["ranking_loss"] == pytest.approx(label_ranking_loss(targets, scores), abs=1e-12)
    assert result["coverage_error"] == pytest.approx(coverage_error(targets, scores), abs=1e-12)
    assert result["lrap"] == pytest.approx(label_ranking_average_precision_score(targets, scores), abs=1e-12)


def test_a_table_to_check_by_eye() -> None:
    scores = np.array([[0.9, 0.2, 0.6], [0.4, 0.8, 0.1], [0.3, 0.7, 0.2], [0.1, 0.2, 0.3]])
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    result = multilabel_metrics(scores, targets)
    assert result["mAP"] == pytest.approx(2 / 3)  # label 2 has no positives
    assert result["mAP_present"] == 1
    assert result["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))  # three hits, four predicted, four true
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result["hamming_loss"] == pytest.approx(2 / 12)
    # Label 0: half of its positives, all of its negatives; label 1: all of both; label 2 has one class only.
    assert result["vca"] == pytest.approx((0.25**2 + 0) / 2)
    assert result["one_error"] == 0.25  # the sample without labels
    assert result["oracle_micro_f1"] == 1
    assert result["oracle_hamming_loss"] == 0


def test_predictions_change_hard_metrics_only() -> None:
    random = np.random.default_rng(1)
    scores, targets = random.random((30, 4)), random.random((30, 4)) < 0.4
    usual = multilabel_metrics(scores, targets)
    perfect = multilabel_metrics(scores, targets, predictions=targets)
    hard = {"micro_f1", "macro_f1", "hamming_loss", "vca"}
    assert {key for key in KEYS if perfect[key] != usual[key]} == hard
    assert (perfect["micro_f1"], perfect["macro_f1"], perfect["hamming_loss"], perfect["vca"]) == (1, 1, 0, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_and_arrays_agree(dtype: torch.dtype) -> None:
    scores = torch.rand(40, 5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    targets = torch.rand(40, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    expected = multilabel_metrics(scores.detach().double().numpy(), targets.int().numpy())
    assert multilabel_metrics(scores, targets.to(dtype)) == expected
    assert multilabel_metrics(scores, targets, predictions=scores.detach() >= 0.5) == expected


def test_average_precision_per_label_marks_absent_labels() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5]])
    precision = average_precision_per_label(scores, np.array([[0, 0, 1], [1, 0, 1], [0, 0, 1]]))
    assert precision[0] == 0.5
    assert math.isnan(precision[1])
    assert precision[2] == 1


def test_nothing_relevant_at_all() -> None:
    result = multilabel_metrics(np.full((3, 2), 0.1), np.zeros((3, 2)))
    zero = KEYS - {"one_error", "lrap"}
    assert all(result[key] == 0 for key in zero)
    assert result["one_error"] == result["lrap"] == 1


def test_oracle_predicts_the_true_number_with_ties_to_the_earlier_label() -> None:
    scores = np.array([[0.5, 0.5, 0.5], [0.1, 0.9, 0.3], [0.7, 0.8, 0.9]])
    predicted = oracle_predictions(scores, np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]]))
    assert predicted.tolist() == [[True, True, False], [False, True, False], [False, False, False]]


def test_prior_predictions_use_one_threshold_per_label() -> None:
    scores = torch.tensor([[0.2, 0.9, 0.4], [0.1, 0.3, 0.4]])
    predicted = prior_predictions(scores, torch.tensor([0.2, math.inf, 0.4]))
    assert predicted.tolist() == [[True, False, True], [False, False, True]]
    with pytest.raises(ValueError, match="3 numbers"):
        prior_predictions(scores, torch.tensor([0.2, 0.3]))
    with pytest.raises(ValueError, match="NaN"):
        prior_predictions(scores, torch.tensor([0.2, 0.3, math.nan]))


def test_errors_name_what_is_wrong() -> None:
    scores, targets = np.random.default_rng(0).random((4, 3)), np.zeros((4, 3))
    with pytest.raises(ValueError, match=naming("scores", "matrix", "[4]")):
        multilabel_metrics(scores[:, 0], targets[:, 0])
    with pytest.raises(ValueError, match=naming("scores", "matrix", "[0, 3]")):
        multilabel_metrics(scores[:0], targets[:0])
    with pytest.raises(ValueError, match=naming("targets", "[4, 3] of scores", "[3, 4]")):
        multilabel_metrics(scores, targets.T)
    with pytest.raises(ValueError, match=naming("targets", "0 and 1")):
        multilabel_metrics(scores, targets - 1)
    with pytest.raises(ValueError, match=naming("predictions", "0 and 1")):
        multilabel_metrics(scores, targets, predictions=scores)
    for bad in (math.nan, math.inf):
        broken = scores.copy()
        broken[1, 1] = bad
        with pytest.raises(ValueError, match="scores hold"):
            multilabel_metrics(broken, targets)


def test_metrics_of_predictions_are_those_of_all_metrics() -> None:
    rng = np.random.default_rng(4)
    scores, targets, predictions = rng.random((30, 5)), rng.random((30, 5)) < 0.4, rng.random((30, 5)) < 0.3
    whole = multilabel_metrics(scores, targets, predictions=predictions)
    found = prediction_metrics(predictions, targets)
    assert set(found) == {"micro_f1", "macro_f1", "hamming_loss", "vca"}
    assert all(whole[key] == value for key, value in found.items())
    # All else is the ranking's, whatever is predicted.
    plain = multilabel_metrics(scores, targets)
    assert all(plain[key] == value for key, value in whole.items() if key not in found)
    with pytest.raises(ValueError, match=naming("predictions", "[30, 5] of scores", "[29, 5]")):
        prediction_metrics(predictions[1:], targets)


def test_unknown_cells_count_nowhere() -> None:
    """Each metric on known cells is scikit-learn's, label by label or row by row, on what is known there."""
    rng = np.random.default_rng(3)
    scores, targets = rng.random((40, 6)).round(1), rng.random((40, 6)) < 0.4
    known = rng.random((40, 6)) < 0.6
    known[0] = False
    values = multilabel_metrics(scores, targets, known=known)
    flipped = multilabel_metrics(np.where(known, scores, 1 - scores), targets ^ ~known, known=known)
    assert flipped == values
    assert multilabel_metrics(scores, targets, known=np.ones_like(known)) == multilabel_metrics(scores, targets)

    columns = [(targets[known[:, k], k], scores[known[:, k], k]) for k in range(6)]
    assert values["mAP"] == pytest.approx(np.mean([average_precision_score(t, s) for t, s in columns]))
    assert values["macro_f1"] == pytest.approx(np.mean([f1_score(t, s >= 0.5) for t, s in columns]))
    assert values["micro_f1"] == pytest.approx(f1_score(targets[known], scores[known] >= 0.5))
    assert values["hamming_loss"] == pytest.approx(np.mean(targets[known] != (scores[known] >= 0.5)))
    rows = [(targets[i : i + 1, known[i]], scores[i : i + 1, known[i]]) for i in range(40) if known[i].any()]
    assert values["one_error"] == pytest.approx(np.mean([not t[0, s[0].argmax()] for t, s in rows]))
    for name, function in (
        ("ranking_loss", label_ranking_loss),
        ("coverage_error", coverage_error),
        ("lrap", label_ranking_average_precision_score),
    ):
        expected = [function(t, s) if t.shape[1] > 1 else alone(name, bool(t[0, 0])) for t, s in rows]
        assert values[name] == pytest.approx(np.mean(expected)), name


def alone(name: str, relevant: bool) -> float:
    """The metric of a row with one known label, which scikit-learn does not take."""
    return {"ranking_loss": 0.0, "coverage_error": float(relevant), "lrap": 1.0}[name]
