#!/usr/bin/env python
"""Train bbam_plus, S2ML2-BBAM and supervised-only training on handwritten digits, and compare them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from semilearn_bbam.commands.compare import visible_gpus
from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.runner import label, run_jobs
from semilearn_bbam.config import config_words
from semilearn_bbam.errors import UserError
from semilearn_bbam.report import results_table
from semilearn_bbam.report.figures import draw_learning_curves, read_methods, save
from semilearn_bbam.run import algorithm_names, read_settings
from semilearn_bbam.runs.folder import RESULTS
from semilearn_bbam.util.machine import usable_cpus
from semilearn_bbam.util.signals import interruptible

ROOT = Path(__file__).resolve().parents[1]
ALGORITHM_ORDER = ("supervised_bce", "supervised_asl", "bbam", "bbam_plus")


def demo_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """One run of each algorithm per seed, on one thread: as many run at a time as there are cores."""
    further = [word for word in args.options if word != "--"]
    for seed in args.seeds:
        for name in args.algorithms:
            start = ("--c", args.c, "--algorithm", name) if args.c else config_words(ROOT / "config", name, "digits")
            own = ("--seed", str(seed), "--save_dir", args.save_dir, "--num_threads", "1")
            argv = (*start, *own, *further)
            settings = read_settings(argv)
            yield Job(name, settings.dataset, settings.label_ratio, seed, argv)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", metavar="FILE", help="config of all runs; default: each algorithm's own for the digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of each algorithm per seed")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHM_ORDER), choices=algorithm_names())
    parser.add_argument("--save_dir", default="runs/demo", help="folder of the run folders; finished runs are kept")
    parser.add_argument("--jobs", type=int, default=0, help="runs at a time; default: one per GPU, else one per core")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="after --: further options of train.py")
    args = parser.parse_args()
    jobs = list(demo_jobs(args))
    settings = [read_settings(job.argv) for job in jobs]
    gpus = visible_gpus() if settings[0].device in ("auto", "cuda") else []
    print(f"{len(jobs)} runs of up to two minutes each; their folders are in {args.save_dir}", file=sys.stderr)
    with interruptible():
        results, failed = run_jobs(jobs, args.jobs or len(gpus) or usable_cpus(), gpus)
    for job, reason in failed.items():
        print(f"failed: {label(job)}: {reason}", file=sys.stderr)
    if failed:
        return 1
    folders = [Path(one.save_dir) / one.save_name for one in settings]
    table = results_table(sorted(results, key=lambda result: args.algorithms.index(result["algorithm"])))
    figure = draw_learning_curves(read_methods(folders), ("test/mAP", "test/macro_f1"))
    picture, _ = save(figure, Path(args.save_dir) / "learning_curves")
    labeled, dataset = results[0]["num_labels"], results[0]["dataset"]
    print(f"\nTest set of {dataset}, {labeled} labelled training samples; rows of a seed share split and steps:\n")
    print(table)
    print(f"\nlearning curves: {picture}\nall numbers: {args.save_dir}/*/{RESULTS}")
    Path(args.save_dir, "summary.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"demo.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
