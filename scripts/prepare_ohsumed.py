#!/usr/bin/env python
"""Make Ohsumed ready: python scripts/prepare_ohsumed.py --data_dir <folder>."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main(("ohsumed",)))
