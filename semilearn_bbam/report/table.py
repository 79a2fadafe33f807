"""Results as a Markdown table, one row per algorithm."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The metrics that need no threshold, then F1 under each of the two honest protocols.
COLUMNS = (
    ("mAP", "test", "mAP"),
    ("one-error", "test", "one_error"),
    ("macro-F1 at 0.5", "test", "macro_f1"),
    ("micro-F1 at 0.5", "test", "micro_f1"),
    ("macro-F1 at prior", "test_prior", "macro_f1"),
    ("micro-F1 at prior", "test_prior", "micro_f1"),
)


def results_table(
    results: Iterable[Mapping[str, Any]],
    columns: Sequence[tuple[str, str, str]] = COLUMNS,
    first: str = "algorithm",
) -> str:
    """Test metrics of finished runs (the contents of `results.json`), averaged over the seeds of each algorithm.

    columns: title, protocol and metric of each; first: title of the first one. With several seeds a cell is "mean ±
    standard deviation" (of the sample). The order of the rows is that of the algorithms' first runs.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["algorithm"], []).append(result)
    head = [first, "seeds", *(title for title, _, _ in columns), "seconds"]
    lines = [head, ["---"] * len(head)]
    for name, runs in groups.items():
        cells = [_cell([run[protocol][metric] for run in runs], 3) for _, protocol, metric in columns]
        lines.append([name, str(len(runs)), *cells, _cell([run["seconds"] for run in runs], 0)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _cell(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"
