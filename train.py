#!/usr/bin/env python
"""Train one algorithm: python train.py --c config/bbam_digits.yaml [--key value ...]."""

from __future__ import annotations

import sys

from semilearn_bbam.util.signals import BEFORE_TRAINING, exit_at_signals

if __name__ == "__main__":
    exit_at_signals(BEFORE_TRAINING)  # first, since the next import takes seconds

from semilearn_bbam.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
