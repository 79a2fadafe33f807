#!/usr/bin/env python
"""The same as semilearn-bbam plot, for older command lines: python scripts/plot.py runs/compare/* --out figures."""

from __future__ import annotations

import sys

from semilearn_bbam.__main__ import call

if __name__ == "__main__":
    sys.exit(call("plot", sys.argv[1:], "plot.py"))
