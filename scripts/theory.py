#!/usr/bin/env python
"""Draw what the variance ratio does to class-wise error, by formula and simulation: python scripts/theory.py --docs."""

from __future__ import annotations

import sys

from semilearn_bbam.errors import UserError
from semilearn_bbam.report.theory import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"theory.py: {error}")
