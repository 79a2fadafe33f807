#!/usr/bin/env python
"""Make COCO 2014, or 2017 with --dataset coco2017 ready: python scripts/prepare_coco2014.py --data_dir <folder>."""

from __future__ import annotations

import sys

from semilearn_bbam.commands.prepare import main

if __name__ == "__main__":
    sys.exit(main(("coco2014", "coco2017")))
