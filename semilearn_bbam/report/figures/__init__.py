"""Figures of run folders, each a function from methods (`read_methods`) to a Matplotlib figure."""

from __future__ import annotations

from semilearn_bbam.report.figures.angles import draw_angle_histogram
from semilearn_bbam.report.figures.curves import draw_learning_curves, draw_vdfd
from semilearn_bbam.report.figures.runs import Method, read_methods
from semilearn_bbam.report.figures.scores import draw_label_ap, draw_precision_recall
from semilearn_bbam.report.figures.style import save
from semilearn_bbam.report.figures.sweeps import draw_ratios, draw_sensitivity
from semilearn_bbam.runs.reader import Run

__all__ = [
    "Method",
    "Run",
    "draw_angle_histogram",
    "draw_label_ap",
    "draw_learning_curves",
    "draw_precision_recall",
    "draw_ratios",
    "draw_sensitivity",
    "draw_vdfd",
    "read_methods",
    "save",
]
