"""All metrics of a trained run under all protocols, on its test part or on other labelled data, and of every label."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; nothing was written"
SAME = 1e-4  # difference of a metric below which it is the run's own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, other data, and the file to write."""
    parser.add_argument("folder", metavar="RUN", help="run folder that training wrote")
    parser.add_argument(
        "--data",
        default="",
        metavar="FILE",
        help="labelled items: a manifest of images or texts, or an .npz with test_x, test_y and label_names (default: "
        "the test part of the run)",
    )
    parser.add_argument(
        "--out", default="", metavar="FILE", help="the .json to write, and next to it a .csv with a row for each label"
    )
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="where the data or a manifest's images are")
    parser.add_argument("--batch_size", type=int, default=0, metavar="N", help="items at a time")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Print and write the metrics. UserError for a run or data that cannot be read."""
    if args.batch_size < 0:
        raise UserError(f"--batch_size must be at least 1, not {args.batch_size}")
    name = f"evaluation_{Path(args.data).stem}.json" if args.data else "evaluation.json"
    out = Path(args.out or Path(args.folder) / name)
    if out.suffix.lower() != ".json":
        raise UserError(f"--out: '{out}' does not end in .json; rename it")
    check_writable(out)
    from semilearn_bbam.inference import load_run
    from semilearn_bbam.runs.reader import Run
    from semilearn_bbam.trained.evaluation import Labeled, evaluate, read_labeled_file
    from semilearn_bbam.trained.run_data import load_run_data

    with interruptible():
        record, predictor = Run.read(args.folder), load_run(args.folder, device=args.device)
        if args.data:
            labeled = read_labeled_file(
                Path(args.data),
                predictor.kind,
                predictor.label_names,
                predictor.facts.in_features,
                predictor.settings,
                args.data_dir,
            )
        else:
            source = load_run_data(args.folder, data_dir=args.data_dir).source
            labeled = Labeled(source.test, source.test_targets)
        if not record.results:
            print(f"'{args.folder}' has not ended: its latest weights are used", file=sys.stderr)
        for note in labeled.notes:
            print(note, file=sys.stderr)
        scores = predictor.scores(labeled.items, args.batch_size or None)
        probabilities = predictor.probabilities(scores) if predictor.calibration else None
        content = evaluate(scores, labeled.targets, predictor.label_names, predictor.thresholds, probabilities)
        content = {"run": str(args.folder), "data": args.data or "the test part of the run", **content}
        write(out, content)
    print("\n".join(summary(content)))
    if not args.data and record.results:
        print(comparison(content, record.results))
    print(f"wrote {out} and {out.with_suffix('.csv')}")
    return 0


def write(out: Path, content: Mapping[str, Any]) -> None:
    """The metrics as JSON, and the labels as CSV. UserError if a file cannot be written."""
    from semilearn_bbam.runs.folder import finite

    text = json.dumps(finite(dict(content)), indent=2, ensure_ascii=False) + "\n"
    rows = content["per_label"]

    def write_csv(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    try:
        write_atomically(out.with_suffix(".csv"), write_csv)
        write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--out: '{out}' cannot be written ({error}); name another file") from error


def summary(content: Mapping[str, Any]) -> list[str]:
    """The metrics of all labels together, as lines."""
    ranking, lines = content["ranking"], [f"{content['items']} items of {content['data']}"]
    names = ("mAP", "mAP_present", "one_error", "ranking_loss", "coverage_error", "lrap")
    lines.append("  " + ", ".join(f"{name} {ranking[name]:.4f}" for name in names))
    for protocol, metrics in content["decisions"].items():
        values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        lines.append(f"  threshold {protocol}: {values}")
    for alpha, metrics in content["sets"].items():
        lines.append(
            f"  sets that may miss {alpha}: miss {metrics['miss_rate']:.4f} of the true labels, "
            f"{metrics['labels_per_item']:.1f} labels per item"
        )
    for name, values in content["reliability"].items():
        lines.append(f"  {name}: calibration error {values['ece']:.4f}, Brier score {values['brier']:.4f}")
    oracle = ", ".join(f"{name} {value:.4f}" for name, value in content["oracle"].items())
    lines.append(f"  each item's true number of labels given away: {oracle}")
    return lines


def comparison(content: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Whether the metrics are those that the run itself wrote."""
    own = {**content["ranking"], **content["decisions"]["0.5"]}
    differences = {key: abs(own[key] - value) for key, value in results["test"].items() if key in own}
    largest = max(differences, key=lambda key: differences[key])
    if differences[largest] <= SAME:
        return f"the same as in results.json of the run (largest difference {differences[largest]:.1e})"
    return f"results.json of the run has other values: {largest} differs by {differences[largest]:.2g}"
