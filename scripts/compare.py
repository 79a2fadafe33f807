#!/usr/bin/env python
"""Run a grid of methods, data sets, label ratios and seeds, and write its tables."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from semilearn_bbam.compare import read_grid, run_jobs
from semilearn_bbam.errors import UserError
from semilearn_bbam.report.methods import fill_marks, write_comparison

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", required=True, metavar="FILE", help="grid, such as config/compare/methods.yaml")
    parser.add_argument(
        "--data_dir", nargs="+", required=True, metavar="DATASET=FOLDER", help="folder of each data set of the grid"
    )
    parser.add_argument("--save_dir", default="runs/compare", help="folder of the run folders")
    parser.add_argument("--out", default="results", help="folder of the table and of the CSV file with every run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--docs", action="store_true", help="renew the tables in docs/methods and README.md too")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="after --: further options of train.py")
    args = parser.parse_args()
    if not all("=" in pair for pair in args.data_dir):
        raise UserError("--data_dir: give each data set its folder as DATASET=FOLDER")
    folders = dict(pair.split("=", 1) for pair in args.data_dir)
    further = tuple(word for word in args.options if word != "--")
    jobs = read_grid(args.c).jobs(folders, args.save_dir, ("--num_threads", "1", *further))
    results, failed = run_jobs(jobs, args.jobs)
    name = Path(args.c).stem
    table = write_comparison(results, Path(args.out), name)
    if args.docs:
        fill_marks(results, [*sorted((ROOT / "docs" / "methods").glob("*.md")), ROOT / "README.md"])
    print(table)
    for job, reason in failed.items():
        print(f"failed: {job.method} on {job.dataset}, {job.label_ratio:g}, seed {job.seed}: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"compare.py: {error}")
