#!/usr/bin/env python
"""Make AAPD ready: python scripts/prepare_aapd.py --data_dir <folder>."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main(("aapd",)))
