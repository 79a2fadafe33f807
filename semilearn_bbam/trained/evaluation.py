"""All metrics of a trained run under all of its protocols, on its own test part or on other labelled items."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.calibration import brier_score, calibration_error, log_loss
from semilearn_bbam.data.dataset import DataError, Items
from semilearn_bbam.data.images import SUFFIXES as IMAGES
from semilearn_bbam.data.inputs import ARRAYS, NEUTRAL, loaded_inputs, read_inputs
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.manifest import read_labeled
from semilearn_bbam.label_sets import miss_rate
from semilearn_bbam.metrics import average_precision_per_label, multilabel_metrics, prediction_metrics

SETS = "miss_"


@dataclass(frozen=True, eq=False)
class Labeled:
    """Items with targets [N,K] of 0, 1 and -1 (unknown), in the order of a run's labels; notes on their reading."""

    items: Items
    targets: NDArray[np.float32]
    notes: Sequence[str] = ()


def evaluate(
    scores: NDArray[np.float32],
    targets: NDArray[np.float32],
    label_names: Sequence[str],
    thresholds: Mapping[str, NDArray[np.float32]],
    probabilities: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Metrics of scores [N,K] by protocol, and of every label.

    Args:
        scores: [N,K].
        targets: [N,K] of 0, 1, and -1 for unknown.
        label_names: [K].
        thresholds: [K] by protocol; that of a name `miss_<alpha>` makes label sets.
        probabilities: [N,K], calibrated; None: none.

    Returns:
        `items`; `ranking`, which needs no threshold; `decisions` with F1, Hamming loss and VCA by protocol; `sets` with
        the miss rate and size of label sets; `reliability` of scores and probabilities; `oracle`, for which each item's
        true number of labels is given away; `per_label`.
    """
    known, true = targets >= 0, targets > 0
    everything = multilabel_metrics(scores, true, known=known)
    from_predictions = prediction_metrics(scores >= 0.5, true, known)
    oracle = {key: value for key, value in everything.items() if key.startswith("oracle_")}
    ranking = {key: value for key, value in everything.items() if key not in oracle and key not in from_predictions}
    predictions = {name: scores >= values for name, values in thresholds.items()}
    sets = {name: made for name, made in predictions.items() if name.startswith(SETS)}
    decisions = {name: made for name, made in predictions.items() if name not in sets}
    reliability = {"scores": reliability_of(scores, targets)}
    if probabilities is not None:
        reliability["probabilities"] = reliability_of(probabilities, targets)
    return {
        "items": len(scores),
        "ranking": ranking,
        "decisions": {name: prediction_metrics(made, true, known) for name, made in decisions.items()},
        "sets": {
            name.removeprefix(SETS): {
                "miss_rate": miss_rate(made, targets),
                "labels_per_item": float(made.sum(1).mean()),
            }
            for name, made in sets.items()
        },
        "reliability": reliability,
        "oracle": oracle,
        "per_label": _per_label(scores, targets, label_names, thresholds, decisions),
    }


def reliability_of(probabilities: NDArray[Any], targets: NDArray[np.float32]) -> dict[str, float]:
    """Calibration error, Brier score and log loss of probabilities [N,K] by targets [N,K], over known cells."""
    return {
        "ece": calibration_error(probabilities, targets),
        "brier": brier_score(probabilities, targets),
        "log_loss": log_loss(probabilities, targets),
    }


def _per_label(
    scores: NDArray[np.float32],
    targets: NDArray[np.float32],
    label_names: Sequence[str],
    thresholds: Mapping[str, NDArray[np.float32]],
    decisions: Mapping[str, NDArray[np.bool_]],
) -> list[dict[str, Any]]:
    """A row per label: positives, known cells, average precision, and precision, recall, F1 under each protocol."""
    known, true = targets >= 0, targets > 0
    average = average_precision_per_label(scores, true, known)
    rows: list[dict[str, Any]] = [
        {
            "label": name,
            "support": int(true[:, k].sum()),
            "known": int(known[:, k].sum()),
            "average_precision": float(average[k]),
        }
        for k, name in enumerate(label_names)
    ]
    for protocol, made in decisions.items():
        chosen = made & known
        both, predicted, positives = (chosen & true).sum(0), chosen.sum(0), true.sum(0)
        columns = {
            "threshold": thresholds[protocol],
            "precision": both / np.maximum(predicted, 1),
            "recall": both / np.maximum(positives, 1),
            "f1": 2 * both / np.maximum(predicted + positives, 1),
        }
        for k, row in enumerate(rows):
            row |= {f"{key}_{protocol}": float(values[k]) for key, values in columns.items()}
    return rows


def read_labeled_file(
    path: Path, kind: str, label_names: Sequence[str], width: int, settings: argparse.Namespace, data_dir: str = ""
) -> Labeled:
    """Labelled items of a file: a manifest of images or texts, or an `.npz` with vectors and targets.

    Args:
        path: a manifest in any form that `dataset: manifest` reads, or an `.npz` with `test_x` and `test_y` (or `x` and
            `y`), targets 0, 1 or -1, and `label_names`.
        kind: of the run's items: "image", "text" or "features".
        label_names: the labels of the run; those of the file are matched by name.
        width: of the run's vectors.
        settings: of the run.
        data_dir: folder below which a manifest's images are; "": that of the manifest.

    Raises:
        DataError: no such file, items of another kind, bad items, labels that the run does not have.
    """
    if not path.exists():
        raise DataError(f"--data: '{path}' does not exist; check the path")
    if kind == "features":
        return _read_archive(path, label_names, width, settings)
    if path.suffix.lower() in (*ARRAYS, *IMAGES) and path.is_file():
        raise DataError(f"--data: '{path}' is no manifest; give one that lists {kind}s and their labels")
    where = {"manifest": str(path.absolute()) if data_dir else path.name, "data_dir": data_dir or str(path.parent)}
    reading = argparse.Namespace(**{**vars(settings), **NEUTRAL, **where})
    found, part, notes = read_labeled(reading, label_names)
    if found != kind:
        raise DataError(f"--data: '{path}' lists {found}s, but the run reads {kind}s; give a file of that kind")
    _, faults = loaded_inputs(part.items, part.ids, kind, "", settings).checked(0, len(part.items))
    problems = [*part.problems, *faults.values()]
    if problems:
        lines = "; ".join(describe(problems))
        raise DataError(f"--data: '{path}' has {len(problems)} bad item(s): {lines}; fix or remove them")
    empty = int((part.targets == 0).all(axis=1).sum())
    if empty:
        notes.append(f"{path.name}: {empty} item(s) without labels are taken to have none of them")
    return Labeled(part.items, part.targets, notes)


def _read_archive(path: Path, label_names: Sequence[str], width: int, settings: argparse.Namespace) -> Labeled:
    inputs = read_inputs(path, "features", settings)
    if np.shape(inputs.items)[1] != width:
        raise DataError(
            f"--data: '{path}' has vectors of width {np.shape(inputs.items)[1]}, the run reads width {width}; give such"
        )
    if path.suffix.lower() != ".npz":
        raise DataError(f"--data: '{path}' has no targets; give an .npz with test_x and test_y")
    try:
        with np.load(path, allow_pickle=False) as archive:
            key = "test_y" if "test_x" in archive.files else "y"
            targets = np.asarray(archive[key])
            names = [str(name) for name in archive["label_names"]] if "label_names" in archive.files else []
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"--data: '{path}' has no targets that can be read ({error}); name them test_y") from error
    if targets.ndim != 2 or len(targets) != len(inputs) or not np.isin(targets, (-1, 0, 1)).all():
        raise DataError(f"--data: '{path}': {key} must be a table of 0, 1 or -1 with a row for each vector; fix it")
    notes: list[str] = []
    if names:
        if len(set(names)) != targets.shape[1]:
            raise DataError(f"--data: '{path}': label_names must name each column of {key} once; fix them")
        unknown, missing = sorted(set(names) - set(label_names)), sorted(set(label_names) - set(names))
        if unknown:
            raise DataError(f"--data: the label {unknown[0]!r} of '{path}' is none of the run's; leave its column out")
        if missing:
            raise DataError(
                f"--data: '{path}' has no column for the label {missing[0]!r} of the run; add one, -1 if unknown"
            )
        place = {name: k for k, name in enumerate(names)}
        targets = targets[:, [place[name] for name in label_names]]
    elif targets.shape[1] != len(label_names):
        raise DataError(
            f"--data: '{path}': {key} has {targets.shape[1]} columns, the run {len(label_names)} labels; name the "
            "columns in label_names"
        )
    else:
        notes.append(f"{path.name} has no label_names: its columns are taken in the order of the run's labels")
    items, problems = inputs.checked(0, len(inputs))
    if problems:
        lines = "; ".join(describe(problems.values()))
        raise DataError(f"--data: '{path}' has {len(problems)} bad item(s): {lines}; fix or remove them")
    return Labeled(items, targets.astype(np.float32), notes)
