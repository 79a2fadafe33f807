#!/usr/bin/env python
"""Train one algorithm: python train.py --c config/bbam_digits.yaml [--key value ...]."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from semilearn_bbam.__main__ import call
from semilearn_bbam.util.signals import BEFORE_TRAINING, exit_at_signals


def main(argv: Sequence[str] | None = None) -> int:
    """What `semilearn-bbam train` does; gives the exit code."""
    return call("train", sys.argv[1:] if argv is None else argv, "train.py")


if __name__ == "__main__":
    exit_at_signals(f"train.py: {BEFORE_TRAINING}")  # `call` takes over
    sys.exit(main())
