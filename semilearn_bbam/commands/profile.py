"""Measure where the steps and refreshes of a run spend their time: a table, a picture, a trace. No run is changed."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semilearn_bbam.commands import ANYWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import interruptible

if TYPE_CHECKING:
    from semilearn_bbam.config import Settings
    from semilearn_bbam.engine.profiling import Profile

OPTIONS = ANYWHERE
INTERRUPTED = "interrupted; nothing was written"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The number of steps and the folder to write; all else are settings."""
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps to measure (default: 20)")
    parser.add_argument("--out", default="", metavar="FOLDER", help="folder to write; default: profile_<save_name>")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Print the table and write the folder; UserError for what `train` would refuse too, and a folder with files."""
    if args.steps < 1:
        raise UserError(f"--steps must be at least 1, not {args.steps}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("profile measures one process; start it without torchrun")
    check_out(args.out)
    check_quickly(options)
    from semilearn_bbam.report.profile import TEXT, TRACE, write_profile
    from semilearn_bbam.run import read_settings
    from semilearn_bbam.util.files import write_folder

    with interruptible():
        settings = read_settings(options)
        out = Path(args.out or f"profile_{'_'.join(Path(settings.save_name).parts)}")
        check_out(str(out))
        command = shlex.join(["semilearn-bbam", "profile", *options, "--steps", str(args.steps)])
        with tempfile.TemporaryDirectory(prefix="semilearn_bbam_profile_") as scratch:
            trace = Path(scratch) / TRACE
            profile = measure(settings, args.steps, trace, Path(scratch) / "run")

            def write(folder: Path) -> None:
                write_profile(profile, folder, command)
                shutil.copyfile(trace, folder / TRACE)

            try:
                write_folder(out, write)
            except OSError as error:
                raise UserError(f"--out: '{out}' cannot be written ({error.strerror}); name another folder") from error
    print((out / TEXT).read_text(encoding="utf-8"))
    print(f"wrote {out}: table, numbers, picture, and a trace for https://ui.perfetto.dev")
    return 0


def check_out(out: str) -> None:
    """UserError where the folder has files or cannot be made, so that this is known before the work."""
    path = Path(out)
    if not out:
        return
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"--out: '{out}' has files; name another folder, or delete it")
    if path.exists() and not path.is_dir():
        raise UserError(f"--out: '{out}' is a file; name a folder")
    check_writable(path / "profile.md")


def measure(settings: Settings, steps: int, trace: Path, folder: Path) -> Profile:
    """Build the run as `train` does, in a folder that is removed afterwards, and profile it."""
    import torch
    from threadpoolctl import threadpool_limits

    from semilearn_bbam.engine.dry_run import dry_run
    from semilearn_bbam.engine.profiling import profile_algorithm
    from semilearn_bbam.run import build_algorithm, seed_everything
    from semilearn_bbam.runs.folder import RunFolder

    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
        threadpool_limits(settings.num_threads)
    nothing_kept = {"use_tensorboard": False, "use_wandb": False, "use_aim": False, "resume": False}
    settings = settings.having(
        **nothing_kept, num_save_iter=0, num_eval_iter=0, save_dir=str(folder.parent), save_name=folder.name
    )
    folder.mkdir()
    seed_everything(settings.seed)
    algorithm = build_algorithm(settings, folder=RunFolder(folder), logger=_stderr())
    dry_run(algorithm)
    return profile_algorithm(algorithm, steps, trace)


def _stderr() -> logging.Logger:
    """A log on standard error, which leaves standard output to the table."""
    logger = logging.Logger("semilearn_bbam profile", logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    return logger
