"""Train one method with the settings of a YAML file and options."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Sequence

from semilearn_bbam.commands import ALONE
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.errors import RunError
from semilearn_bbam.util.signals import BEFORE_TRAINING, interruptible

OPTIONS = ALONE
INTERRUPTED = BEFORE_TRAINING
# Errors of files that other packages write, such as TensorBoard's.
REFUSED_BY_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments: all are settings."""


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0 after a finished run; UserError for a mistake that the user can fix, Interrupted after Ctrl-C or SIGTERM."""
    check_quickly(options)
    from semilearn_bbam.report.table import results_table
    from semilearn_bbam.run import read_settings
    from semilearn_bbam.run import run as train

    results = None
    try:
        with interruptible():
            results = train(read_settings(options))
    except KeyboardInterrupt:
        if results is None:  # else the run is complete
            raise
    except OSError as error:
        if error.errno not in REFUSED_BY_DISK:
            raise
        raise RunError(f"the disk cannot be written ({error}); fix that and continue with --resume") from error
    if os.environ.get("RANK", "0") == "0":  # one of the processes that torchrun started prints
        print(results_table([results]))
    return 0
