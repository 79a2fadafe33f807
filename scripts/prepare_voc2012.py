#!/usr/bin/env python
"""Make PASCAL VOC 2012, or 2007 with --dataset voc2007 ready: python scripts/prepare_voc2012.py --data_dir <folder>."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main(("voc2012", "voc2007")))
