"""Time an evaluation against one with scikit-learn's ranking metrics: python benchmarks/ranking_metrics.py."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, label_ranking_loss

from semilearn_bbam.metrics import multilabel_metrics


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=7643)
    parser.add_argument("--labels", type=int, default=23)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    scores = random.random((args.samples, args.labels))
    targets = (random.random(scores.shape) < 0.07).astype(int)

    def theirs() -> list[float]:
        functions = (label_ranking_loss, coverage_error, label_ranking_average_precision_score)
        return [function(targets, scores) for function in functions]

    pairs = [(seconds(theirs), seconds(lambda: multilabel_metrics(scores, targets))) for _ in range(args.repeats)]
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    print(f"scikit-learn's three ranking metrics alone: {statistics.median(slow for slow, _ in pairs):.2f} s")
    print(f"all metrics of an evaluation here:          {statistics.median(fast for _, fast in pairs):.2f} s")
    print(f"median of the ratios, pair by pair:         {ratio:.1f}")


if __name__ == "__main__":
    main()
