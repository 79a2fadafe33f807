"""Learning curves from the metrics of run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from semilearn_bbam.run_folder import RunFolder

# Told apart by their dashes as well as by their colours, so that a black-and-white print still reads.
STYLES = ("-", "--", ":", "-.")


def draw_learning_curves(folders: Sequence[str | Path], path: str | Path, metrics: Sequence[str] = ("mAP",)) -> Path:
    """Draw test metrics per optimiser step, one line per run folder and one panel per metric, into an image file.

    The lines carry the names of the folders. They show the course of a run; no choice is made by them.
    """
    figure = Figure(figsize=(5.2 * len(metrics), 3.8), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for number, folder in enumerate(folders):
            rows = [row for row in RunFolder(folder).read_metrics() if f"test/{metric}" in row]
            style = STYLES[number % len(STYLES)]
            steps, values = [row["it"] for row in rows], [row[f"test/{metric}"] for row in rows]
            panel.plot(steps, values, style, label=Path(folder).name, marker=".", markersize=3)
        panel.set(xlabel="optimiser steps", ylabel=f"test {metric} (EMA model)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    return Path(path)
