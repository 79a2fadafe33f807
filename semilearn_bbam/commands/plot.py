"""Draw the figures that run folders hold data for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from semilearn_bbam.report.plots import KINDS, draw_all


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what a command line asks for, and say so; 1 where nothing could be drawn. Errors as in `draw_all`."""
    listed = "; ".join(f"{name}: {kind.words}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="plot.py", description="Draw the figures that run folders hold data for, as PNG and SVG.", epilog=listed
    )
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of the pictures")
    parser.add_argument("--kinds", nargs="+", default=[], metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="methods to draw; default: all")
    parser.add_argument("--label", default="", metavar="NAME", help="label of the histograms and of the single curve")
    args = parser.parse_args(argv)
    options = {"kinds": args.kinds, "chosen": args.methods, "label": args.label}
    return 0 if draw_all(args.folders, args.out, tell=lambda line: print(line, flush=True), **options) else 1
