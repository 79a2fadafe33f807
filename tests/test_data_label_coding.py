"""Labels as scikit-learn has them become targets, and scores become predictions again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from semilearn_bbam.data.label_coding import LabelCoding, labeled_rows
from semilearn_bbam.errors import FitError
from tests.conftest import naming


@pytest.mark.parametrize(
    ("y", "classes", "targets"),
    [
        ([[0, 1], [-1, 1]], None, [[0, 1], [-1, 1]]),
        ([[False, True]], None, [[0, 1]]),
        ([["0", "1"]], None, ""),
        (csr_array(np.array([[0, 1], [1, 0]])), None, [[0, 1], [1, 0]]),
        ([3, -1, 5], [3, 5], [[1, 0], [-1, -1], [0, 1]]),
        ([2.0, 0.0, 1.0], [0, 1, 2], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
        ([True, False], [False, True], [[0, 1], [1, 0]]),
        (["b", "-1"], ["-1", "b"], [[0, 1], [1, 0]]),
        (np.array(["b", -1, "a"], dtype=object), ["a", "b"], [[0, 1], [-1, -1], [1, 0]]),
    ],
)
def test_targets(y: Any, classes: Any, targets: Any) -> None:
    if targets == "":
        with pytest.raises(FitError, match=naming("row 0", "column 0")):
            LabelCoding.read(y)
        return
    coding, values = LabelCoding.read(y)
    assert (coding.classes is None) if classes is None else (list(coding.classes) == classes)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, targets)
    np.testing.assert_array_equal(labeled_rows(values), (np.array(targets) >= 0).any(1))
    assert len(coding.names) == values.shape[1]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([[0, 1], [1, 2]], ("row 1", "column 1", 2)),
        ([[0, 0.5], [1, 0]], ("row 0", "column 1", 0.5)),
        ([[-1, -1], [-1, -1]], (-1, "everywhere")),
        ([-1, -1], (-1, "everywhere")),
        ([1, 1], ("one class", 1)),
        ([-1, 1], ("one class", -1, "unknown")),
    ],
)
def test_labels_that_cannot_be_used(y: Any, words: tuple[Any, ...]) -> None:
    with pytest.raises(FitError, match=naming(*words)):
        LabelCoding.read(y)


def test_predictions() -> None:
    scores = np.array([[0.2, 0.6], [0.5, 0.5], [1.0, 0.0]], np.float32)
    labels, _ = LabelCoding.read([[0, 1]])
    np.testing.assert_array_equal(labels.predictions(scores, np.array([0.5, np.inf])), [[0, 0], [1, 0], [1, 0]])
    np.testing.assert_array_equal(labels.probabilities(scores), scores.astype(float))
    decisions = labels.decisions(scores)
    assert np.isfinite(decisions).all()
    np.testing.assert_allclose(decisions[0], np.log(scores[0] / (1 - scores[0].astype(float))))
    classes, _ = LabelCoding.read(["a", "b"])
    np.testing.assert_array_equal(classes.predictions(scores, None), ["b", "a", "a"])
    shares = classes.probabilities(scores)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares[0], [0.25, 0.75])
    np.testing.assert_allclose(classes.decisions(scores)[:2], [np.log(3), 0], atol=1e-6)
    np.testing.assert_allclose(classes.decisions(scores), np.log(shares[:, 1]) - np.log(shares[:, 0]))


def test_no_score_at_all_is_no_probability_of_zero() -> None:
    classes, _ = LabelCoding.read(["a", "b", "c"])
    np.testing.assert_allclose(classes.probabilities(np.zeros((1, 3), np.float32)), np.full((1, 3), 1 / 3))
