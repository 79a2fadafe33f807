"""The rows of a page's table of labels, from scores or from what a run has recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.metrics import average_precision_per_label
from semilearn_bbam.report.page.model import LabelRow, ScoredPart


def label_rows(
    names: Sequence[str],
    recorded: Sequence[Mapping[str, Any]],
    thresholds: NDArray[Any],
    protocol: str,
    scored: ScoredPart | None,
    labeled: NDArray[Any] | None,
) -> tuple[LabelRow, ...]:
    """A row per label.

    Args:
        names: of the labels, K.
        recorded: `per_label` of the results, K rows or none.
        thresholds: [K] of the decisions, inf for a label that is never predicted.
        protocol: which thresholds these are.
        scored: scores of the test part; None: precision and recall are not known, and the rest is what was recorded.
        labeled: positives of each label in the labelled part [K]; None: not known.

    Returns:
        The rows. A label without test positives has no AP and no recall; one that is never predicted has no precision;
        F1 is 0 where neither occurs, as in the macro mean.
    """
    rows = _scored_rows(scored, thresholds) if scored else [_recorded_row(row, protocol) for row in recorded]
    counts = [None] * len(rows) if labeled is None else [int(count) for count in labeled]
    return tuple(
        LabelRow(name=name, threshold=float(limit), labeled=count, **row)
        for name, row, limit, count in zip(names, rows, thresholds, counts, strict=True)
    )


def _scored_rows(scored: ScoredPart, thresholds: NDArray[Any]) -> list[dict[str, Any]]:
    known, true = scored.known, scored.targets & scored.known
    areas = average_precision_per_label(scored.scores, true, known)
    support = true.sum(axis=0)
    measured = []
    for limits in (thresholds, np.full(len(thresholds), 0.5)):
        predicted = (scored.scores >= limits) & known
        measured.append(((predicted & true).sum(axis=0), predicted.sum(axis=0)))
    (hits, predictions), (hits_half, predictions_half) = measured
    partly = not known.all()
    return [
        {
            "average_precision": _finite(areas[k]),
            "precision": _ratio(hits[k], predictions[k]),
            "recall": _ratio(hits[k], support[k]),
            "f1": _ratio(2 * hits[k], predictions[k] + support[k]) or 0.0,
            "f1_half": _ratio(2 * hits_half[k], predictions_half[k] + support[k]) or 0.0,
            "support": int(support[k]),
            "known": int(known[:, k].sum()) if partly else None,
        }
        for k in range(len(support))
    ]


def _recorded_row(row: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    return {
        "average_precision": row.get("average_precision"),
        "precision": None,
        "recall": None,
        "f1": row.get("f1" if protocol == "0.5" else f"f1_{protocol}"),
        "f1_half": row.get("f1"),
        "support": row.get("positives"),
        "known": row.get("known"),
    }


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
