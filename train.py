#!/usr/bin/env python
"""Train one algorithm: python train.py --c config/bbam_digits.yaml [--key value ...]."""

from __future__ import annotations

import sys

from semilearn_bbam.errors import UserError
from semilearn_bbam.report import results_table
from semilearn_bbam.run import read_settings, run


def main(argv: list[str] | None = None) -> int:
    """0 after a finished run, 2 for a mistake that the user can mend, 130 after Ctrl-C."""
    try:
        results = run(read_settings(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: interrupted; --resume continues after the last finished epoch", file=sys.stderr)
        return 130
    print(results_table([results]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
