#!/usr/bin/env python
"""Measure on test parts what `calibrate` and `data issues` reach, over many splits.

    python scripts/measure_decisions.py --data_dir ohsumed_features=<folder> corel5k_features=<folder>

For each data set, share and seed: a run, its decisions from labelled rows alone, and what they do on the test part:
`runs.csv` in --out, a line each, and the tables `thresholds.md`, `probabilities.md` and `sets.md`. A line that is there
is not measured again. `--flip 0.05` flips this share of the training cells first, and counts how many cells that
`data issues` lists were flipped: `issues.csv` and `issues.md`.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np

from semilearn_bbam.calibration import tuned_thresholds
from semilearn_bbam.config import Settings
from semilearn_bbam.data import Source, load_source, load_split
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.errors import UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.runs.decisions import run_calibration, run_thresholds
from semilearn_bbam.runs.folder import DECISIONS, RunFolder
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.trained import out_of_fold as folds
from semilearn_bbam.trained.calibrating import make_decisions
from semilearn_bbam.trained.evaluation import evaluate
from semilearn_bbam.trained.label_issues import label_issues
from semilearn_bbam.trained.run_data import RunData
from semilearn_bbam.util.progress import progress_bar

CONFIG = Path(__file__).parents[1] / "config" / "data"
SHARES = {"ohsumed_features": (0.05, 0.1), "corel5k_features": (0.05, 0.1), "digits": (0.02,)}
PIXELS = {"digits": ["--net", "pixels"]}  # of methods that are fitted to vectors
ISSUES = (("probability", "probability at most 0.1"), ("cleanlab", "cleanlab, low self-confidence"))
Line = dict[str, Any]


def measured(data: RunData, source: Source, flipped: Any) -> tuple[Line, list[Line]]:
    """The test metrics of a run's decisions, and of the list of doubted cells where some were flipped."""
    folder = data.record.folder
    outside = folds.out_of_fold(data, 5, log=lambda line: None)
    if flipped is not None:
        return {}, [_issues(data, outside, flipped, by) for by, _ in ISSUES]
    predictor = load_run(folder, decided=False)
    scores = predictor.scores(source.test)
    decisions = make_decisions(data, predictor.thresholds["prior"], outside)
    RunFolder(folder).write_json(DECISIONS, decisions)
    record = Run.read(folder)
    calibration = run_calibration(record)
    assert calibration is not None
    thresholds = run_thresholds(record, len(source.label_names))
    # What is best on the labelled rows, without regard to how few they are.
    thresholds["best"] = tuned_thresholds(
        outside.scores, data.targets, outside.fold, thresholds["prior"], shrinkage=0
    ).astype(np.float32)
    probabilities = calibration.probabilities(scores)
    content = evaluate(scores, source.test_targets, source.label_names, thresholds, probabilities)
    line: Line = {"mAP": content["ranking"]["mAP"]}
    for protocol, metrics in content["decisions"].items():
        line |= {f"{key}_{protocol}": metrics[key] for key in ("macro_f1", "micro_f1")}
    for name, values in content["reliability"].items():
        line |= {f"{key}_{name}": value for key, value in values.items()}
    for alpha, values in content["sets"].items():
        line |= {f"{key}_{alpha}": value for key, value in values.items()}
    return line, []


def _issues(data: RunData, outside: folds.OutOfFold, flipped: Any, by: str) -> Line:
    names = {name: k for k, name in enumerate(data.source.label_names)}
    listed = [bool(flipped[one.row, names[one.label]]) for one in label_issues(data, outside, by=by)]
    total = int(flipped[data.split.labeled].sum())
    return {
        "by": by,
        "flipped": total,
        "listed": len(listed),
        "precision": sum(listed) / max(len(listed), 1),
        "recall": sum(listed) / total,
    }


def run_data(settings: Settings, source: Source) -> RunData:
    """A run with these settings, and its data without reading them again."""
    run(settings, source)
    folder = Path(settings.save_dir) / settings.save_name
    split = load_split(folder / "split.json", len(source.train), source.fingerprint, len(source.targets))
    return RunData(Run.read(folder), settings, source, split)


