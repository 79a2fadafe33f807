"""What came of a comparison of methods: a CSV of every run, a table per setting, and a row in each method's card."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.report.table import COLUMNS, results_table

# F1 under all three protocols, each with its name; the oracle is told every test sample's number of labels.
ALL_COLUMNS = (
    *COLUMNS,
    ("macro-F1 oracle", "test", "oracle_macro_f1"),
    ("micro-F1 oracle", "test", "oracle_micro_f1"),
)
PLACE = ("method", "grid_dataset", "grid_ratio", "seed", "num_labels", "steps", "seconds", "device", "folder", "config")
MARK = re.compile(r"(<!-- (measured|compared): ([^>]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)

Run = Mapping[str, Any]


def settings_of(results: Iterable[Run]) -> dict[tuple[str, float], list[Run]]:
    """Runs of each data set and label ratio."""
    found: dict[tuple[str, float], list[Run]] = {}
    for result in results:
        found.setdefault((result["grid_dataset"], result["grid_ratio"]), []).append(result)
    return found


def write_comparison(results: Sequence[Run], folder: Path, name: str) -> str:
    """Write `<name>.csv`, a line per run, and `<name>.md`, a table per data set and ratio; gives the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = [
        (protocol, key) for protocol in ("test", "test_prior") for key in (results[0][protocol] if results else ())
    ]
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PLACE, *(f"{protocol}/{key}" for protocol, key in metrics)])
        for run in results:
            writer.writerow([*(run[key] for key in PLACE), *(run[protocol][key] for protocol, key in metrics)])
    parts = []
    for (dataset, ratio), runs in sorted(settings_of(results).items()):
        ordered = sorted(runs, key=lambda run: -mean_map(runs, run["method"]))
        parts.append(f"## {dataset}, {100 * ratio:g} % labelled\n\n{results_table(ordered, ALL_COLUMNS)}\n")
    text = "\n".join(parts)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def mean_map(runs: Iterable[Run], method: str) -> float:
    """Mean mAP of a method's runs."""
    values = [run["test"]["mAP"] for run in runs if run["method"] == method]
    return float(sum(values) / len(values))


def fill_marks(results: Sequence[Run], paths: Iterable[Path]) -> list[Path]:
    """Renew the tables between marks in Markdown files; returns the files that changed.

    `<!-- measured: METHOD -->` is followed by a row per data set and ratio of that method, and
    `<!-- compared: DATASET RATIO METHOD .. -->` by a row per method; both end with `<!-- end -->`. A table for which
    there is no run is left as it is.
    """
    changed = []
    for path in paths:
        before = path.read_text(encoding="utf-8")
        after = MARK.sub(lambda found: found[1] + (table_for(results, found) or found[4]) + found[5], before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def table_for(results: Sequence[Run], mark: re.Match[str]) -> str:
    """The table that a mark asks for, or an empty text where there are no runs for it."""
    kind, words = mark[2], mark[3].split()
    if kind == "measured":
        chosen = [
            {**run, "algorithm": f"{dataset}, {100 * ratio:g} %"}
            for (dataset, ratio), runs in sorted(settings_of(results).items())
            for run in runs
            if run["method"] == words[0]
        ]
        return results_table(chosen, ALL_COLUMNS, first="data, labelled") + "\n" if chosen else ""
    runs = settings_of(results).get((words[0], float(words[1])), [])
    chosen = [dict(run) for name in words[2:] for run in runs if run["method"] == name]
    return results_table(chosen) + "\n" if chosen else ""
