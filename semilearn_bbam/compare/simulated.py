"""Rounds of labelling, simulated on data whose labels are known: the command of `scripts/simulate_suggestions.py`."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from semilearn_bbam.clustering import cluster_rows
from semilearn_bbam.config import config_words
from semilearn_bbam.data import load_source
from semilearn_bbam.engine.preprocessing import Preprocessor
from semilearn_bbam.errors import UserError
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.kernels import kernel_ridge, unit_rows
from semilearn_bbam.metrics import average_precision_per_label
from semilearn_bbam.model_selection import cardinality_boundary, choose_kernel_ridge
from semilearn_bbam.pseudo_labels import class_thresholds
from semilearn_bbam.querying import STRATEGIES, QueryPool, query_rows
from semilearn_bbam.report.simulated import Point, write_simulated
from semilearn_bbam.run import read_settings
from semilearn_bbam.util.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "results" / "suggestions"
SLOPE = 4.0  # as of the scores of `supervised_kernel`
STARTS = ("random", "clusters")


@dataclass(frozen=True, eq=False)
class Vectors:
    """The training and the test part of a data set as rows of unit length, with all labels."""

    name: str
    train: Tensor
    targets: Tensor
    test: Tensor
    test_targets: Tensor


Fit = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def supervised_kernel(labeled: Tensor, targets: Tensor, pool: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the pool and of the test part, as the method of that name gives them."""
    gamma, ridge, _ = choose_kernel_ridge(labeled, targets)
    fitted = kernel_ridge(labeled, targets, gamma=gamma, ridge=ridge)
    boundary = cardinality_boundary(fitted.leave_one_out, targets)
    return (SLOPE * (fitted.scores(pool) - boundary)).sigmoid(), fitted.scores(test)


def kernel_graph(labeled: Tensor, targets: Tensor, pool: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the pool and of the test part, as the method of that name gives them."""
    fitted = fit_kernel_graph(labeled, targets, pool, targets.mean(0), generator=torch.Generator().manual_seed(0))
    boundary = cardinality_boundary(fitted.leave_one_out[: len(labeled)], targets)
    held_out = fitted.leave_one_out[len(labeled) :]
    return (SLOPE * (held_out - boundary)).sigmoid(), fitted.scores(test)


FITS: dict[str, Fit] = {"supervised_kernel": supervised_kernel, "kernel_graph": kernel_graph}


def simulate(
    data: Vectors, fit: Fit, strategy: str, start: str, *, seed: int, share: float, steps: int, random_share: float
) -> Iterator[tuple[int, float]]:
    """Start with a share of the rows labelled, and label the same number again `steps` times, as a strategy says.

    Returns:
        The number of labelled rows and the test mAP of each round.
    """
    rng = np.random.default_rng(seed)
    count, total = max(1, round(share * len(data.train))), len(data.train)
    features = data.train.numpy()
    labeled = rng.permutation(total)[:count] if start == "random" else cluster_rows(features, count, rng)
    for step in range(steps + 1):
        pool = np.setdiff1d(np.arange(total), labeled)
        targets = data.targets[labeled]
        scores, test_scores = fit(data.train[labeled], targets, data.train[pool], data.test)
        precision = average_precision_per_label(test_scores, data.test_targets)
        yield len(labeled), float(np.nan_to_num(precision).mean())
        if step == steps:
            return
        known = QueryPool(
            features[pool],
            features[labeled],
            scores.numpy(),
            class_thresholds(scores, targets.mean(0)).numpy(),
            targets.sum(0).double().numpy(),
            float(targets.sum(1).mean()),
        )
        labeled = np.concatenate(
            [labeled, pool[query_rows(strategy, known, count, rng=rng, random_share=random_share).rows]]
        )


def read_vectors(dataset: str, data_dir: str) -> Vectors:
    """The data of `config/data/<dataset>.yaml`; of images the pixels of the plain view."""
    words = config_words(ROOT / "config", "supervised_kernel", dataset)
    net = ["--net", "pixels"] if dataset == "digits" else []
    settings = read_settings([*words, *net, *(["--data_dir", data_dir] if data_dir else [])])
    source = load_source(settings)
    if len(source.targets) < len(source.train) or (source.targets < 0).any():
        raise UserError(f"'{dataset}' has items without labels; simulations need all labels")
    if source.kind == "features":
        train, test = (torch.from_numpy(np.asarray(part, np.float32)) for part in (source.train, source.test))
    else:
        view = Preprocessor.of(settings, source.kind).views["eval"]
        train, test = (view(part).flatten(1) for part in (source.train, source.test))
    targets, test_targets = torch.from_numpy(source.targets), torch.from_numpy(source.test_targets)
    return Vectors(dataset, unit_rows(train), targets, unit_rows(test), test_targets)


def read_points(path: Path) -> list[Point]:
    """The rows of a CSV that `simulate` made, none without that file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Point.of(row) for row in csv.DictReader(file)]


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write all rows, in a fixed order."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Point._fields)
            writer.writerows(sorted(points))

    write_atomically(path, write)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the rounds that the CSV lacks, and write it, the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data_dir", nargs="*", default=[], metavar="DATASET=FOLDER", help="data sets and their folders"
    )
    parser.add_argument("--method", default="supervised_kernel", choices=tuple(FITS), help="the model in the loop")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=tuple(STRATEGIES))
    parser.add_argument("--start", default="random", choices=STARTS, help="how the first rows are chosen")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--share", type=float, default=0.01, help="labelled at the start and in each round")
    parser.add_argument("--steps", type=int, default=4, help="rounds after the start")
    parser.add_argument("--random_steps", type=int, default=9, help="those of random choice, a yardstick")
    parser.add_argument("--random_share", type=float, default=0.0, help="share of each round that is drawn at random")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of runs.csv, tables and figures")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    threadpool_limits(1)
    points = read_points(args.out / "runs.csv")
    for pair in args.data_dir:
        dataset, _, folder = pair.partition("=")
        data = read_vectors(dataset, "" if folder == "none" else folder)
        for seed in args.seeds:
            for strategy in args.strategies:
                named = f"{strategy}, {args.random_share:g} random" if args.random_share else strategy
                key = (dataset, args.method, args.start, named, seed)
                if any(point[:5] == key for point in points):
                    continue
                rounds = simulate(
                    data,
                    FITS[args.method],
                    strategy,
                    args.start,
                    seed=seed,
                    share=args.share,
                    steps=args.random_steps if strategy == "random" else args.steps,
                    random_share=args.random_share,
                )
                points += [
                    Point(*key, round(number * args.share, 6), labels, round(value, 6))
                    for number, (labels, value) in enumerate(rounds, start=1)
                ]
                write_points(points, args.out / "runs.csv")
                print(*key, *(f"{point.mAP:.3f}" for point in points if point[:5] == key), flush=True)
    for path in write_simulated(points, args.out):
        print(f"wrote {path}")
    return 0
