"""Score new images, texts or vectors with a trained run, and write scores and predicted labels as CSV."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; nothing was written"
SEPARATOR = ";"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the items, and the file to write."""
    parser.add_argument("folder", metavar="RUN", help="run folder that training wrote")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="items of the kind that the run reads: a folder of images or one image; a text file, one text per line; "
        "or an .npz (key test_x or x) or .npy with vectors [N,D]",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="CSV to write: id, a score per label, labels")
    parser.add_argument(
        "--threshold", default="prior", metavar="PROTOCOL", help="thresholds of the predicted labels (default: prior)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=0, metavar="N", help="items at a time; default: as in training"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 for bad items, each of which is named. UserError if nothing can be predicted or written."""
    path, out = Path(args.input), Path(args.out)
    if args.batch_size < 0:
        raise UserError(f"--batch_size must be at least 1, not {args.batch_size}")
    if not path.exists():  # before the imports
        raise UserError(f"'{path}' does not exist; check the path")
    check_writable(out)
    from semilearn_bbam import load_run

    with interruptible():
        return predict(load_run(args.folder, device=args.device), path, out, args)


def predict(predictor: Any, path: Path, out: Path, args: argparse.Namespace) -> int:
    """Read, score and write with a loaded run; returns and raises as `run`."""
    import numpy as np

    from semilearn_bbam.data.inputs import read_inputs
    from semilearn_bbam.data.problems import describe

    if args.threshold not in predictor.thresholds:
        known = ", ".join(predictor.thresholds) or "no thresholds"
        raise UserError(f"--threshold: the run has {known}, not {args.threshold!r}; name one that it has")
    modes, value_range = predictor.settings.image_modes, predictor.settings.image_range
    inputs = read_inputs(path, predictor.kind, odd_modes=modes == "convert", image_range=value_range)
    for note in inputs.notes:
        print(note, file=sys.stderr)
    if inputs.problems:
        lines = "; ".join(describe(inputs.problems, len(inputs.problems)))
        print(f"{len(inputs.problems)} bad item(s), nothing was written: {lines}. Fix or remove them", file=sys.stderr)
        return 1
    scores = np.asarray(predictor.scores(inputs.items, batch_size=args.batch_size or None))
    predictions = scores >= np.asarray(predictor.thresholds[args.threshold])
    rows = csv_rows(inputs.ids, list(predictor.label_names), scores, predictions)
    try:
        write_atomically(out, lambda temporary: write_csv(temporary, rows))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out: '{out}' cannot be written ({reason}); name another file") from error
    encoders = f", encoded by {' and '.join(predictor.encoders)}" if predictor.encoders else ""
    print(f"wrote {out}: {len(scores)} items, {predictions.sum(axis=1).mean():.2f} labels per item{encoders}")
    return 0


def check_writable(out: Path) -> None:
    """UserError unless a file can be written there, so that this is known before the work."""
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--out: '{out}' cannot be written; name a file in a folder that you can write to")


def csv_rows(ids: Sequence[str], label_names: Sequence[str], scores: Any, predictions: Any) -> list[list[str]]:
    """The lines of the CSV: a header, then id, scores [N,K] and names of the predicted labels [N,K] per item."""
    rows = [["id", *label_names, "labels"]]
    for name, values, predicted in zip(ids, scores, predictions, strict=True):
        labels = (label for label, is_predicted in zip(label_names, predicted, strict=True) if is_predicted)
        rows.append([name, *map(str, values), SEPARATOR.join(labels)])
    return rows


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write these lines as UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
