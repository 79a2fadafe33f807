"""Tables in the form of the slides' Tables 2 to 4: methods x metrics x label ratios, under one protocol each."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import ttest_rel

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A column group: its title, its key in `results.json`, and whether more is better."""

    title: str
    key: str
    more_is_better: bool = True

    def better(self, a: float, b: float) -> bool:
        return a > b if self.more_is_better else a < b


METRICS = (
    Metric("micro-F1", "micro_f1"),
    Metric("macro-F1", "macro_f1"),
    Metric("mAP", "mAP"),
    Metric("Hamming loss", "hamming_loss", more_is_better=False),
    Metric("one-error", "one_error", more_is_better=False),
)
# Which part of `results.json` and which names in it; mAP and one-error need no threshold and are the same in all.
PROTOCOLS = {"threshold 0.5": ("test", ""), "prior": ("test_prior", ""), "oracle": ("test", "oracle_")}
PROTOCOL_NOTES = {
    "threshold 0.5": "F1 and Hamming loss of scores >= 0.5",
    "prior": "F1 and Hamming loss at thresholds that give each label its labelled frequency on the unlabelled pool",
    "oracle": "F1 and Hamming loss with each test sample's true number of labels given away, as in the paper's tables",
}
DAGGER = "†"
SIGNIFICANT = 0.05
# How a row is printed to which hidden labels were given away: all of them, or some by an error of the released code.
MARKED = {"none": "{}", "all": "[{}]", "leak": f"{{}} {DAGGER}"}
GIVEN_AWAY = {
    "all": "[In brackets: trained with the labels of all training rows.]",
    "leak": f"{DAGGER}: labels of unlabelled rows reached training, as in the released code.",
}
ON_VALIDATION = "Judged on a validation part of the labelled data, on which settings are chosen."


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation over seeds; whether it leads, and how surely."""

    values: tuple[float, ...]
    best: bool = False
    p_value: float | None = None

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class Table:
    """One table: `cells[method][metric title, label ratio]`; `rows` gives each method's printed name, in order."""

    caption: str
    metrics: tuple[Metric, ...]
    ratios: tuple[float, ...]
    rows: Mapping[str, str]
    cells: Mapping[str, Mapping[tuple[str, float], Cell]]

    @property
    def columns(self) -> list[tuple[str, float]]:
        return [(metric.title, ratio) for metric in self.metrics for ratio in self.ratios]


def value_of(run: Run, metric: Metric, protocol: str) -> float:
    """A metric of a run under a protocol; the oracle's F1 and Hamming loss carry its name in `results.json`."""
    part, prefix = PROTOCOLS[protocol]
    key = f"{prefix}{metric.key}"
    return float(run[part][key if key in run[part] else metric.key])


def printed_name(run: Run, name: str = "") -> str:
    """The name of a run's row, marked where hidden labels were given away to it."""
    return MARKED[run.get("hidden_labels", "none")].format(name or run["method"])


def marks_explained(kinds: Iterable[str]) -> list[str]:
    """What the marks of these kinds of hidden labels mean, a sentence each; nothing for `none`."""
    kinds = set(kinds)
    return [text for kind, text in GIVEN_AWAY.items() if kind in kinds]


def legend(runs: Iterable[Run]) -> str:
    """What the marks of these runs mean, and whether they were judged on validation data; empty where nothing is."""
    runs = list(runs)
    marks = marks_explained(run.get("hidden_labels", "none") for run in runs)
    return " ".join(filter(None, [*marks, validation_note(runs)]))


def validation_note(runs: Iterable[Run]) -> str:
    """That these runs were judged on validation data, where any was; else an empty text."""
    return ON_VALIDATION if any(run.get("judged_on") == "validation" for run in runs) else ""


def is_contender(run: Run) -> bool:
    """Whether a run may lead a table: not where hidden labels were given away to it."""
    return bool(run.get("hidden_labels", "none") == "none")