def flip(source: Source, share: float, seed: int) -> tuple[Source, Any]:
    """The dataset with this share of its training cells changed, and which they are."""
    flipped = np.random.default_rng(seed).random(source.targets.shape) < share
    targets = np.where(flipped, 1 - source.targets, source.targets).astype(np.float32)
    return replace(source, targets=targets, fingerprint=compute_fingerprint([source.fingerprint], targets)), flipped


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write the lines as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def read(path: Path) -> list[Line]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(lines: Sequence[Line], keys: Sequence[str], columns: Sequence[tuple[str, str, int]]) -> str:
    """A row per group of lines with the same keys: mean and standard deviation of each column (title, key, digits)."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(str(line[key]) for key in keys), []).append(line)
    head = [*keys, "splits", *(title for title, _, _ in columns)]
    rows = [head, ["---"] * len(head)]
    for group, members in groups.items():
        rows.append([*group, str(len(members)), *(_cell(members, key, digits) for _, key, digits in columns)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows) + "\n"


def _cell(lines: Sequence[Line], key: str, digits: int) -> str:
    values = [float(line[key]) for line in lines]
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def tables(out: Path, lines: Sequence[Line], issues: Sequence[Line]) -> None:
    """Write what the pages include."""
    keys = ("dataset", "labelled", "method")
    protocols = ("0.5", "prior", "best", "tuned")
    f1 = [(f"{kind}-F1 {name}", f"{kind}_f1_{name}", 3) for kind in ("macro", "micro") for name in protocols]
    errors = [
        (f"{title}, {name}", f"{key}_{name}", 4)
        for key, title in (("ece", "calibration error"), ("brier", "Brier score"))
        for name in ("scores", "probabilities")
    ]
    sets = [
        (title.format(alpha), f"{key}_{alpha}", digits)
        for alpha in ("0.05", "0.1", "0.2")
        for key, title, digits in (("miss_rate", "missed at {}", 3), ("labels_per_item", "labels", 1))
    ]
    if lines:
        for name, columns in (("thresholds", f1), ("probabilities", errors), ("sets", sets)):
            (out / f"{name}.md").write_text(table(lines, keys, columns), encoding="utf-8")
    if issues:
        words = dict(ISSUES)
        named = [{**line, "list": words[line["by"]]} for line in issues]
        columns = [
            ("flipped", "flipped", 0),
            ("listed", "listed", 0),
            ("precision", "precision", 3),
            ("recall", "recall", 3),
        ]
        (out / "issues.md").write_text(table(named, (*keys, "list"), columns), encoding="utf-8")


def main() -> None:
    """Measure what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--datasets", nargs="*", default=list(SHARES), choices=SHARES)
    parser.add_argument("--methods", nargs="*", default=["supervised_kernel"])
    parser.add_argument("--label_ratio", type=float, nargs="*", default=[], help="default: those of the data set")
    parser.add_argument("--seeds", type=int, default=20, help="number of splits")
    parser.add_argument("--flip", type=float, default=0.0, help="share of the training cells that is flipped")
    parser.add_argument("--out", type=Path, default=Path("results/decisions"))
    args = parser.parse_args()
    folders = dict(item.split("=", 1) for item in args.data_dir)
    args.out.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.INFO)
    files = {"runs": args.out / "runs.csv", "issues": args.out / "issues.csv"}
    lines, issues = read(files["runs"]), read(files["issues"])
    done = {
        tuple(line[key] for key in ("dataset", "labelled", "method", "seed"))
        for line in (issues if args.flip else lines)
    }
    jobs = [
        (dataset, share, method, seed)
        for seed in range(args.seeds)
        for dataset in args.datasets
        for share in args.label_ratio or SHARES[dataset]
        for method in args.methods
    ]
    sources: dict[str, Source] = {}
    for dataset, share, method, seed in progress_bar(jobs, "splits"):
        place = {"dataset": dataset, "labelled": f"{100 * share:g} %", "method": method, "seed": str(seed)}
        if tuple(place.values()) in done:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            words = ["--c", str(CONFIG / f"{dataset}.yaml"), "--algorithm", method, "--label_ratio", str(share)]
            words += ["--seed", str(seed), "--save_dir", temporary, "--save_name", "run", *PIXELS.get(dataset, [])]
            words += ["--data_dir", folders[dataset]] if dataset in folders else []
            settings = read_settings(words)
            source = sources.setdefault(dataset, load_source(settings))
            source, flipped = flip(source, args.flip, seed) if args.flip else (source, None)
            original, folds.load_source = folds.load_source, lambda settings, source=source: source
            try:
                line, doubted = measured(run_data(settings, source), source, flipped)
            finally:
                folds.load_source = original
        if line:
            lines.append({**place, **line})
            write(files["runs"], lines)
        if doubted:
            issues += [{**place, **one} for one in doubted]
            write(files["issues"], issues)
        tables(args.out, lines, issues)
    tables(args.out, lines, issues)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"measure_decisions.py: {error}")
