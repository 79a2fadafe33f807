"""The headline of a comparison in Markdown: the gap that each method closes, and the effects of single changes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from semilearn_bbam.report.tables import (
    DAGGER,
    METRICS,
    ON_VALIDATION,
    SIGNIFICANT,
    Metric,
    Run,
    common_seeds,
    gap_closed,
    is_contender,
    paired_p_value,
    value_of,
)

# In a pair of effects: the runs of the first method, at the epoch that is best on the test set.
ORACLE_EPOCH = "oracle_epoch"
# The two metrics of the headline, each under the protocol that needs no fixed threshold.
HEADLINE = (("mAP", "prior"), ("macro-F1", "prior"))


def gap_text(results: Sequence[Run], supervised: str, upper_bound: str, names: Mapping[str, str]) -> str:
    """The headline as Markdown: how far each method comes from supervised training towards all labels, in percent."""
    metrics = {metric.title: metric for metric in METRICS}
    parts = []
    for title, protocol in HEADLINE:
        parts.append(_gap_table(results, metrics[title], protocol, supervised, upper_bound, names))
    caption = (
        f"Gap closed, in percent: (method - {supervised}) / ({upper_bound} - {supervised}) on the same split, mean and "
        "standard deviation over the seeds that all methods of the table have. 0: no gain from the unlabelled data, "
        "below 0: a loss, 100: as good as with all labels. Bold: highest mean of a column. Methods to which hidden "
        f"labels were given away are left out. {_validation(results)}"
    )
    return "\n\n".join([caption.strip(), *parts]) + "\n"


def _gap_table(
    results: Sequence[Run], metric: Metric, protocol: str, supervised: str, upper: str, names: Mapping[str, str]
) -> str:
    columns: dict[tuple[str, float], dict[str, tuple[float, ...]]] = {}
    contenders = list(dict.fromkeys(run["method"] for run in results if is_contender(run)))
    for dataset in dict.fromkeys(run["grid_dataset"] for run in results):
        shared = common_seeds([run for run in results if run["grid_dataset"] == dataset], [*contenders, upper])
        comparable = [run for run in results if run["seed"] in shared and run["method"] in {*contenders, upper}]
        gaps = gap_closed(comparable, dataset, metric, protocol, supervised=supervised, upper=upper)
        for (method, ratio), values in gaps.items():
            columns.setdefault((dataset, ratio), {})[method] = values
    places = sorted(columns)
    means = {place: {m: statistics.mean(values) for m, values in columns[place].items()} for place in places}
    best = {place: max(means[place], key=means[place].__getitem__) for place in places}
    order = {m for place in places for m in means[place]}
    average = {m: statistics.mean(means[p][m] for p in places if m in means[p]) for m in order}
    head = [_heading(metric.title, protocol), "seeds"]
    lines = [[*head, *(f"{dataset} {100 * ratio:g} %" for dataset, ratio in places)]]
    lines.append(["---"] * len(lines[0]))
    for method in sorted(order, key=lambda m: -average[m]):
        seeds = {len(columns[place][method]) for place in places if method in columns[place]}
        cells = [_percent(columns[place].get(method), best[place] == method) for place in places]
        lines.append([names.get(method, method), "-".join(map(str, sorted(seeds))), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def effects_text(results: Sequence[Run], effects: Mapping[str, tuple[str, str]]) -> str:
    """The effect of each change as Markdown: the second method of a pair less the first, on the same seeds."""
    caption = (
        "Difference that each thing makes, in points (hundredths): mean and standard deviation of the differences on "
        f"the same seeds; *: p < {SIGNIFICANT} in a paired t-test over seeds. {DAGGER}: labels of unlabelled rows were "
        f"given away. {_validation(results)}"
    )
    return (
        "\n\n".join([caption.strip(), *(_effects_table(results, effects, *headline) for headline in HEADLINE)]) + "\n"
    )


def _effects_table(results: Sequence[Run], effects: Mapping[str, tuple[str, str]], title: str, protocol: str) -> str:
    metric = next(metric for metric in METRICS if metric.title == title)
    values: dict[tuple[str, str, float], dict[int, float]] = {}
    for run in results:
        place = (run["method"], run["grid_dataset"], run["grid_ratio"])
        values.setdefault(place, {})[run["seed"]] = value_of(run, metric, protocol)
        if title == "mAP" and run.get("oracle_epoch_mAP") is not None:
            oracle = (f"{run['method']} {ORACLE_EPOCH}", *place[1:])
            values.setdefault(oracle, {})[run["seed"]] = run["oracle_epoch_mAP"]
    leaky = {run["method"] for run in results if not is_contender(run)}
    places = sorted({place[1:] for place in values})
    lines = [[_heading(title, protocol), "seeds", *(f"{dataset} {100 * ratio:g} %" for dataset, ratio in places)]]
    lines.append(["---"] * len(lines[0]))
    for name, (before, second) in effects.items():
        after = f"{before} {ORACLE_EPOCH}" if second == ORACLE_EPOCH else second
        pairs = [
            [(low[seed], high[seed]) for seed in sorted(low.keys() & high.keys())]
            for low, high in ((values.get((before, *p), {}), values.get((after, *p), {})) for p in places)
        ]
        counts = sorted({len(pair) for pair in pairs if pair})
        marked = f"{name} {DAGGER}" if {before, after} & leaky else name
        lines.append([marked, "-".join(map(str, counts)), *map(_points, pairs)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _validation(results: Sequence[Run]) -> str:
    return ON_VALIDATION if any(run.get("judged_on") == "validation" for run in results) else ""


def _heading(title: str, protocol: str) -> str:
    return title if title == "mAP" else f"{title} ({protocol})"


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "-"
    differences = [100 * (after - before) for before, after in pairs]
    text = f"{statistics.mean(differences):+.1f}"
    if len(pairs) == 1:
        return text
    star = "*" if paired_p_value([b for _, b in pairs], [a for a, _ in pairs]) < SIGNIFICANT else ""
    return f"{text}{star} ± {statistics.stdev(differences):.1f}"


def _percent(values: tuple[float, ...] | None, best: bool) -> str:
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.0f}"
    spread = f" ± {100 * statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return (f"**{mean}**" if best else mean) + spread
