"""Where the runs of a grid are made: in processes of this machine, on a Ray cluster, or by Slurm."""

from __future__ import annotations

from typing import Protocol

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome

__all__ = ["Executor"]


class Executor(Protocol):
    """Makes the runs that are submitted, in any order, within a `with` block.

    One run that fails, or whose process or machine is lost, never ends the others. At the end of the block nothing of
    this process is left behind; where an exception ends it, runs that are being made may be stopped.
    """

    def __enter__(self) -> Executor: ...

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None: ...

    def submit(self, *jobs: Job) -> None:
        """Runs to be made."""
        ...

    def next(self) -> tuple[Job, Outcome]:
        """A run that has ended and its outcome, as soon as there is one."""
        ...
