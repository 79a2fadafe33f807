"""`decisions.json` of a run: thresholds, probabilities and label sets that were made from its labelled rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.calibration import Calibration
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import DECISIONS, LABELS
from semilearn_bbam.runs.reader import Run


def results_digest(record: Run) -> str:
    """A fingerprint of the results of a run, but for seconds and memory, by which decisions know what they are of."""
    results = {key: value for key, value in record.results.items() if key not in ("seconds", "memory")}
    return compute_fingerprint([json.dumps(results, sort_keys=True)])


def read_decisions(record: Run) -> dict[str, Any]:
    """The decisions of a run, empty without any. RunError for a damaged file, and for one of another run."""
    path = record.folder / DECISIONS
    if not path.is_file():
        return {}
    try:
        decisions: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        same = decisions["run"] == results_digest(record)
        labels = decisions["label_names"] == list(record.labels["label_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"'{path}' cannot be read, perhaps it is truncated; run calibrate again, or delete it"
        ) from error
    if not same or not labels:
        raise RunError(f"'{path}' is of another run than '{record.folder / LABELS}'; run calibrate again, or delete it")
    return decisions


def run_thresholds(record: Run, num_labels: int, *, decided: bool = True) -> dict[str, NDArray[np.float32]]:
    """One threshold per label, [K], under each protocol, also those of `decisions.json`; inf: no score is enough."""
    thresholds = {"0.5": np.full(num_labels, 0.5, np.float32)}
    saved: Mapping[str, Any] = record.results.get("thresholds", {})
    if decided:
        saved = {**saved, **read_decisions(record).get("thresholds", {})}
    for protocol, values in saved.items():
        thresholds[protocol] = np.array([np.inf if value is None else value for value in values], np.float32)
    return thresholds


def run_calibration(record: Run) -> Calibration | None:
    """What makes probabilities of the scores of a run, None before `calibrate`."""
    saved = read_decisions(record).get("calibration")
    return Calibration(np.array(saved["slope"]), np.array(saved["intercept"])) if saved else None
