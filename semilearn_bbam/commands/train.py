"""The command behind `train.py` and `python -m semilearn_bbam train`: one run, told in sentences."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from semilearn_bbam.errors import Interrupted, UserError
from semilearn_bbam.report import results_table
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.util.signals import BEFORE_TRAINING, INTERRUPTED, interruptible

# Of files that others write, such as TensorBoard's.
REFUSED_BY_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """0 after a finished run, 2 for a mistake that the user can fix, 130 after Ctrl-C or SIGTERM."""
    results = None
    try:
        with interruptible():
            results = run(read_settings(sys.argv[1:] if argv is None else argv))
    except Interrupted as error:
        print(f"train.py: {error}", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in REFUSED_BY_DISK:
            raise
        print(f"train.py: the disk refuses ({error}); fix that and go on with --resume", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if results is None:
            print(BEFORE_TRAINING, file=sys.stderr)
            return INTERRUPTED
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        print(results_table([results]))
    return 0
