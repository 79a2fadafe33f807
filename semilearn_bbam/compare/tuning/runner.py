"""Make the runs of several searches, in parallel processes; each search alone is sequential."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from semilearn_bbam.compare.executors.local import WorkerPool
from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.runner import Progress
from semilearn_bbam.compare.tuning.search import Search


def run_searches(
    searches: Sequence[Search], workers: int, gpus: Sequence[str], record: Callable[[Search], None]
) -> dict[Job, str]:
    """Make all runs that are missing, those of the first searches first; returns why runs failed.

    The result does not depend on the number of workers. record: called after each run with its search, so that nothing
    is lost when the command ends.
    """
    progress = Progress(sum(search.total for search in searches), sum(len(search.runs) for search in searches))
    pool = WorkerPool(min(workers, sum(len(search.tuning.seeds) for search in searches)), gpus)
    owners: dict[Job, Search] = {}
    failed: dict[Job, str] = {}

    def submit() -> None:
        """Give each idle worker a run of the first search that has one."""
        for search in searches:
            if len(owners) >= pool.number:
                return
            for job in search.jobs(pool.number - len(owners)):
                owners[job] = search
                pool.submit(job)

    with pool, contextlib.closing(progress.bar):
        submit()
        while owners:
            job, outcome = pool.next()
            search = owners.pop(job)
            progress.step(job, outcome)
            progress.skip(search.tell(job, outcome))
            record(search)
            if isinstance(outcome, str):
                failed[job] = outcome
            submit()
    return failed
