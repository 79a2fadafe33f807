"""Draw the figures that run folders hold data for, as PNG and SVG."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; figures drawn so far are kept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, the folder of the pictures, and the selection of figures."""
    from semilearn_bbam.report.plots import KINDS

    parser.epilog = "; ".join(f"{name}: {kind.words}" for name, kind in KINDS.items())
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder of the pictures")
    parser.add_argument("--kinds", nargs="+", default=[], metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME", help="methods to draw; default: all")
    parser.add_argument("--label", default="", metavar="NAME", help="label of the histograms and of the single curve")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Draw the figures and print their files; 1 if nothing could be drawn. UserError as in `draw_all`."""
    from semilearn_bbam.report.plots import draw_all

    choices = {"kinds": args.kinds, "selected": args.methods, "label": args.label}
    with interruptible():
        written = draw_all(args.folders, args.out, log=lambda line: print(line, flush=True), **choices)
    return 0 if written else 1
