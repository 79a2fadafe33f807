"""Suggest what to label: items of unlabelled data to begin with, or of the pool of a run, with predicted labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import AFTER
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.config import load_yaml
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.config.resolve import Findings, read_command_line
from semilearn_bbam.errors import UserError, did_you_mean
from semilearn_bbam.util.signals import interruptible

OPTIONS = AFTER
INTERRUPTED = "interrupted; nothing was written"
NAMES = "gaps, clusters, random, farthest, uncertain, uncertain_spread, lci, lci_spread, rare, rare_spread"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run or the data, how many items, and the file to write."""
    parser.add_argument(
        "place",
        nargs="?",
        default="",
        metavar="RUN|DATA",
        help="run folder that training wrote; or data without labels: a folder of images, a table with a column path "
        "or text, a text file with a text per line, or an .npz or .npy with vectors; or instead --c FILE: the training "
        "items of a config",
    )
    parser.add_argument("--c", default="", metavar="FILE", help="config whose training items are data without labels")
    parser.add_argument("--n", type=int, required=True, help="number of items")
    parser.add_argument("--out", required=True, metavar="FILE", help="CSV to write and fill in; for images also a PNG")
    parser.add_argument("--strategy", default="", metavar="NAME", help=f"gaps (default), or one of {NAMES[6:]}")
    parser.add_argument(
        "--random_share", type=float, default=0.0, metavar="SHARE", help="share of the items that is drawn at random"
    )
    parser.add_argument("--encoder", default="", metavar="NAME", help="data without labels: pretrained net for vectors")
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="a run: where its data are now")
    parser.add_argument("--seed", type=int, default=0, help="on which the choice depends (default: 0)")
    parser.add_argument(
        "--batch_size", type=int, default=0, metavar="N", help="items at a time; default: as in training"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 for bad items, each of which is named. UserError if nothing can be chosen or written."""
    place, out = Path(args.place), Path(args.out)
    strategy = check_arguments(args, options, place, out)
    if args.c:
        check_quickly(config_words(args, options))
    from semilearn_bbam.trained import suggestions

    query = {"strategy": strategy, "random_share": args.random_share}
    with interruptible():
        import numpy as np

        query["rng"] = np.random.default_rng(args.seed)
        if args.c:
            from semilearn_bbam.run import read_settings

            settings = read_settings(config_words(args, options))
            found: Any = suggestions.suggest_configured(settings, args.n, query=query)
        elif is_run(place):
            found = suggestions.suggest_next(
                place, args.n, query=query, data_dir=args.data_dir, device=args.device, batch_size=args.batch_size
            )
        else:
            found = suggestions.suggest_first(place, args.n, encoder=args.encoder, query=query, device=args.device)
        if isinstance(found, list):
            return _name_problems(found)
        return write(found, out)


def config_words(args: argparse.Namespace, options: Sequence[str]) -> list[str]:
    """A command line of the config: with the options that this command has too, and what only training needs."""
    words = ["--c", args.c, *options, "--device", args.device, "--seed", str(args.seed)]
    for key in ("encoder", "data_dir"):
        words += [f"--{key}", getattr(args, key)] if getattr(args, key) else []
    given = load_yaml(args.c).keys() | read_command_line(words, Findings()).keys()
    if "algorithm" not in given:
        words += ["--algorithm", "supervised_kernel"]
    if not {"label_ratio", "num_labels", "split_file", "unlabeled"} & given:
        words += ["--label_ratio", "0.1"]
    return words


def check_arguments(args: argparse.Namespace, options: Sequence[str], place: Path, out: Path) -> str:
    """The strategy; UserError for what can be known before the work."""
    if bool(args.place) == bool(args.c):
        raise UserError("name a run folder, data without labels, or a config with --c, and one of these only")
    if options and not args.c:
        raise UserError(f"{options[0]!r} is an option of a config; name one with --c")
    if args.n < 1:
        raise UserError(f"--n must be at least 1, not {args.n}")
    if not 0 <= args.random_share <= 1:
        raise UserError(f"--random_share must be in [0, 1], not {args.random_share:g}")
    if args.seed < 0 or args.batch_size < 0:
        raise UserError("--seed and --batch_size must not be negative")
    names = NAMES.split(", ")
    if args.strategy and args.strategy not in names:
        hint = did_you_mean(args.strategy, names) or f"known are {NAMES}"
        raise UserError(f"--strategy: {args.strategy!r} is unknown; {hint}")
    if args.c:
        return _checked_out(args, out, names)
    if not place.exists():
        raise UserError(f"'{place}' does not exist; name a run folder, or data without labels")
    if is_run(place) and args.encoder:
        raise UserError("--encoder: a run has its own; leave --encoder out")
    if not is_run(place) and args.data_dir:
        raise UserError("--data_dir is for a run; data without labels are named by their path")
    return _checked_out(args, out, names)


def _checked_out(args: argparse.Namespace, out: Path, names: Sequence[str]) -> str:
    """The strategy; UserError for a file that cannot be written."""
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out: '{out}' does not end in .csv; rename it")
    check_writable(out)
    return args.strategy or names[0]


def is_run(place: Path) -> bool:
    """Whether a path is a run folder."""
    return (place / "config.yaml").is_file()


def write(found: Any, out: Path) -> int:
    """Write the table, and for images the sheet."""
    from semilearn_bbam.data.to_label import write_to_label
    from semilearn_bbam.report.item_sheet import draw_item_sheet

    listed, pages = found.listed, []
    pool = next((folder for folder in found.folders if folder.resolve() in out.resolve().parents), None)
    if found.images is not None and pool:  # where a later run would find the sheet
        raise UserError(f"--out: the images below '{pool}' are data, and a sheet would be one of them; write elsewhere")
    try:
        if found.images is not None:
            names = listed.label_names
            labels = (
                []
                if listed.predictions is None
                else [
                    [name for name, is_predicted in zip(names, row, strict=True) if is_predicted]
                    for row in listed.predictions
                ]
            )
            pages = draw_item_sheet(found.images, listed.items, out, labels)
        write_to_label(listed, out)
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another file") from error
    filled = "correct the labels" if listed.predictions is not None else "fill in the labels"
    random = sum(reason == "random" for reason in listed.suggested_by)
    print(
        f"wrote {out}: {len(listed.items)} of {found.num_pool} items, {random} of them drawn at random; {filled} in it"
        + "".join(f"\nwrote {page}" for page in pages)
    )
    return 0


def _name_problems(problems: Any) -> int:
    """Name the bad items."""
    from semilearn_bbam.data.problems import describe

    lines = "; ".join(describe(problems, len(problems)))
    print(f"{len(problems)} bad item(s), nothing was written: {lines}. Fix or remove them", file=sys.stderr)
    return 1
