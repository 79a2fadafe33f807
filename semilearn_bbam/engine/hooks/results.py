"""The end of a run: evaluate the selected model, once, and write `results.json`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import numpy as np
from semilearn.core.hooks import Hook
from torch import Tensor

from semilearn_bbam.metrics import (
    average_precision_per_label,
    multilabel_metrics,
    prediction_metrics,
    prior_predictions,
)
from semilearn_bbam.runs.folder import RESULTS
from semilearn_bbam.util.memory import PeakMemory

VERSIONED = ("semilearn-bbam", "semilearn", "torch", "torchvision", "transformers", "scikit-learn", "numpy")


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed as a package"
    return versions


def per_label(
    names: Sequence[str], scores: Tensor, targets: Tensor, thresholds: Tensor, known: Tensor | None = None
) -> list[dict[str, Any]]:
    """A row per label: test positives, average precision, F1 at 0.5 and at the prior threshold, and that threshold.

    With known [N,K], where some labels are unknown, all of it over known cells, and `known` counts them.
    """
    precision = average_precision_per_label(scores, targets, known)
    cells = np.ones(targets.shape, dtype=bool) if known is None else known.numpy()
    true = (targets.numpy() > 0) & cells
    decisions = {"f1": (scores.numpy() >= 0.5) & cells, "f1_prior": prior_predictions(scores, thresholds) & cells}
    # F1 of a label that is neither true nor predicted anywhere is 0, as in the macro mean.
    f1 = {
        key: 2 * (predicted & true).sum(0) / np.maximum(predicted.sum(0) + true.sum(0), 1)
        for key, predicted in decisions.items()
    }
    return [
        {
            "label": name,
            "positives": int(true[:, k].sum()),
            **({} if known is None else {"known": int(cells[:, k].sum())}),
            "average_precision": float(precision[k]),
            **{key: float(values[k]) for key, values in f1.items()},
            "threshold_prior": float(thresholds[k]),
        }
        for k, name in enumerate(names)
    ]


class ResultsHook(Hook):
    """Test metrics under two protocols: F1 and Hamming loss at 0.5 (`test`) and at prior thresholds (`test_prior`).

    With a validation part of the labelled data also the same for it (`validation`, `validation_prior`). Without a test
    part, which only Python code can leave empty, there are no test metrics and no `per_label`.
    A prior threshold gives each label its labelled frequency on the unlabelled pool (on the labelled part without a
    pool); it uses no label of the pool or of the test set. `thresholds` has them, `per_label` a row for each label of
    the test set. `memory` has the peaks of training and of the refreshes, of all processes that shared or continued
    the run.
    """

    def __init__(self) -> None:
        self.memory = PeakMemory()

    def before_run(self, algorithm: Any) -> None:
        self.start = perf_counter()
        self.memory.start(algorithm.device)

    def elapsed(self, algorithm: Any) -> float:
        """Seconds of training so far, including those before a resume."""
        return algorithm.seconds_before + perf_counter() - self.start

    def after_run(self, algorithm: Any) -> None:
        args = algorithm.args
        seconds = self.elapsed(algorithm)
        self.memory.end()  # of training; the evaluation that follows is neither
        for peaks in algorithm.world.all_gather_objects(self.memory.peaks):
            self.memory.merge(peaks)
        thresholds = algorithm.prior_thresholds()
        results = {
            "algorithm": args.algorithm,
            "dataset": args.dataset,
            "label_ratio": len(algorithm.split.labeled) / algorithm.num_training,
            "num_labels": len(algorithm.split.labeled),
            "seed": args.seed,
            "hidden_labels": algorithm.hidden_labels,
            "selected_on": args.select_on,
            "selected_epoch": algorithm.selected_epoch,
            "epochs": algorithm.epochs,
            **({"cycles": list(algorithm.cycles)} if len(algorithm.cycles) > 1 else {}),
            "steps": algorithm.it,
            "seconds": seconds,
            "memory": self.memory.summary(),
            "device": str(algorithm.device),
            "versions": installed_versions(),
        }
        for part in algorithm.evaluated:
            scores, targets = algorithm.predict(part)
            known = algorithm.dataset_dict[part].known
            at_prior = prior_predictions(scores.cpu(), thresholds)
            results[part] = multilabel_metrics(scores.cpu(), targets, known=known)
            # The ranking metrics are the same, and the slowest.
            results[f"{part}_prior"] = {**results[part], **prediction_metrics(at_prior, targets, known)}
        results["thresholds"] = {"prior": thresholds.tolist()}  # null in the file where no score reaches it
        if "test" in algorithm.evaluated:  # the last one
            results["per_label"] = per_label(algorithm.identity["labels"], scores.cpu(), targets, thresholds, known)
        algorithm.results_dict = results
        algorithm.folder.write_json(RESULTS, results)
