"""Look at a dataset before training: check counts and items, or browse pictures of its views."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from semilearn_bbam.commands import ANYWHERE
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import interruptible

OPTIONS = ANYWHERE
INTERRUPTED = "interrupted; nothing was written"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`check` or `browse`, and the options of a contact sheet."""
    actions = parser.add_subparsers(required=True, metavar="check|browse", dest="action")
    actions.add_parser(
        "check",
        help="print counts, label frequencies, overlaps, bad and suspicious items",
        description="Print counts, label frequencies, overlaps, bad and suspicious items; exit code 1 for bad items.",
        epilog=parser.epilog,
        allow_abbrev=False,
    )
    browse_parser = actions.add_parser(
        "browse",
        help="write a contact sheet of the views",
        description="Write a contact sheet: items of the training part with their weak and strong views.",
        epilog=parser.epilog,
        allow_abbrev=False,
    )
    browse_parser.add_argument("--out", default="contact_sheet.png", help="the PNG to write")
    browse_parser.add_argument("--rows", type=int, default=8, help="number of items")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 if `check` found bad items."""
    check_quickly(options)
    import semilearn_bbam.report
    import semilearn_bbam.run  # noqa: F401  they take seconds, in which an exception could be swallowed

    with interruptible():
        return check(options) if args.action == "check" else browse(args, options)


def check(options: Sequence[str]) -> int:
    """Print the report about the data; 1 if there are bad items."""
    from semilearn_bbam.data.loading import inspect_source, keep_frequent_labels
    from semilearn_bbam.report import check_report
    from semilearn_bbam.run import read_settings

    settings = read_settings(options)
    source = keep_frequent_labels(inspect_source(settings), settings.min_positives, settings.min_test_positives)
    report, valid = check_report(source, settings.cache_dir)
    print(report, flush=True)
    return 0 if valid else 1


def browse(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Draw a contact sheet of the training part."""
    from semilearn_bbam.data import load_source
    from semilearn_bbam.engine.preprocessing import Preprocessor
    from semilearn_bbam.report import draw_contact_sheet
    from semilearn_bbam.run import read_settings

    settings = read_settings(options).having(normalize="none")  # plain pixel values can be shown
    if settings.encoder:
        raise UserError("data browse: with encoder the views are of vectors, which no picture shows; set net instead")
    source = load_source(settings)
    preprocessor = Preprocessor.of(settings, source.kind, strong_texts=source.strong_texts is not None)
    draw_contact_sheet(
        preprocessor.encode(source),
        preprocessor.views,
        args.out,
        seed=settings.seed,
        rows=args.rows,
        tokenizer=preprocessor.tokenizer,
    )
    print(f"wrote {args.out}")
    return 0
