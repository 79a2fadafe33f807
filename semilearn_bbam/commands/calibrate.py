"""Tune thresholds, calibrate probabilities and make label sets of a run from its labelled rows: decisions.json."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; the same command goes on, with the folds that are finished"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and what is tuned for."""
    parser.add_argument("folder", metavar="RUN", help="run folder; its data must be where they were in training")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="models that are trained (default: 5)")
    parser.add_argument(
        "--beta", type=float, default=1.0, metavar="B", help="recall counts B times as much as precision (default: 1)"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        nargs="+",
        default=[0.05, 0.1, 0.2],
        metavar="A",
        help="shares of true labels that label sets may miss (default: 0.05 0.1 0.2)",
    )
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="where the data are now, if they were moved")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Write decisions.json and print what was reached. UserError for a run that cannot be calibrated."""
    if not 0 < args.beta < float("inf"):
        raise UserError(f"--beta must be a positive number, not {args.beta:g}")
    wrong = [alpha for alpha in args.alpha if not 0 < alpha < 1]
    if wrong:
        raise UserError(f"--alpha must lie between 0 and 1, not {wrong[0]:g}")
    from semilearn_bbam.inference import load_run
    from semilearn_bbam.runs.folder import DECISIONS, RunFolder
    from semilearn_bbam.trained.calibrating import make_decisions
    from semilearn_bbam.trained.out_of_fold import out_of_fold
    from semilearn_bbam.trained.run_data import load_run_data

    with interruptible():
        data = load_run_data(args.folder, data_dir=args.data_dir)
        prior = load_run(args.folder, decided=False).thresholds
        outside = out_of_fold(data, args.folds)
        decisions = make_decisions(data, prior["prior"], outside, beta=args.beta, alphas=args.alpha)
        RunFolder(data.record.folder).write_json(DECISIONS, decisions)
    print("\n".join(summary(decisions)))
    print(f"wrote {data.record.folder / DECISIONS}")
    return 0


def summary(decisions: Mapping[str, Any]) -> list[str]:
    """Lines on the labelled rows, each judged by what was fitted to the other folds."""
    rows, positives = decisions["labeled_rows"], decisions["positives"]
    before, after = rows["scores"], rows["probabilities"]
    lines = [f"{decisions['rows']} labelled rows in {decisions['folds']} folds, each judged without its own fold:"]
    for name, metrics in rows["decisions"].items():
        lines.append(f"  threshold {name:<6} macro-F1 {metrics['macro_f1']:.3f}, micro-F1 {metrics['micro_f1']:.3f}")
    for key, words in (("ece", "calibration error"), ("brier", "Brier score")):
        lines.append(f"  {words}: scores {before[key]:.4f}, calibrated probabilities {after[key]:.4f}")
    for alpha, one in rows["sets"].items():
        lines.append(
            f"  sets that may miss {alpha} of the true labels: miss {one['miss_rate']:.3f}, "
            f"{one['labels_per_item']:.1f} labels per item"
        )
    none = sum(count == 0 for count in positives)
    few = sum(0 < count < 5 for count in positives)
    if none:
        lines.append(f"{none} label(s) without a positive keep the prior threshold: they are never predicted")
    if few:
        lines.append(f"{few} label(s) with 1 to 4 positives are mostly at the prior threshold (share_of_prior)")
    if decisions["chosen_rows"]:
        lines.append(
            "some labelled rows were chosen, not drawn at random (split: clusters, added): what the sets miss of other "
            "items can differ"
        )
    return lines
