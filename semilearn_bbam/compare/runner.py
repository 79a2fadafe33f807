"""Make the missing runs of a grid with an executor, and show how far it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from tqdm import tqdm

from semilearn_bbam.compare.executors import Executor
from semilearn_bbam.compare.executors.local import WorkerPool
from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome, finished_results, label


class Progress:
    """Runs done and time left: a bar on a terminal, a line per run elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.made, self.start = total, done, 0, perf_counter()
        self.bar = tqdm(total=total, initial=done, unit="run", dynamic_ncols=True, disable=not sys.stderr.isatty())

    def skip(self, number: int) -> None:
        """So many runs are not made after all."""
        self.done += number
        self.bar.update(number)

    def step(self, job: Job, outcome: Outcome) -> None:
        self.done, self.made = self.done + 1, self.made + 1
        self.bar.update()
        # Where settings are chosen, the test set is not shown.
        if isinstance(outcome, str):
            result = "failed"
        else:
            result = f"mAP {outcome['validation' if 'validation' in outcome else 'test']['mAP']:.4f}"
        if self.bar.disable:
            minutes = (perf_counter() - self.start) / self.made * (self.total - self.done) / 60
            print(
                f"{self.done}/{self.total} {label(job)}: {result}; {minutes:.0f} min left", file=sys.stderr, flush=True
            )
        else:
            self.bar.set_postfix_str(f"{label(job)}: {result}")


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    gpus: Sequence[str] = (),
    executor: Callable[[], Executor] | None = None,
) -> tuple[list[dict[str, Any]], dict[Job, str]]:
    """Results of all jobs, finished ones included, in the order of the jobs; and why others failed.

    Finished runs with the same settings are kept, all others are made again, by what `executor` gives; without it in
    `workers` processes of this machine. `gpus`: values of CUDA_VISIBLE_DEVICES for the workers, in turn.
    """
    results = finished_results(jobs)
    failed: dict[Job, str] = {}
    waiting = [job for job in jobs if job not in results]
    progress = Progress(len(jobs), len(results))
    with contextlib.closing(progress.bar):
        if not waiting:  # then no cluster is needed
            return [results[job] for job in jobs], failed
        with executor() if executor else WorkerPool(min(workers, len(waiting)), gpus) as pool:
            pool.submit(*waiting)
            for _ in waiting:
                job, outcome = pool.next()
                progress.step(job, outcome)
                if isinstance(outcome, str):
                    failed[job] = outcome
                else:
                    results[job] = outcome
    return [results[job] for job in jobs if job in results], failed
