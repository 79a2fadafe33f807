"""Commands of the package: python -m semilearn_bbam train, data check|browse, export, doctor.

What a command needs is imported by it, so that `doctor` runs where something does not import.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from semilearn_bbam.commands.doctor import examine
from semilearn_bbam.util.signals import BEFORE_TRAINING, INTERRUPTED, exit_at_signals, interruptible


def train(chosen: argparse.Namespace, options: list[str]) -> int:
    """What `train.py` does."""
    exit_at_signals(BEFORE_TRAINING)
    from semilearn_bbam.commands.train import main

    return main(options)


def data_check(chosen: argparse.Namespace, options: list[str]) -> int:
    """Print what is in the data; 1 if there are bad items."""
    from semilearn_bbam.data.loading import inspect_source, keep_frequent_labels
    from semilearn_bbam.report import check_report
    from semilearn_bbam.run import read_settings

    settings = read_settings(options)
    source = keep_frequent_labels(inspect_source(settings), settings.min_positives, settings.min_test_positives)
    report, good = check_report(source, settings.cache_dir)
    print(report, flush=True)
    return 0 if good else 1


def data_browse(chosen: argparse.Namespace, options: list[str]) -> int:
    """Draw a contact sheet of the training part."""
    from semilearn_bbam.data import load_source
    from semilearn_bbam.engine.inputs import Inputs
    from semilearn_bbam.report import draw_contact_sheet
    from semilearn_bbam.run import read_settings

    settings = read_settings(options).having(normalize="none")  # plain pixel values can be shown
    source = load_source(settings)
    inputs = Inputs.of(settings, source.kind, strong_texts=source.strong_texts is not None)
    draw_contact_sheet(
        inputs.encode(source),
        inputs.views,
        chosen.out,
        seed=settings.seed,
        rows=chosen.rows,
        tokenizer=inputs.tokenizer,
    )
    print(f"wrote {chosen.out}")
    return 0


def export(chosen: argparse.Namespace, options: list[str]) -> int:
    """Write the weights of a run as safetensors."""
    from semilearn_bbam.commands.export import export_weights

    out = chosen.out or Path(chosen.folder) / "weights.safetensors"
    told = export_weights(chosen.folder, out)
    print(f"wrote {out}: {told['algorithm']}, after epoch {told['epoch']}")
    return 0


def doctor(chosen: argparse.Namespace, options: list[str]) -> int:
    """Say what is installed and what of it does not work."""
    return examine()


def parser() -> argparse.ArgumentParser:
    """The commands; what is left over after `data` are options of train.py."""
    whole = argparse.ArgumentParser(prog="python -m semilearn_bbam", description=__doc__, allow_abbrev=False)
    commands = whole.add_subparsers(required=True, metavar="train|data|export|doctor")
    trainer = commands.add_parser("train", help="train one algorithm, as train.py does", add_help=False)
    trainer.set_defaults(work=train, takes_options=True)
    data = commands.add_parser("data", help="look at a data set", allow_abbrev=False)
    looks = data.add_subparsers(required=True, metavar="check|browse")
    checker = looks.add_parser(
        "check", help="print counts, label frequencies, overlaps, bad and suspicious items", allow_abbrev=False
    )
    checker.set_defaults(work=data_check, takes_options=True)
    browser = looks.add_parser("browse", help="write a contact sheet of the views", allow_abbrev=False)
    browser.add_argument("--out", default="contact_sheet.png", help="the PNG to write")
    browser.add_argument("--rows", type=int, default=8, help="number of items")
    browser.set_defaults(work=data_browse, takes_options=True)
    exporter = commands.add_parser("export", help="write the weights of a run as safetensors", allow_abbrev=False)
    exporter.add_argument("folder", help="run folder")
    exporter.add_argument("--out", default="", help="file to write; default: weights.safetensors in the run folder")
    exporter.set_defaults(work=export, takes_options=False)
    examiner = commands.add_parser("doctor", help="print versions, devices, known conflicts and their cure")
    examiner.set_defaults(work=doctor, takes_options=False)
    return whole


def main(argv: list[str] | None = None) -> int:
    """0: well; 1: bad items, or a broken installation; 2: a mistake that the user can fix; 130, 141: cut short."""
    from semilearn_bbam.errors import UserError

    whole = parser()
    chosen, options = whole.parse_known_args(argv)
    if options and not chosen.takes_options:
        whole.error(f"unrecognized arguments: {' '.join(options)}")
    try:
        with interruptible():
            return int(chosen.work(chosen, options))
    except UserError as error:
        print(f"semilearn_bbam: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who reads the report, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 141


if __name__ == "__main__":
    sys.exit(main())
