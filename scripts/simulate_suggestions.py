#!/usr/bin/env python
"""Compare strategies of `semilearn-bbam suggest` in simulated rounds: scripts/simulate_suggestions.py --data_dir .."""

from __future__ import annotations

import sys

from semilearn_bbam.compare.simulated import main
from semilearn_bbam.errors import UserError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"simulate_suggestions.py: {error}")
    except KeyboardInterrupt:
        sys.exit("simulate_suggestions.py: interrupted; the same command goes on")
