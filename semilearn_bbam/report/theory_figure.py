"""Class-wise error and VCA against the variance ratio M: the formula as lines, simulations as points."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semilearn_bbam.report.figures.style import COLORS, Style, finish, grid
from semilearn_bbam.theory import ClassErrors, Setting, best_errors, crossing_errors

# Name in the legend, value of a classifier, style. Dots are for the slides' formula.
QUANTITIES: dict[str, tuple[str, Callable[[ClassErrors], float], Style]] = {
    "positive": ("R(+1): true positives called negative", lambda errors: errors.positive, Style(COLORS[0], "-", "o")),
    "negative": ("R(-1): true negatives called positive", lambda errors: errors.negative, Style(COLORS[1], "--", "s")),
    "vca": ("VCA", lambda errors: errors.vca, Style(COLORS[2], "-.", "^")),
}
SLIDES = "thin dots: the slides' formula as printed"
ROWS = (("class-wise error", ("positive", "negative")), ("VCA", ("vca",)))
POINTS = 481  # of a line: an odd number, so that M = 1 is one of them
Simulated = Mapping[float, Sequence[ClassErrors]]


def draw_theory(settings: Mapping[str, Setting], simulated: Mapping[str, Simulated], note: str) -> Figure:
    """A column per setting, errors above and VCA below; `simulated` has an entry per seed for each M of a setting.

    Lines are `best_errors`, thin dots `crossing_errors` with the slides' log ratio, with gaps where there is no
    crossing; points are means over seeds, bars standard deviations of the sample.
    """
    figure = Figure(figsize=(4.1 * len(settings), 6.4), layout="constrained")
    panels = figure.subplots(2, len(settings), squeeze=False, sharex="col", sharey="row")
    for column, (name, setting) in enumerate(settings.items()):
        simulations = simulated[name]
        for panel, (words, quantities) in zip(panels[:, column], ROWS, strict=True):
            for quantity in quantities:
                _line(panel, setting, simulations, quantity)
            panel.axvline(1, color="grey", linewidth=0.6)
            if column == 0:
                panel.set(ylabel=words)
            _ratio_axis(panel, simulations)
            grid(panel)
        panels[0, column].set_title(f"{name}\n{_parameters(setting)}", fontsize=9)
        panels[-1, column].set(xlabel="M = standard deviation of negatives / of positives")
    return finish(figure, "The best linear classifier for two Gaussians and noisy labels", [], note)


def _line(panel: Axes, setting: Setting, simulated: Simulated, quantity: str) -> None:
    words, value, style = QUANTITIES[quantity]
    ratios = np.geomspace(min(simulated), max(simulated), POINTS)
    best = [best_errors(setting, ratio) for ratio in ratios]
    formula = [value(errors) for errors in best]
    for number, (before, now) in enumerate(zip(best, best[1:], strict=False), start=1):
        if np.isinf(before.threshold) != np.isinf(now.threshold):
            formula[number] = np.nan  # another classifier is best from here on: the line jumps
    panel.plot(ratios, formula, color=style.color, linestyle=style.dash, linewidth=1.4)
    slides = [value(crossing_errors(setting, ratio, "slides")) for ratio in ratios]
    panel.plot(ratios, slides, color=style.color, linestyle=":", linewidth=1)
    values = [[value(errors) for errors in runs] for runs in simulated.values()]
    spread = [statistics.stdev(runs) if len(runs) > 1 else 0.0 for runs in values]
    bars = spread if any(spread) else None
    means = [statistics.mean(runs) for runs in values]
    panel.errorbar(list(simulated), means, yerr=bars, capsize=3, elinewidth=1, **style.line | {"linestyle": "none"})
    # For the legend: one entry for line and points, one for the slides.
    panel.plot([], [], label=words, **style.line)
    panel.plot([], [], color="black", linestyle=":", linewidth=1, label=SLIDES)


def _ratio_axis(panel: Axes, ratios: Simulated) -> None:
    panel.set_xscale("log")
    powers = range(int(np.floor(np.log2(min(ratios)))), int(np.ceil(np.log2(max(ratios)))) + 1)
    panel.set_xticks([2.0**p for p in powers], [str(2**p) if p >= 0 else f"1/{2**-p}" for p in powers])
    panel.minorticks_off()


def _parameters(setting: Setting) -> str:
    noise = f"$\\epsilon_+$ = {setting.eps_pos:g}, $\\epsilon_-$ = {setting.eps_neg:g}"
    ratios = f"L = {setting.log_ratio():.2f}, slides {setting.log_ratio('slides'):.2f}"
    return f"$\\alpha$ = {setting.alpha:g}, {noise}; {ratios}"
