#!/usr/bin/env python
"""Run a grid of methods, data sets, label ratios and seeds, and write its tables and figures."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.compare import main
from semilearn_bbam.errors import UserError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"compare.py: {error}")
    except KeyboardInterrupt:
        sys.exit("compare.py: stopped; finished runs are kept, and the same command goes on")
