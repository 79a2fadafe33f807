"""Labelled cells of a run that models which were not trained on their rows contradict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.calibration import best_strength, cross_fitted
from semilearn_bbam.errors import UserError
from semilearn_bbam.trained.out_of_fold import OutOfFold
from semilearn_bbam.trained.run_data import RunData


@dataclass(frozen=True)
class Issue:
    """A labelled cell: row of the training part, item, label, whether it is given as true, and how probable that is."""

    row: int
    item: str
    label: str
    given: bool
    probability: float


def label_issues(
    data: RunData, outside: OutOfFold, *, by: str = "probability", max_probability: float = 0.1
) -> list[Issue]:
    """The cells whose given label is improbable, the least probable first.

    Args:
        data: of the run.
        outside: out-of-fold scores of its labelled rows; each is calibrated by the other folds.
        by: "probability": cells whose given label has at most `max_probability`; "cleanlab": as many cells of each
            label as cleanlab takes for wrong (confident learning, Northcutt et al., JAIR 2021), the least probable.
        max_probability: in (0, 1); of "probability" only.

    Returns:
        A row per cell. Unknown cells are in no list.

    Raises:
        UserError: cleanlab is not installed.
    """
    targets = data.targets
    strength = best_strength(outside.scores, targets, outside.fold, data.split.weights)
    probabilities = cross_fitted(outside.scores, targets, outside.fold, strength=strength, weights=data.split.weights)
    of_given = np.where(targets > 0, probabilities, 1 - probabilities)
    is_improbable = of_given <= max_probability if by == "probability" else _by_cleanlab(targets, probabilities)
    rows, columns = np.nonzero(is_improbable & (targets >= 0))
    order = np.argsort(of_given[rows, columns], kind="stable")
    return [_issue(data, int(rows[one]), int(columns[one]), of_given) for one in order]


def _issue(data: RunData, position: int, column: int, of_given: NDArray[np.float64]) -> Issue:
    row = int(data.split.labeled[position])
    return Issue(
        row,
        data.source.item_name("train", row),
        data.source.label_names[column],
        bool(data.targets[position, column] > 0),
        float(of_given[position, column]),
    )


def _by_cleanlab(targets: NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mask [L,K] of the cells that cleanlab takes for wrong; a label is judged by the rows that know it."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise UserError("--by cleanlab needs cleanlab; pip install 'semilearn-bbam[issues]'") from error
    wrong = np.zeros(targets.shape, bool)
    for k in range(targets.shape[1]):
        known = np.flatnonzero(targets[:, k] >= 0)
        labels = (targets[known, k] > 0).astype(np.int64)
        if len(np.unique(labels)) == 2:  # with one class alone there is nothing to compare
            both = np.stack([1 - probabilities[known, k], probabilities[known, k]], axis=1)
            wrong[known, k] = find_label_issues(labels, both, filter_by="low_self_confidence", n_jobs=1)
    return wrong


def in_words(issue: Issue) -> str:
    """The cell as a line."""
    given = "has" if issue.given else "has not"
    return f"{issue.item}: {given} {issue.label!r}, with probability {issue.probability:.3f}"


def as_rows(issues: Sequence[Issue]) -> list[list[str]]:
    """The lines of a CSV, after its header."""
    header = ["row", "id", "label", "given", "probability_of_given"]
    rows = [[str(one.row), one.item, one.label, str(int(one.given)), f"{one.probability:.6g}"] for one in issues]
    return [header, *rows]
