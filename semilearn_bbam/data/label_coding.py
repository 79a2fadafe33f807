"""Between the `y` of scikit-learn and targets: labels [N,K], or one class per row, with -1 where it is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from semilearn_bbam.data.unknown import rows_with_any
from semilearn_bbam.errors import FitError

# Scores are float32; of one that is rounded to 0 or 1 the logit is finite.
LEAST, MOST = float(np.finfo(np.float32).tiny), 1 - 2.0**-25


@dataclass(frozen=True, eq=False)
class LabelCoding:
    """How labels become targets and scores become predictions.

    `classes` are those of a 1-d y, sorted, each of which is a label that excludes the others; None for labels [N,K].
    `names` are those of the K labels.
    """

    classes: NDArray[Any] | None
    names: tuple[str, ...]

    @classmethod
    def read(cls, y: Any, names: Sequence[object] | None = None) -> tuple[LabelCoding, NDArray[np.float32]]:
        """The coding of `y`, and its targets.

        Args:
            y: [N,K] of 0, 1 and -1, K >= 2, dense or sparse; or [N] or [N,1] of classes, -1 where it is not known.
            names: of the K columns; None: their numbers.

        Returns:
            The coding, and targets [N,K] of 0, 1 and -1, which is unknown.

        Raises:
            FitError: other values, no known label, a single class.

        Example:
            >>> LabelCoding.read(np.array(["b", "a", "b"], dtype=object))[1].tolist()
            [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
            >>> LabelCoding.read(np.array([[0, 1], [-1, 1]]))[1].tolist()
            [[0.0, 1.0], [-1.0, 1.0]]
        """
        y = y.toarray() if issparse(y) else np.asarray(y)
        if y.ndim < 2 or y.shape[1] == 1:
            return cls._of_classes(column_or_1d(y, warn=True))
        check_cells(y)
        targets = y.astype(np.float32)
        if not (targets >= 0).any():
            raise FitError("y is -1 everywhere, so no label is known; write 0 and 1 where it is")
        return cls(None, tuple(map(str, range(y.shape[1]) if names is None else names))), targets

    @classmethod
    def _of_classes(cls, y: NDArray[Any]) -> tuple[LabelCoding, NDArray[np.float32]]:
        known = known_classes(y)
        if not known.any():
            raise FitError("y is -1 everywhere, so no class is known; write the classes of some rows")
        check_classification_targets(y[known])
        classes, numbers = np.unique(y[known], return_inverse=True)
        if len(classes) < 2:
            without = "" if known.all() else " in addition to -1, which means unknown"
            raise FitError(f"y has one class{without}, {classes[0]}; two are needed")
        targets = np.full((len(y), len(classes)), -1, np.float32)
        targets[known] = np.eye(len(classes), dtype=np.float32)[numbers]
        return cls(classes, tuple(map(str, classes))), targets

    def predictions(self, scores: NDArray[np.float32], thresholds: NDArray[np.float32] | None) -> NDArray[Any]:
        """0 and 1, score >= threshold, [N,K]; of classes the one with the highest score, [N]."""
        if self.classes is None:
            assert thresholds is not None
            return (scores >= thresholds).astype(np.int64)
        decided: NDArray[Any] = self.classes[scores.argmax(axis=1)]
        return decided

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The scores [N,K]; of classes their shares, which add up to 1."""
        values = scores.astype(np.float64)
        if self.classes is None:
            return values
        values = values.clip(LEAST, MOST)
        shares: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
        return shares

    def decisions(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The logits of the scores [N,K]; of two classes log(p_2 / p_1), [N]."""
        values = scores.astype(np.float64).clip(LEAST, MOST)
        if self.classes is not None and len(self.classes) == 2:
            logs: NDArray[np.float64] = np.log(values)
            return logs[:, 1] - logs[:, 0]
        logits: NDArray[np.float64] = np.log(values) - np.log1p(-values)
        return logits


def check_cells(y: NDArray[Any]) -> None:
    """FitError unless `y` [N,K] holds 0, 1 and -1 only."""
    valid = np.isin(y, (-1, 0, 1))
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        value = y[row, column]
        raise FitError(
            f"Unknown label type: y must hold 0 and 1, or -1 where unknown, and row {row}, column {column} (counted "
            f"from 0) is {value!s}"
        )


def known_classes(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask [N] of the rows whose class is not the number -1; a text is a class."""
    if y.dtype.kind == "O":
        return np.array([isinstance(value, str) or value != -1 for value in y], dtype=bool)
    return np.ones(len(y), dtype=bool) if y.dtype.kind in "US" else np.asarray(y != -1)


def labeled_rows(targets: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask [N] of the rows of targets [N,K] with a known label."""
    return rows_with_any(targets >= 0)
