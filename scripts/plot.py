#!/usr/bin/env python
"""Draw the figures that run folders hold data for: python scripts/plot.py runs/compare/* --out figures."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.plot import main
from semilearn_bbam.errors import UserError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"plot.py: {error}")
