"""Commands of the package: python -m semilearn_bbam data check|browse --c config/bbam_voc.yaml [--key value ...]."""

from __future__ import annotations

import argparse
import os
import sys

from semilearn_bbam.algorithms.pools import prepare_source
from semilearn_bbam.data.loading import inspect_source, keep_frequent_labels
from semilearn_bbam.errors import UserError
from semilearn_bbam.report import check_report, draw_contact_sheet
from semilearn_bbam.run import read_settings


def check(settings: argparse.Namespace) -> int:
    """Print what is in the data; 1 if there are bad items."""
    source = keep_frequent_labels(inspect_source(settings), settings.min_positives, settings.min_test_positives)
    report, good = check_report(source, settings.cache_dir)
    print(report, flush=True)
    return 0 if good else 1


def browse(settings: argparse.Namespace, out: str, rows: int) -> int:
    """Draw a contact sheet of the training part."""
    # With plain pixel values, since those can be shown.
    source, views, tokenizer = prepare_source(argparse.Namespace(**{**vars(settings), "normalize": "none"}))
    draw_contact_sheet(source, views, out, seed=settings.seed, rows=rows, tokenizer=tokenizer)
    print(f"wrote {out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """0: well; 1: `data check` found bad items; 2: a mistake that the user can mend; 130, 141: cut short."""
    parser = argparse.ArgumentParser(prog="python -m semilearn_bbam", description=__doc__, allow_abbrev=False)
    data = parser.add_subparsers(required=True, metavar="data").add_parser(
        "data", help="look at a data set", allow_abbrev=False
    )
    commands = data.add_subparsers(dest="command", required=True, metavar="check|browse")
    commands.add_parser(
        "check", help="print counts, label frequencies, overlaps, bad and suspicious items", allow_abbrev=False
    )
    browser = commands.add_parser("browse", help="write a contact sheet of the views", allow_abbrev=False)
    browser.add_argument("--out", default="contact_sheet.png", help="the PNG to write")
    browser.add_argument("--rows", type=int, default=8, help="number of items")
    chosen, options = parser.parse_known_args(argv)
    try:
        settings = read_settings(options)
        return check(settings) if chosen.command == "check" else browse(settings, chosen.out, chosen.rows)
    except UserError as error:
        print(f"semilearn_bbam: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads the report, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141


if __name__ == "__main__":
    sys.exit(main())
