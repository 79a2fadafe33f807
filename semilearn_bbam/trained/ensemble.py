"""Several runs as one model: the mean of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.inference import Predictor, load_run


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Runs on the same labels and kind of items; labels are in the order of the first, matched by name.

    `thresholds` are the means of the runs' own under each protocol that all have; a run in which a label has no finite
    one does not count for it.
    """

    members: tuple[Predictor, ...]
    columns: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, predictors: Sequence[Predictor], names: Sequence[str]) -> Ensemble:
        """From loaded runs, and their names in messages. RunError where labels or kinds of items differ."""
        first = predictors[0]
        columns = []
        for predictor, name in zip(predictors, names, strict=True):
            if predictor.kind != first.kind:
                raise RunError(
                    f"'{names[0]}' reads {first.kind} items and '{name}' {predictor.kind} items; give one kind"
                )
            differing = set(first.label_names) ^ set(predictor.label_names)
            if differing:
                raise RunError(
                    f"'{names[0]}' and '{name}' do not have the same labels ({min(differing)!r} is in one alone); give "
                    "runs of the same labels"
                )
            place = {label: k for k, label in enumerate(predictor.label_names)}
            columns.append(np.array([place[label] for label in first.label_names]))
        return cls(tuple(predictors), tuple(columns))

    @property
    def kind(self) -> str:
        return self.members[0].kind

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.members[0].label_names

    @property
    def settings(self) -> Any:
        """Those of the first run."""
        return self.members[0].settings

    @property
    def encoders(self) -> list[str]:
        return list(dict.fromkeys(name for member in self.members for name in member.encoders))

    @property
    def thresholds(self) -> dict[str, NDArray[np.float32]]:
        shared = [key for key in self.members[0].thresholds if all(key in one.thresholds for one in self.members)]
        return {key: self._mean_threshold(key) for key in shared}

    @property
    def calibration(self) -> Any:
        """None unless every run has probabilities."""
        has_all = all(member.calibration is not None for member in self.members)
        return self.members[0].calibration if has_all else None

    def scores(self, items: Any, batch_size: int | None = None) -> NDArray[np.float32]:
        """Mean scores [N,K] of the runs."""
        return self._mean([member.scores(items, batch_size) for member in self.members])

    def scores_and_probabilities(
        self, items: Any, batch_size: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean scores and mean calibrated probabilities [N,K]. UserError where a run has none."""
        scores = [member.scores(items, batch_size) for member in self.members]
        pairs = zip(self.members, scores, strict=True)
        return self._mean(scores), self._mean([member.probabilities(values) for member, values in pairs])

    def _mean(self, values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if len(values) == 1:
            return values[0]
        ordered = [one[:, columns] for one, columns in zip(values, self.columns, strict=True)]
        return np.mean(ordered, axis=0, dtype=np.float64).astype(np.float32)

    def _mean_threshold(self, protocol: str) -> NDArray[np.float32]:
        pairs = zip(self.members, self.columns, strict=True)
        rows = np.array([one.thresholds[protocol][columns] for one, columns in pairs], np.float64)
        finite = np.isfinite(rows)
        total = np.where(finite, rows, 0).sum(0)
        mean = np.where(finite.any(0), total / np.maximum(finite.sum(0), 1), np.inf)
        return np.asarray(mean, np.float32)


def load_runs(folders: Sequence[str | Path], device: str = "auto") -> Ensemble:
    """One or several runs as one model. RunError as in `load_run` and `Ensemble.of`."""
    names = [str(folder) for folder in folders]
    if len({Path(name).resolve() for name in names}) < len(names):
        raise UserError("a run is named twice; name each run once")
    return Ensemble.of([load_run(folder, device=device) for folder in folders], names)


def decide(
    scores: ArrayLike, thresholds: ArrayLike | None = None, top_k: int = 0, by: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Labels chosen from scores [N,K]: those that reach their threshold, and of these the `top_k` highest.

    Args:
        scores: [N,K].
        thresholds: one number or [K]; None: no threshold.
        top_k: most labels of a row; 0: no limit. Of equal values the earlier label comes first.
        by: [N,K], of which the highest are taken; None: the scores.

    Returns:
        bool [N,K].

    Example:
        >>> decide([[0.9, 0.8, 0.1]], 0.05, top_k=2).tolist()
        [[True, True, False]]
    """
    values = np.asarray(scores)
    chosen = np.ones(values.shape, bool) if thresholds is None else values >= np.asarray(thresholds)
    if not 0 < top_k < values.shape[1]:
        return chosen
    ranked = values if by is None else np.asarray(by)
    order = np.argsort(np.where(chosen, -ranked, np.inf), axis=1, kind="stable")
    first = np.zeros(values.shape, bool)
    np.put_along_axis(first, order[:, :top_k], True, axis=1)
    return chosen & first
