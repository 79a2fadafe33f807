#!/usr/bin/env python
"""Test mAP of kernel methods with landmarks instead of all rows, as a difference to the exact fit.

    python benchmarks/landmarks.py --c config/data/ohsumed_features.yaml --data_dir <folder> --label_ratio 0.05

A row for `kernel_graph`, whose student has the landmarks, and for `fullysupervised_kernel`: the exact mAP, then the
mean and standard deviation over the seeds of the difference, and seconds of the fit, on the same splits. Where there
are too many rows for an exact fit, `--no_exact` makes the first number of landmarks what the others differ from:

    python benchmarks/landmarks.py --c config/data/goemotions_features.yaml --data_dir <folder> --no_exact
        --methods fullysupervised_kernel --landmarks 4000 8000 --seeds 0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from semilearn_bbam import kernel_graph, model_selection
from semilearn_bbam.data import Source, load_source
from semilearn_bbam.engine.pools import read_split
from semilearn_bbam.errors import UserError
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.kernels import kernel_ridge, unit_rows
from semilearn_bbam.metrics import multilabel_metrics
from semilearn_bbam.model_selection import choose_kernel_ridge, choose_landmarks
from semilearn_bbam.run import read_settings
from semilearn_bbam.util.progress import progress_bar

Function = Callable[[Tensor], Tensor]


def graph(x: Tensor, targets: Tensor, labeled: Tensor, unlabeled: Tensor, count: int) -> Function:
    """`kernel_graph` fitted to the labelled rows and the pool."""
    kernel_graph.LANDMARKS = count
    return fit_kernel_graph(x[labeled], targets[labeled], x[unlabeled], targets[labeled].mean(0)).scores


def all_labels(x: Tensor, targets: Tensor, labeled: Tensor, unlabeled: Tensor, count: int) -> Function:
    """`fullysupervised_kernel`."""
    x, targets = (torch.cat([values[labeled], values[unlabeled]]) for values in (unit_rows(x), targets))
    gamma, ridge, _ = choose_kernel_ridge(x, targets)
    landmarks = choose_landmarks(len(x), len(x), count, torch.Generator().manual_seed(0))
    scores = kernel_ridge(x, targets, gamma=gamma, ridge=ridge, landmarks=landmarks).scores
    return lambda rows: scores(unit_rows(rows))


METHODS = {"kernel_graph": graph, "fullysupervised_kernel": all_labels}


def measured(source: Source, words: list[str], seed: int, method: str, landmarks: int | None) -> tuple[float, float]:
    """Test mAP and seconds of a fit; landmarks None: exact."""
    settings = read_settings([*words, "--algorithm", "supervised_kernel", "--seed", str(seed)])
    split = read_split(settings, source)
    x, new = (torch.from_numpy(np.asarray(part[:], np.float32)) for part in (source.train, source.test))
    targets = torch.from_numpy(np.asarray(source.targets, np.float32))
    model_selection.MOST_EXACT = len(x) if landmarks is None else 0
    rows = (torch.from_numpy(part) for part in (split.labeled, split.unlabeled))
    start = perf_counter()
    function = METHODS[method](x, targets, *rows, landmarks or len(x))
    seconds = perf_counter() - start
    return float(multilabel_metrics(function(new), source.test_targets)["mAP"]), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landmarks", nargs="+", type=int, default=[500, 1000, 2000, 4000], help="numbers of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of split and landmarks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--no_exact", action="store_true", help="no fit with all rows")
    args, words = parser.parse_known_args()
    torch.set_num_threads(1)
    source = load_source(read_settings([*words, "--algorithm", "supervised_kernel"]))
    variants = [*([] if args.no_exact else [None]), *args.landmarks]
    cases = [(method, number, seed) for method in args.methods for number in variants for seed in args.seeds]
    found = {case: measured(source, words, case[2], case[0], case[1]) for case in progress_bar(cases, "fits")}
    heads = ["exact" if number is None else str(number) for number in variants]
    print(f"| method | {' | s | '.join(heads)} | s |")
    print("| --- |" + " --- |" * (2 * len(variants)))
    for method in args.methods:
        table = np.array([[found[method, number, seed] for seed in args.seeds] for number in variants])
        cells = [f"{table[0, :, 0].mean():.4f} | {table[0, :, 1].mean():.0f}"]
        for row in table[1:]:
            change = row[:, 0] - table[0, :, 0]
            spread = f" ± {change.std(ddof=1):.4f}" if len(change) > 1 else ""
            cells.append(f"{change.mean():+.4f}{spread} | {row[:, 1].mean():.0f}")
        print(f"| {method} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"landmarks.py: {error}")
