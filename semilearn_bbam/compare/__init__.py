"""Many runs under one protocol: a grid of methods, datasets, label ratios and seeds, and its results."""

from __future__ import annotations

from semilearn_bbam.compare.grid import Block, Grid, Job, Printing, Variant
from semilearn_bbam.compare.making import label
from semilearn_bbam.compare.reading import read_grid
from semilearn_bbam.compare.runner import run_jobs

__all__ = ["Block", "Grid", "Job", "Printing", "Variant", "label", "read_grid", "run_jobs"]
