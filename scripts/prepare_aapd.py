#!/usr/bin/env python
"""The same as semilearn-bbam prepare aapd --data_dir FOLDER, for older command lines."""

from __future__ import annotations

import sys

from semilearn_bbam.__main__ import call

if __name__ == "__main__":
    sys.exit(call("prepare", ["aapd", *sys.argv[1:]], "prepare_aapd.py"))
