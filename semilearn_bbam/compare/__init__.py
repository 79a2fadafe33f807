"""Many runs under one protocol: a grid of methods, data sets, label ratios and seeds, and what came of it."""

from __future__ import annotations

from semilearn_bbam.compare.grid import Grid, Job, read_grid
from semilearn_bbam.compare.runner import run_jobs

__all__ = ["Grid", "Job", "read_grid", "run_jobs"]
