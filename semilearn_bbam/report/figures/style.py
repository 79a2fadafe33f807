"""Shared by all figures: styles that differ without colour, words on axes, legends, and the writing of files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from semilearn_bbam.report.figures.names import NamedFigure, verbatim
from semilearn_bbam.report.tables import marks_explained

# Dark and light in turn. Lengths without a common factor: dash and marker repeat together only after 40 methods.
COLORS = ("#000000", "#d98200", "#1f4e9c", "#3fa7d6", "#8b1a1a", "#5aae61", "#7b5aa6")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "x", "P", "<")
LETTERS, TITLE_LETTERS = 14, 11  # of the smallest print and of a title in an inch
WORDS = {
    "mAP": "mAP",
    "mAP_present": "mAP of labels with positives",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "hamming_loss": "Hamming loss",
    "one_error": "one-error",
    "ranking_loss": "ranking loss",
    "coverage_error": "coverage error",
    "lrap": "label ranking AP",
    "vca": "VCA",
}
# Metrics that need hard predictions, and so a protocol.
BY_PROTOCOL = ("micro_f1", "macro_f1", "hamming_loss", "vca")


class Marked(Protocol):
    """A method whose title in a legend may have a mark to be explained, by the hidden labels that it had."""

    @property
    def hidden_labels(self) -> str: ...


@dataclass(frozen=True)
class Style:
    """Colour, dashes and marker of a method."""

    color: str
    dash: Any
    marker: str

    @classmethod
    def of(cls, number: int) -> Style:
        return cls(COLORS[number % len(COLORS)], DASHES[number % len(DASHES)], MARKERS[number % len(MARKERS)])

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of a line with hollow markers, which do not hide what is below them."""
        return {
            "color": self.color,
            "linestyle": self.dash,
            "marker": self.marker,
            "markersize": 5,
            "linewidth": 1.4,
            "markerfacecolor": "white",
        }


def metric_words(metric: str) -> str:
    """A metric such as `test/macro_f1` on an axis: `test macro-F1 at 0.5`."""
    part, _, key = metric.partition("/")
    oracle, name = key.startswith("oracle_"), key.removeprefix("oracle_")
    protocol = ""
    if name in BY_PROTOCOL:
        protocol = " (oracle)" if oracle else " at prior thresholds" if part == "test_prior" else " at 0.5"
    return f"{part.removesuffix('_prior')} {WORDS.get(name, name)}{protocol}"


def setting_words(setting: tuple[str, str]) -> str:
    """A setting such as ("ohsumed_minilm", "5pct") in a title: `ohsumed_minilm, 5 % labelled`."""
    data, share = setting
    if share.endswith("pct"):
        return f"{data}, {share.removesuffix('pct')} % labelled"
    if share.endswith("lb"):
        return f"{data}, {share.removesuffix('lb')} labelled samples"
    return data if share == "split" else f"{data}, {share} labelled"


def seeds_words(seeds: Sequence[int], spread: str) -> str:
    """The lines in words: one run each, or a mean over seeds with a spread."""
    if len(seeds) == 1:
        return f"one run each, seed {seeds[0]}"
    return f"mean over seeds {', '.join(map(str, seeds))}; {spread}"


def finish(figure: Figure, title: str, methods: Sequence[Marked], note: str, *, legend: bool = True) -> Figure:
    """Title above; note and (unless panels have their own) one legend for all panels below."""
    width = figure.get_figwidth()
    figure.suptitle(verbatim(textwrap.fill(title, int(width * TITLE_LETTERS))), fontsize=11)
    marks = marks_explained(method.hidden_labels for method in methods)
    note = ". ".join([note, *(text.replace(".", "") for text in marks)])  # sentences to a table, parts of a note here
    note = textwrap.fill(note, int(width * LETTERS))
    if not legend:
        figure.supxlabel(note, fontsize=8)
        return figure
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = max(1, min(len(handles), int(width * LETTERS / (max(map(len, handles), default=0) + 14))))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        handlelength=4,
        title=note,
        title_fontsize=8,
    )
    return figure


def grid(axis: Axes) -> None:
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.tick_params(labelsize=8)


def stem(path: str | Path) -> Path:
    """A path without the suffix of a picture; other dots in a name, as in 2.5pct, stay."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".png", ".svg") else path


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write a figure as `<path>.png` and `<path>.svg`; the same figure gives the same files, byte for byte.

    Names that it can only number go into `<path>_names.txt`. Returns the paths of all files.
    """
    base = stem(path)
    png, svg = base.with_name(f"{base.name}.png"), base.with_name(f"{base.name}.svg")
    if isinstance(figure, NamedFigure):
        figure.use_fonts()
    figure.savefig(png, dpi=150)
    with rc_context({"svg.hashsalt": "semilearn_bbam"}):
        figure.savefig(svg, metadata={"Date": None})
    return [png, svg, *(figure.write_names(png) if isinstance(figure, NamedFigure) else [])]
