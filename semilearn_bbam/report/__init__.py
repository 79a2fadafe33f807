"""Output for people: tables of results, learning curves, reports on data and contact sheets."""

from __future__ import annotations

from semilearn_bbam.report.contact_sheet import draw_contact_sheet
from semilearn_bbam.report.data_check import check_report
from semilearn_bbam.report.plots import draw_all
from semilearn_bbam.report.table import results_table

__all__ = ["check_report", "draw_all", "draw_contact_sheet", "results_table"]
