"""What people look at: tables of results and learning curves."""

from __future__ import annotations

from semilearn_bbam.report.curves import draw_learning_curves
from semilearn_bbam.report.table import results_table

__all__ = ["draw_learning_curves", "results_table"]
