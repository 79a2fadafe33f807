#!/usr/bin/env python
"""Write the two patch series for USB: python scripts/export_upstream.py --usb <checkout of main> --out <folder>.

`<out>/multilabel/*.patch` is the multi-label switch, `<out>/bbam/*.patch` BBAM and CAP on top of it, both for
`git am` on USB's main at 1ef4cbe. The checkout is only read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from upstream.series import SERIES, SeriesError, git, take_back, write_series


def main(argv: Sequence[str] | None = None) -> int:
    """Write the patches and print what each series changes; 2 for a checkout that cannot be used."""
    parser = argparse.ArgumentParser(prog="export_upstream.py", description=__doc__)
    parser.add_argument("--usb", type=Path, required=True, help="checkout of microsoft/Semi-supervised-learning")
    parser.add_argument("--out", type=Path, default=Path("build/upstream/patches"), help="folder for the patches")
    parser.add_argument(
        "--take",
        action="store_true",
        help="the other way: read the branches multilabel and bbam of the checkout into scripts/upstream",
    )
    args = parser.parse_args(argv)
    try:
        if args.take:
            for series, since in zip(SERIES, ("main", *SERIES), strict=False):
                for folder in take_back(args.usb, series, since, series):
                    print(folder)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "usb"
            patches = write_series(args.usb, args.out, work)
            for series, since in zip(SERIES, ("main", *SERIES), strict=False):
                print(f"{args.out / series}: {len(patches[series])} patches", end="")
                print(git(work, "diff", "--shortstat", since, series).rstrip().replace("files changed", "files"))
    except SeriesError as error:
        print(f"export_upstream.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
