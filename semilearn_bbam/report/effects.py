"""The effects of single changes in Markdown: a method less another, on the same seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from semilearn_bbam.report.columns import HEADLINE, heading, metric_of, place_words
from semilearn_bbam.report.render import to_rows
from semilearn_bbam.report.tables import (
    DAGGER,
    SIGNIFICANT,
    Run,
    is_contender,
    paired_p_value,
    validation_note,
    value_of,
)

# In a pair of effects: the runs of the first method, at the epoch that is best on the test set.
ORACLE_EPOCH = "oracle_epoch"


def effects_text(results: Sequence[Run], effects: Mapping[str, tuple[str, str]]) -> str:
    """The effect of each change as Markdown: the second method of a pair less the first, on the same seeds.

    Columns are the datasets and label ratios at which some pair has both of its methods.
    """
    caption = (
        "Difference that each thing makes, in points (hundredths): mean and standard deviation of the differences on "
        f"the same seeds; *: p < {SIGNIFICANT} in a paired t-test over seeds. {DAGGER}: labels of unlabelled rows were "
        f"given away. {validation_note(results)}"
    )
    return (
        "\n\n".join([caption.strip(), *(_effects_table(results, effects, *headline) for headline in HEADLINE)]) + "\n"
    )


def _effects_table(results: Sequence[Run], effects: Mapping[str, tuple[str, str]], title: str, protocol: str) -> str:
    metric = metric_of(title)
    values: dict[tuple[str, str, float], dict[int, float]] = {}
    for run in results:
        place = (run["method"], run["grid_dataset"], run["grid_ratio"])
        values.setdefault(place, {})[run["seed"]] = value_of(run, metric, protocol)
        if title == "mAP" and run.get("oracle_epoch_mAP") is not None:
            oracle = (f"{run['method']} {ORACLE_EPOCH}", *place[1:])
            values.setdefault(oracle, {})[run["seed"]] = run["oracle_epoch_mAP"]
    leaky = {run["method"] for run in results if not is_contender(run)}
    places = sorted({place[1:] for place in values})
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for name, (before, second) in effects.items():
        after = f"{before} {ORACLE_EPOCH}" if second == ORACLE_EPOCH else second
        marked = f"{name} {DAGGER}" if {before, after} & leaky else name
        ends = ((values.get((before, *p), {}), values.get((after, *p), {})) for p in places)
        found[marked] = [[(low[s], high[s]) for s in sorted(low.keys() & high.keys())] for low, high in ends]
    shown = [column for column in range(len(places)) if any(pairs[column] for pairs in found.values())]
    lines = [[heading(title, protocol), "seeds", *(place_words(places[column]) for column in shown)]]
    for name, pairs in found.items():
        counts = sorted({len(pair) for pair in pairs if pair})
        lines.append([name, "-".join(map(str, counts)), *(_points(pairs[column]) for column in shown)])
    return to_rows(lines)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "-"
    differences = [100 * (after - before) for before, after in pairs]
    text = f"{statistics.mean(differences):+.1f}"
    if len(pairs) == 1:
        return text
    star = "*" if paired_p_value([b for _, b in pairs], [a for a, _ in pairs]) < SIGNIFICANT else ""
    return f"{text}{star} ± {statistics.stdev(differences):.1f}"
