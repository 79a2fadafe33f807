"""Look at a dataset: check counts and items, browse its views, convert it, encode it, or doubt its labels."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import ANYWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.config import load_yaml
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.config.resolve import Findings, read_command_line
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.signals import interruptible

OPTIONS = ANYWHERE
INTERRUPTED = "interrupted; nothing was written"
WAYS, MAX_PROBABILITY = ("probability", "cleanlab"), 0.1  # of `issues`
SHOWN = 10  # of its cells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`check`, `browse`, `convert`, `encode` or `issues`, with the file to write and further options."""
    common: dict[str, Any] = {"epilog": parser.epilog, "allow_abbrev": False}
    actions = parser.add_subparsers(required=True, metavar="check|browse|convert|encode|issues", dest="action")
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
    encode_parser = actions.add_parser(
        "encode",
        help="write images or texts as vectors, .npz",
        description="Write the vectors that encoder makes of images or texts, or TF-IDF, for dataset: features.",
        **common,
    )
    encode_parser.add_argument("--out", required=True, metavar="FILE", help="the .npz to write")
    encode_parser.add_argument(
        "--tfidf", type=int, default=0, metavar="WIDTH", help="texts: TF-IDF of this width instead of an encoder"
    )
    encode_parser.add_argument(
        "--order_of", default="", metavar="FILE", help="rows in the order of this .npz (its train_id and test_id)"
    )
    encode_parser.add_argument(
        "--join",
        nargs="+",
        default=[],
        metavar="FILE",
        help="the vectors of these .npz as further blocks, and the order of the first",
    )
    issues_parser = actions.add_parser(
        "issues",
        help="list labels of a run that its other rows contradict",
        description="List the labelled cells of a run that models which were not trained on their rows contradict.",
        allow_abbrev=False,
    )
    add_issues_arguments(issues_parser)


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 if `check` found bad items."""
    if args.action == "issues":
        if options:
            raise UserError(f"data issues: {options[0]!r} is no argument of it; the run has its own settings")
        import semilearn_bbam.run  # noqa: F401

        with interruptible():
            return find_issues(args)
    if args.action == "encode":
        options = words_for_encoding(options, tfidf=bool(args.tfidf))
    check_quickly(options)
    import semilearn_bbam.report
    import semilearn_bbam.run  # noqa: F401  they take seconds, in which an exception could be swallowed

    with interruptible():
        if args.action == "check":
            return check(options)
        action = {"browse": browse, "convert": convert, "encode": encode}[args.action]
        return action(args, options)


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


def words_for_encoding(options: Sequence[str], *, tfidf: bool) -> list[str]:
    """The words of a command line with settings that no encoding reads, in place of those that training needs.

    What is typed stays. A file that says how a net is trained on the images or texts can be used as it is.
    """
    typed = read_command_line(options, Findings())
    given = {**(load_yaml(str(typed["c"].value), []) if "c" in typed else {}), **typed}
    if tfidf == ("encoder" in given and bool(given["encoder"].value)):
        raise UserError("data encode: set one of encoder, and for texts --tfidf WIDTH")
    unused = {"cache": "none"}
    if not tfidf:
        unused |= {"net": "plain", "use_pretrain": "false", "pretrain_path": "", "strong": "auto"}
    elif "net" not in given:
        unused["net"] = "bert_base_uncased"  # required by the settings, but not built
    if "algorithm" not in given:
        unused["algorithm"] = "supervised_bce"
    if not {"label_ratio", "num_labels", "split_file"} & given.keys():
        unused["label_ratio"] = "0.1"
    return [*options, *(word for key, text in unused.items() if key not in typed for word in (f"--{key}", text))]


def encode(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Write the data with vectors as items, and print the settings that read them."""
    import numpy as np
    import torch
    import yaml

    from semilearn_bbam.data import load_source
    from semilearn_bbam.data.encoded import in_order_of, join_blocks, scaled_for_nets, tfidf_source
    from semilearn_bbam.data.table_out import write_source
    from semilearn_bbam.engine.device import resolve_device
    from semilearn_bbam.engine.encoding import ItemEncoder
    from semilearn_bbam.run import read_settings

    settings = read_settings(options)
    if settings.encoder_flip:
        raise UserError("data encode: a file holds one vector for each item; delete encoder_flip")
    out = Path(args.out)
    if out.suffix.lower() != ".npz":
        raise UserError(f"--out: '{out}' does not end in .npz, as vectors are written; rename it")
    check_writable(out)
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    source = load_source(settings)
    if source.kind == "features":
        raise UserError(f"data encode: dataset {source.name!r} holds vectors already; data convert writes them")
    if args.order_of or args.join:
        source = in_order_of(source, Path(args.order_of or args.join[0]))
    if args.tfidf:
        encoded, blocks = tfidf_source(source, args.tfidf), 1
    else:
        encoder = ItemEncoder.of(settings, source.kind, device=resolve_device(settings.device))
        encoded, blocks = encoder.encode_source(source), len(encoder.encoders)
    if args.join:
        encoded, blocks = join_blocks(encoded, [Path(path) for path in args.join]), blocks + len(args.join)
    try:
        written = write_source(scaled_for_nets(encoded, blocks), out.absolute().parent, out)
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another file") from error
    for note in encoded.notes:
        print(note)
    count, width = np.shape(encoded.train)
    print(
        f"wrote {out}: {len(encoded.targets)} training, {count - len(encoded.targets)} unlabelled and "
        f"{len(encoded.test)} test items, {width} numbers each, {len(encoded.label_names)} labels; it is read by\n"
        f"{yaml.safe_dump(written, allow_unicode=True, sort_keys=False)}",
        end="",
    )
    return 0


def add_issues_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and which cells are listed."""
    parser.add_argument("folder", metavar="RUN", help="run folder; its data must be where they were in training")
    parser.add_argument("--out", default="", metavar="FILE", help="CSV to write (default: label_issues.csv in RUN)")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="models that are trained (default: 5)")
    parser.add_argument("--by", default=WAYS[0], choices=WAYS, help="which cells are listed (default: probability)")
    parser.add_argument(
        "--max_probability",
        type=float,
        default=MAX_PROBABILITY,
        metavar="P",
        help=f"by probability: highest one of a given label that is listed (default: {MAX_PROBABILITY})",
    )
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="where the data are now, if they were moved")


def find_issues(args: argparse.Namespace) -> int:
    """Write the list, and print its length and first cells. UserError for a run that cannot be judged."""
    if not 0 < args.max_probability < 1:
        raise UserError(f"--max_probability must lie between 0 and 1, not {args.max_probability:g}")
    out = Path(args.out or Path(args.folder) / "label_issues.csv")
    check_writable(out)
    from semilearn_bbam.trained.label_issues import as_rows, in_words, label_issues
    from semilearn_bbam.trained.out_of_fold import out_of_fold
    from semilearn_bbam.trained.run_data import load_run_data

    data = load_run_data(args.folder, data_dir=args.data_dir)
    issues = label_issues(data, out_of_fold(data, args.folds), by=args.by, max_probability=args.max_probability)

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(as_rows(issues))

    try:
        write_atomically(out, write)
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another file") from error
    known = int((data.targets >= 0).sum())
    print(
        f"{len(issues)} of {known} labelled cells are improbable, {sum(one.given for one in issues)} of them positive"
    )
    for issue in issues[:SHOWN]:
        print(f"  {in_words(issue)}")
    print(f"wrote {out}")
    return 0
