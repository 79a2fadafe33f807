"""One HTML page about one or several runs, in one file that asks the network for nothing."""

from __future__ import annotations

from semilearn_bbam.report.page.render import render

__all__ = ["render"]
