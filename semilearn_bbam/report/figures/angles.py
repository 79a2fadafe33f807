"""The angles of one label: histograms of positives and negatives, before and after the balancing map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.errors import FigureError
from semilearn_bbam.report.figures.names import METHOD_LONGEST, NamedFigure, verbatim
from semilearn_bbam.report.figures.runs import Method
from semilearn_bbam.report.figures.style import finish, grid, setting_words
from semilearn_bbam.runs.reader import Run

STATISTICS = ("mean_pos", "var_pos", "mean_neg", "var_neg")
BINS = 40


@dataclass(frozen=True, eq=False)
class LabelAngles:
    """Angles of a label [n] with their targets [n], its Gaussians, and whether training had them for its map."""

    angles: NDArray[np.float32]
    targets: NDArray[np.float32]
    statistics: AngleStatistics
    mapped: bool
    reading: str

    @classmethod
    def of(cls, run: Run, label: int) -> LabelAngles:
        """Of the entries that the loss counts, with the statistics of training, where the run has a map.

        Without a map all entries count and the Gaussians are fitted to them here. Around prototypes of labels and
        pseudo-labels where there are any, else of true labels.
        """
        arrays, labeled = run.arrays, int(run.arrays["num_labeled"])
        rows, angles, targets = arrays["known"], arrays["angles_true"], arrays["targets"].astype(np.float32)
        cells = arrays["known_cells"][:, label] if "known_cells" in arrays else rows
        rows = rows & cells
        if pseudo := "pseudo_targets" in arrays:
            rows = np.concatenate([cells[:labeled], arrays["pseudo_rows"]])
            angles = arrays["angles_pseudo"]
            targets = np.concatenate([targets[:labeled], arrays["pseudo_targets"].astype(np.float32)])
        if mapped := "counted" in arrays:
            rows = rows & arrays["counted"][:, label]
        column = angles[rows, label].astype(np.float32)
        decided = (targets[rows, label] >= 0.5).astype(np.float32)
        if mapped:
            tensors = (torch.from_numpy(arrays[name][label : label + 1]) for name in STATISTICS)
            statistics = AngleStatistics(*tensors)
        else:
            both = (torch.from_numpy(values).unsqueeze(1) for values in (column, decided))
            statistics = AngleStatistics.estimate(*both)
        return cls(column, decided, statistics, mapped, "labels and pseudo-labels" if pseudo else "true labels")

    @property
    def usable(self) -> bool:
        return bool(self.statistics.usable.all())

    def side(self, positive: bool) -> tuple[float, float]:
        """Mean and variance of the positives or the negatives."""
        names = ("mean_pos", "var_pos") if positive else ("mean_neg", "var_neg")
        mean, variance = (float(getattr(self.statistics, name)) for name in names)
        return mean, variance

    def after(self) -> LabelAngles:
        """The angles under the map, and what the map makes of the Gaussians: the same means, the pooled variance."""
        theta, targets = (torch.from_numpy(values).unsqueeze(1) for values in (self.angles, self.targets))
        statistics = self.statistics
        pooled = (statistics.var_pos + statistics.var_neg) / 2
        mapped_angles = statistics.balance(theta, targets).squeeze(1).numpy()
        balanced = AngleStatistics(statistics.mean_pos, pooled, statistics.mean_neg, pooled)
        return LabelAngles(mapped_angles, self.targets, balanced, self.mapped, self.reading)


def has_arrays(run: Run) -> bool:
    """Whether a run kept its scores and angles."""
    return bool(run.arrays)


def has_map(run: Run) -> bool:
    """Whether a run kept the statistics of the balancing map."""
    return "counted" in run.arrays


def label_number(run: Run, label: str) -> int:
    """Column of a label; of the most frequent one among the true training labels for an empty name."""
    names = run.arrays["label_names"].tolist()
    if not label:
        return int(run.arrays["targets"].sum(axis=0, dtype=np.int64).argmax())
    if label not in names:
        raise FigureError(f"there is no label '{label}'; the labels are {', '.join(names)}")
    return int(names.index(label))


def draw_angle_histogram(method: Method, label: str = "") -> Figure:
    """Histograms of the angles of a label's positives and negatives, before and after the map, with their Gaussians.

    Of the method's first run; label: its name, the most frequent one where empty. Positives and negatives are scaled to
    an area of 1 each. `LabelAngles.of` says which angles count; the angles are the final model's, the Gaussians
    those that the last epoch was trained with, so they need not fit exactly. A method without the map gets the first
    panel alone, as does a label with fewer than two positives or negatives. FigureError where the run kept no angles.
    """
    runs = method.only(has_arrays).runs
    if not runs:
        raise FigureError(f"{method.name} kept no angles (train with --report_figures true)")
    run = runs[0]
    number = label_number(run, label)
    before = LabelAngles.of(run, number)
    panels = [("before the map", before)]
    both = before.mapped and before.usable
    figure = NamedFigure(figsize=(5.6 * (1 + both), 4.4), layout="constrained")
    method_name = figure.shown(method.name, METHOD_LONGEST)
    if both:
        unused = "" if run.settings.get("balance", True) else f", which {method_name} does not use"
        panels.append((f"after the map{unused}", before.after()))
    elif not before.mapped:
        panels = [("no map", before)]
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    all_angles = np.concatenate([shown.angles for _, shown in panels])
    low, high = (float(all_angles.min()), float(all_angles.max())) if len(all_angles) else (0.0, np.pi)
    edges = np.linspace(low, high + 1e-3, BINS + 1)
    for axis, (title, shown) in zip(axes, panels, strict=True):
        _panel(axis, shown, edges)
        axis.set_title(verbatim(title), fontsize=10)
        axis.set(xlabel=r"mapped angle $\psi$ (rad)" if shown is not before else r"label angle $\phi$ (rad)")
        grid(axis)
    axes[0].set(ylabel="density (1/rad)")
    label, setting = figure.shown(str(run.arrays["label_names"][number])), figure.shown(setting_words(run.setting))
    title = f"Angles of label '{label}', {method_name} on {setting}"
    fitted = "Gaussians of the last epoch's statistics" if before.mapped else "Gaussians fitted to the angles shown"
    note = f"final EMA model, seed {run.seed}; {before.reading}; {fitted} ($\\mu$ in rad, $\\sigma^2$ in rad$^2$)"
    return finish(figure, title, [], note, legend=False)


def _panel(axis: Axes, shown: LabelAngles, edges: NDArray[np.float64]) -> None:
    looks: dict[bool, dict[str, Any]] = {
        False: {"facecolor": "0.85", "edgecolor": "0.55", "linewidth": 0.5},
        True: {"facecolor": "none", "edgecolor": "black", "hatch": "////", "linewidth": 0.5},
    }
    lines: dict[bool, dict[str, Any]] = {
        False: {"color": "0.3", "linestyle": "--"},
        True: {"color": "black", "linestyle": "-"},
    }
    x = np.linspace(edges[0], edges[-1], 400)
    for positive, word in ((False, "negatives"), (True, "positives")):
        angles = shown.angles[shown.targets == positive]
        if len(angles):
            axis.hist(angles, bins=list(edges), density=True, label=f"{word}, n = {len(angles)}", **looks[positive])
    for positive, side in ((False, "n"), (True, "p")):
        mean, variance = shown.side(positive)
        if variance > 0:
            density = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            text = rf"$\mu_{side}$ = {mean:.3f}, $\sigma_{side}^2$ = {variance:.4f}"
            axis.plot(x, density, label=text, linewidth=1.8, **lines[positive])
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handlelength=3)
