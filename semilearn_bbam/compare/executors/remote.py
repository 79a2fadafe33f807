"""A run in a process of another machine, and its results out of the folder that both share."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from time import monotonic, sleep

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome, finished, folder_of, in_words, make_or_raise
from semilearn_bbam.errors import FolderInUse, Interrupted

# Seconds. Network file systems show what another machine wrote, or that it is gone, only some time later.
UNTIL_VISIBLE = 30.0
UNTIL_UNLOCKED = 120.0
LOST = 3  # times that a run is made again whose machine was lost


def make_there(job: Job, start: str, mark: str = "") -> str:
    """One run on a machine of a cluster, unless it is finished.

    Args:
        job: the run.
        start: the folder in which the command was started, which relative paths of the run refer to.
        mark: a file that the command wrote next to the run folders; "": none.

    Returns:
        "" where the run folder has the results, else a sentence. A run that was stopped from outside, as by the end of
        its machine, ends the process instead.
    """
    here = f"on {socket.gethostname()}"
    try:
        os.chdir(start)
    except OSError as error:
        return (
            f"'{start}' is not there {here} ({error.strerror}); start the command in a folder that all machines share"
        )
    if mark and not seen(Path(mark)):
        return f"'{Path(mark).parent}' is another folder {here}; give --save_dir a folder that all machines share"
    end = monotonic() + UNTIL_UNLOCKED
    while True:
        try:
            if finished(job) is None:  # as it can be where its machine was lost afterwards
                make_or_raise(job)
            return ""
        except Interrupted:  # by a signal: whoever sent it decides whether the run is made again
            os._exit(1)
        except FolderInUse as error:  # by the attempt of a machine that was lost
            if monotonic() > end:
                return in_words(error)
            sleep(1)
        except Exception as error:  # one failed run must not stop the others
            return f"{in_words(error)} ({here})"


def seen(path: Path) -> bool:
    """Whether a file of another machine is visible here, now or soon."""
    end = monotonic() + UNTIL_VISIBLE
    while not path.exists():
        if monotonic() > end:
            return False
        sleep(0.5)
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # renews what is known of it
    return True


def results_of(job: Job) -> Outcome:
    """Results of a run that has ended on another machine, or a sentence where they are not visible here."""
    end = monotonic() + UNTIL_VISIBLE
    while (results := finished(job)) is None:
        if monotonic() > end:
            return (
                f"it ended, but '{folder_of(job)}' here has no results of it; --save_dir must be a folder that all "
                "machines share, and all must have the same version of this package"
            )
        sleep(0.5)
    return results
