#!/usr/bin/env python
"""The same as semilearn-bbam compare, for older command lines: python scripts/compare.py --c FILE."""

from __future__ import annotations

import sys

from semilearn_bbam.__main__ import call

if __name__ == "__main__":
    sys.exit(call("compare", sys.argv[1:], "compare.py"))
