"""Summaries of a comparison, and the marks in documents that its tables fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from semilearn_bbam.report.table import COLUMNS, results_table
from semilearn_bbam.report.tables import Run, legend, printed_name

# F1 under all three protocols, each with its name; the oracle has every test sample's number of labels.
ALL_COLUMNS = (
    *COLUMNS,
    ("macro-F1 oracle", "test", "oracle_macro_f1"),
    ("micro-F1 oracle", "test", "oracle_micro_f1"),
)
MARK = re.compile(r"(<!-- (measured|compared|included): ([^>]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)


def settings_of(results: Iterable[Run]) -> dict[tuple[str, float], list[Run]]:
    """Runs of each dataset and label ratio."""
    groups: dict[tuple[str, float], list[Run]] = {}
    for result in results:
        groups.setdefault((result["grid_dataset"], result["grid_ratio"]), []).append(result)
    return groups


def summary(results: Sequence[Run]) -> str:
    """A table per dataset and ratio, every method with F1 under each protocol and seconds, the highest mAP first."""
    parts = []
    for (dataset, ratio), runs in sorted(settings_of(results).items()):
        ordered = sorted(runs, key=lambda run: -mean_map(runs, run["method"]))
        named = [{**run, "algorithm": printed_name(run)} for run in ordered]
        parts.append(f"## {dataset}, {100 * ratio:g} % labelled\n\n{results_table(named, ALL_COLUMNS)}\n")
    return "\n".join([f"{legend(results)}\n"] * bool(legend(results)) + parts)


def mean_map(runs: Iterable[Run], method: str) -> float:
    """Mean mAP of a method's runs."""
    values = [run["test"]["mAP"] for run in runs if run["method"] == method]
    return float(sum(values) / len(values))


def fill_marks(results: Sequence[Run], paths: Iterable[Path], root: Path) -> list[Path]:
    """Update the tables between marks in Markdown files; returns the files that changed.

    `<!-- measured: METHOD -->` is followed by a row per dataset and ratio of that method,
    `<!-- compared: DATASET RATIO METHOD .. -->` by a row per method, and `<!-- included: FILE -->` by the text of a
    file under `root`; all end with `<!-- end -->`. A table for which there is no run, or no file, is not changed.
    """
    changed = []
    for path in paths:
        before = path.read_text(encoding="utf-8")
        after = MARK.sub(lambda mark: mark[1] + (table_for(results, mark, root) or mark[4]) + mark[5], before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def table_for(results: Sequence[Run], mark: re.Match[str], root: Path) -> str:
    """The table that a mark asks for, or an empty text where there are no runs for it."""
    kind, words = mark[2], mark[3].split()
    if kind == "included":
        file = root / words[0]
        return file.read_text(encoding="utf-8").rstrip() + "\n" if file.is_file() else ""
    if kind == "measured":
        rows = [
            {**run, "algorithm": f"{dataset}, {100 * ratio:g} %"}
            for (dataset, ratio), runs in sorted(settings_of(results).items())
            for run in runs
            if run["method"] == words[0]
        ]
        return results_table(rows, ALL_COLUMNS, first="data, labelled") + "\n" if rows else ""
    runs = settings_of(results).get((words[0], float(words[1])), [])
    rows = [{**run, "algorithm": printed_name(run)} for name in words[2:] for run in runs if run["method"] == name]
    return results_table(rows) + "\n" if rows else ""
