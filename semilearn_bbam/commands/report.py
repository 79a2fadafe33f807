"""Write one HTML page about one or several runs: metrics, labels, curves, items and settings, in one file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; nothing was written"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, the page, and the items on it."""
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders that training wrote, at most 8")
    parser.add_argument("--out", required=True, metavar="FILE", help="HTML page to write")
    parser.add_argument(
        "--items",
        type=int,
        default=6,
        metavar="N",
        help="most wrong, most uncertain and random test items to show of each run (default: 6); 0: read no data",
    )
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="where the data are now; default: as trained")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0. UserError for a folder that is no run or is damaged, and for a page that cannot be written."""
    out = Path(args.out)
    if args.items < 0:
        raise UserError(f"--items must be at least 0, not {args.items}")
    check_writable(out)
    from semilearn_bbam.runs.reader import Run

    for folder in args.folders:  # before the imports
        Run.read(folder)
    from semilearn_bbam.report.page import render
    from semilearn_bbam.trained.page_data import gather

    with interruptible():
        page = gather(args.folders, items=args.items, data_dir=args.data_dir, device=args.device)
        html = render(page).encode("utf-8")
        try:
            write_atomically(out, lambda temporary: temporary.write_bytes(html))
        except OSError as error:
            raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another file") from error
    print(f"wrote {out}: {len(page.runs)} run{'s' * (len(page.runs) > 1)}, {len(html) / 1e6:.2f} MB")
    for shown in page.runs:
        if shown.items_note and args.items:
            print(f"{shown.name}: no items. {shown.items_note}")
    return 0