def common_seeds(runs: Iterable[Run], methods: Sequence[str]) -> tuple[int, ...]:
    """Seeds that all these methods have, at every ratio that any of them has: only these may be averaged together."""
    runs = [run for run in runs if run["method"] in methods]
    places = {(run["method"], run["grid_ratio"]) for run in runs}
    seeds = {place: {r["seed"] for r in runs if (r["method"], r["grid_ratio"]) == place} for place in places}
    return tuple(sorted(set.intersection(*seeds.values()))) if seeds else ()


def comparison_table(
    runs: Sequence[Run],
    dataset: str,
    protocol: str,
    *,
    methods: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    metrics: Sequence[Metric] = METRICS,
) -> Table:
    """The table of a dataset under one protocol, over the seeds that all of its methods have.

    methods: rows in this order (default: all, in the order of the runs); names: printed names of rows. The best mean of
    a column leads; its p-value is that of a paired t-test over seeds against the runner-up. Rows to which hidden labels
    were given away cannot lead: an upper bound is set in brackets, a reproduced leak has a dagger. ValueError where
    the methods have no seed in common.
    """
    dataset_runs = [run for run in runs if run["grid_dataset"] == dataset]
    methods = list(dict.fromkeys(run["method"] for run in dataset_runs)) if methods is None else methods
    seeds = common_seeds(dataset_runs, methods)
    if not seeds:
        raise ValueError(f"{dataset}: {', '.join(methods)} have no seed in common, so no fair table can be made")
    ratios = tuple(sorted({run["grid_ratio"] for run in dataset_runs if run["method"] in methods}))
    run_at = {(r["method"], r["grid_ratio"], r["seed"]): r for r in dataset_runs if r["seed"] in seeds}
    contenders = {run["method"] for run in dataset_runs if is_contender(run)}
    cells: dict[str, dict[tuple[str, float], Cell]] = {method: {} for method in methods}
    for metric in metrics:
        for ratio in ratios:
            column = {
                method: tuple(value_of(run_at[method, ratio, seed], metric, protocol) for seed in seeds)
                for method in methods
                if (method, ratio, seeds[0]) in run_at
            }
            for method, cell in lead(column, contenders, metric).items():
                cells[method][metric.title, ratio] = cell
    first_runs = {run["method"]: run for run in dataset_runs if run["method"] in methods}
    rows = {method: printed_name(first_runs[method], (names or {}).get(method, "")) for method in methods}
    text = f"{caption(dataset, protocol, seeds)} {legend(first_runs.values())}".strip()
    return Table(text, tuple(metrics), ratios, rows, cells)


def lead(column: Mapping[str, tuple[float, ...]], contenders: Iterable[str], metric: Metric) -> dict[str, Cell]:
    """Cells of a column, values per seed by method: the best contender leads, tested against the runner-up."""
    ranked = sorted(
        (method for method in column if method in set(contenders)),
        key=lambda method: statistics.mean(column[method]),
        reverse=metric.more_is_better,
    )
    cells = {method: Cell(values) for method, values in column.items()}
    if ranked:
        first = column[ranked[0]]
        p_value = None
        if len(ranked) > 1 and len(first) > 1:
            p_value = paired_p_value(first, column[ranked[1]])
        cells[ranked[0]] = Cell(first, best=True, p_value=p_value)
    return cells


def paired_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided paired t-test over seeds; 1 where both agree on every seed, 0 where all differences are equal."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if max(differences) == min(differences):
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_rel(a, b).pvalue)


def caption(dataset: str, protocol: str, seeds: Sequence[int]) -> str:
    """Protocol, seeds and marks of a table, in words."""
    text = f"{dataset}, protocol {protocol}: {PROTOCOL_NOTES[protocol]}. "
    if len(seeds) == 1:
        text += f"Seed {seeds[0]}; one run says nothing about spread."
    else:
        text += (
            f"Mean and standard deviation over seeds {', '.join(map(str, seeds))}. Bold: best mean; *: p < "
            f"{SIGNIFICANT} against the runner-up in a paired t-test over seeds."
        )
    return text
