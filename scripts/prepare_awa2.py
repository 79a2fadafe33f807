#!/usr/bin/env python
"""Make Animals with Attributes 2 ready: python scripts/prepare_awa2.py --data_dir <folder>."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main(("awa2",)))
