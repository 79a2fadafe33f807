"""The angle variances that runs end with, as a table to go with the picture of their course."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from semilearn_bbam.report.tables import Run, legend, printed_name

# What `report_figures` logs, and its words in titles.
READINGS = {"true": "true labels of all rows", "pseudo": "labels and pseudo-labels"}


def last_variances(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Last logged VDFD (rad^2) and variance ratio M under each reading, from the rows of `metrics.jsonl`.

    Keys `vdfd_true`, `ratio_true`, `vdfd_pseudo`, `ratio_pseudo`; a reading that was not logged is left out.
    """
    variances = {}
    for reading in READINGS:
        logged = [row for row in rows if row.get(f"vdfd_{reading}") is not None and row.get(f"var_neg_{reading}")]
        if logged:
            variances[f"vdfd_{reading}"] = logged[-1][f"vdfd_{reading}"]
            variances[f"ratio_{reading}"] = logged[-1][f"var_pos_{reading}"] / logged[-1][f"var_neg_{reading}"]
    return variances


def variances_text(results: Sequence[Run]) -> str:
    """Markdown: a row per dataset, ratio and method, or nothing where no run logged its variances."""
    groups: dict[tuple[str, float, str], list[Run]] = {}
    for run in results:
        if run.get("variances"):
            groups.setdefault((run["grid_dataset"], run["grid_ratio"], run["method"]), []).append(run)
    if not groups:
        return ""
    head = ["data, labelled", "method", "seeds"]
    head += [f"{title}, {words}" for words in READINGS.values() for title in ("VDFD", "M")]
    lines = [head, ["---"] * len(head)]
    for (dataset, ratio, _), runs in groups.items():
        cells = [_cell(runs, f"{key}_{reading}") for reading in READINGS for key in ("vdfd", "ratio")]
        lines.append([f"{dataset}, {100 * ratio:g} %", printed_name(runs[0]), str(len(runs)), *cells])
    caption = (
        "Variance of the label angles of positives less that of negatives (VDFD, in rad^2, mean over labels) and the "
        "ratio M of the mean variances, of the EMA model after the last epoch: mean and standard deviation over seeds. "
        f"{legend(results)}"
    )
    return f"{caption.strip()}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(runs: Sequence[Run], key: str) -> str:
    values = [run["variances"][key] for run in runs if key in run["variances"]]
    if not values:
        return "-"
    digits = 4 if key.startswith("vdfd") else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"
