"""Columns of a comparison: a metric of all methods on a dataset at a labelled share, by seed."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence

from semilearn_bbam.report.tables import METRICS, Metric, Run, common_seeds, is_contender, value_of

Place = tuple[str, float]  # a dataset, and a label ratio
# The two metrics of the headline, each under the protocol that needs no fixed threshold.
HEADLINE = (("mAP", "prior"), ("macro-F1", "prior"))


def metric_of(title: str) -> Metric:
    """The metric with this title."""
    return next(metric for metric in METRICS if metric.title == title)


def heading(title: str, protocol: str) -> str:
    """A metric in the first cell of a table, with its protocol where that matters."""
    return title if title == "mAP" else f"{title} ({protocol})"


def place_words(place: Place) -> str:
    """A place in words: `ohsumed_features 5 %`."""
    return f"{place[0]} {100 * place[1]:g} %"


def contenders(runs: Iterable[Run], ceilings: Collection[str] = ()) -> list[Run]:
    """Runs to which no hidden label was given away, by their results or because their method is a ceiling."""
    return [run for run in runs if is_contender(run) and run["method"] not in ceilings]


def compared(runs: Sequence[Run], floors: Collection[str], ceilings: Collection[str]) -> list[Run]:
    """Runs at those datasets and ratios at which there is a contender that is no floor.

    At other ratios floors are run for their curve only. All runs, where floors and ceilings are all there is.
    """
    places = {(run["grid_dataset"], run["grid_ratio"]) for run in contenders(runs, ceilings)
              if run["method"] not in floors}  # fmt: skip
    return [run for run in runs if not places or (run["grid_dataset"], run["grid_ratio"]) in places]


def columns(runs: Sequence[Run], metric: Metric, protocol: str) -> dict[Place, dict[str, dict[int, float]]]:
    """Values of each method by seed, in each column, over the seeds that all methods of a dataset have.

    A method has them at every ratio that it has; a dataset on which the methods have no seed in common is left out.
    """
    values: dict[Place, dict[str, dict[int, float]]] = {}
    for dataset in sorted({run["grid_dataset"] for run in runs}):
        dataset_runs = [run for run in runs if run["grid_dataset"] == dataset]
        seeds = common_seeds(dataset_runs, list(dict.fromkeys(run["method"] for run in dataset_runs)))
        for run in dataset_runs:
            if run["seed"] in seeds:
                column = values.setdefault((dataset, run["grid_ratio"]), {})
                column.setdefault(run["method"], {})[run["seed"]] = value_of(run, metric, protocol)
    return dict(sorted(values.items()))


def best_of(methods: Iterable[str], column: Mapping[str, Mapping[int, float]], metric: Metric) -> str | None:
    """The method of these with the best mean over the seeds in a column; None where the column has none of them."""
    means = {method: statistics.mean(column[method].values()) for method in methods if method in column}
    choose = max if metric.more_is_better else min
    return choose(means, key=means.__getitem__) if means else None
