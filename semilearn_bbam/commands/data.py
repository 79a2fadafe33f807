"""Look at a dataset before training: check counts and items, browse pictures of its views, or convert it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import ANYWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import interruptible

OPTIONS = ANYWHERE
INTERRUPTED = "interrupted; nothing was written"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`check`, `browse` or `convert`, with the file to write and the options of a contact sheet."""
    common: dict[str, Any] = {"epilog": parser.epilog, "allow_abbrev": False}
    actions = parser.add_subparsers(required=True, metavar="check|browse|convert", dest="action")
    actions.add_parser(
        "check",
        help="print counts, label frequencies, overlaps, bad and suspicious items",
        description="Print counts, label frequencies, overlaps, bad and suspicious items; exit code 1 for bad items.",
        **common,
    )
    browse_parser = actions.add_parser(
        "browse",
        help="write a contact sheet of the views",
        description="Write a contact sheet: items of the training part with their weak and strong views.",
        **common,
    )
    browse_parser.add_argument("--out", default="contact_sheet.png", help="the PNG to write")
    browse_parser.add_argument("--rows", type=int, default=8, help="number of items")
    convert_parser = actions.add_parser(
        "convert",
        help="write the data as a manifest, vectors as .npz",
        description="Write images or texts as a manifest with a column split, vectors as .npz, to be read back.",
        **common,
    )
    convert_parser.add_argument("--out", required=True, metavar="FILE", help=".csv or .jsonl; for vectors .npz")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 if `check` found bad items."""
    check_quickly(options)
    import semilearn_bbam.report
    import semilearn_bbam.run  # noqa: F401  they take seconds, in which an exception could be swallowed

    with interruptible():
        if args.action == "check":
            return check(options)
        return browse(args, options) if args.action == "browse" else convert(args, options)


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
    names = draw_contact_sheet(
        preprocessor.encode(source),
        preprocessor.views,
        args.out,
        seed=settings.seed,
        rows=args.rows,
        tokenizer=preprocessor.tokenizer,
    )
    print(f"wrote {args.out}" + "".join(f", full names in {path}" for path in names))
    return 0


def convert(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Write the data, without their bad items under `bad_data: skip`, and print the settings that read them."""
    import yaml

    from semilearn_bbam.data import load_source
    from semilearn_bbam.data.dataset import data_folder
    from semilearn_bbam.data.table_out import write_source
    from semilearn_bbam.run import read_settings

    settings = read_settings(options).having(cache="none")  # paths are written, not pixels
    out = Path(args.out)
    check_writable(out)
    source = load_source(settings)
    try:
        written = write_source(source, data_folder(settings), out)
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another file") from error
    unlabeled = len(source.train) - len(source.targets)
    print(
        f"wrote {out}: {len(source.targets)} training, {unlabeled} unlabelled and {len(source.test)} test items; "
        f"it is read by\n{yaml.safe_dump(written, allow_unicode=True, sort_keys=False)}",
        end="",
    )
    return 0
