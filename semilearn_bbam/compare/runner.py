"""Make the missing runs of a grid, in parallel processes that make many runs each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn.core.utils import ALGORITHMS
from tqdm import tqdm

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.paths import without_folders
from semilearn_bbam.errors import UserError
from semilearn_bbam.report.variances import last_variances
from semilearn_bbam.run import data_kind, read_settings, run
from semilearn_bbam.runs.folder import CONFIG
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.runs.resume import FREE_ON_RESUME

# Settings that say nothing about what a run computed.
NOT_THE_RUN = FREE_ON_RESUME | {"c", "unused_keys", "ignored_keys"}


def finished(job: Job) -> dict[str, Any] | None:
    """Results of a finished run with the same settings, else None."""
    settings = _effective(vars(read_settings(job.argv)))
    folder = Path(settings["save_dir"]) / settings["save_name"]
    try:
        record = Run.read(folder)
        recorded = _recorded(record)
        other = NOT_THE_RUN | _without_effect(recorded)
        same = all(_is_same(recorded.get(key), value) for key, value in settings.items() if key not in other)
        return described(job, record) if same and record.results else None
    except UserError:  # no run, cut short, or of a version with other options
        return None


def _is_same(recorded: Any, value: Any) -> bool:
    """Whether a run has this setting; one of two paths may be a name alone, as in an archived run."""
    if isinstance(recorded, str) and isinstance(value, str):
        return recorded == value or without_folders(recorded) == value or recorded == without_folders(value)
    return bool(recorded == value)


def _recorded(record: Run) -> dict[str, Any]:
    """The settings of a run. Options that are newer than it have their defaults, of the method's own options those
    without effect, which a method may replace: its older runs had not what it has now.
    """
    values = vars(read_settings(["--c", str(record.folder / CONFIG)]))
    own = {option.name: option.default for option in ALGORITHMS[values["algorithm"]].options}
    return _effective(values | {name: default for name, default in own.items() if name not in record.settings})


def _effective(values: dict[str, Any]) -> dict[str, Any]:
    return dict(ALGORITHMS[values["algorithm"]].effective(values, data_kind(values)))


def _without_effect(recorded: Mapping[str, Any]) -> set[str]:
    """Settings that changed nothing in this run: one that refuses images of other modes has met none."""
    return {"image_modes"} if (recorded["image_modes"], recorded["bad_data"]) == ("strict", "fail") else set()


def finished_results(jobs: Sequence[Job]) -> dict[Job, dict[str, Any]]:
    """Results of those jobs that are finished."""
    return {job: results for job in jobs if (results := finished(job)) is not None}


def described(job: Job, record: Run) -> dict[str, Any]:
    """Results of a run with its place in the grid, and the names of its folder and config."""
    place = {"method": job.method, "grid_dataset": job.dataset, "grid_ratio": job.label_ratio}
    origin = {"folder": record.folder.name, "config": job.config, "options": " ".join(job.options)}
    rows = record.metrics
    # The result of choosing the epoch on the test set: an oracle, and named so.
    epochs = [row["test/mAP"] for row in rows if "test/mAP" in row]
    oracle = max(epochs) if len(epochs) > 1 else None
    return {**record.results, **place, **origin, "oracle_epoch_mAP": oracle, "variances": last_variances(rows)}


def make(job: Job) -> dict[str, Any] | str:
    """One run in a worker, silent but for its log file; a sentence where it failed."""
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as devnull,
            contextlib.redirect_stdout(devnull),
            contextlib.redirect_stderr(devnull),
        ):
            args = read_settings([*job.argv, "--overwrite"])
            run(args)
        return described(job, Run.read(Path(args.save_dir) / args.save_name))
    except Exception as error:  # one failed run must not stop the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def prepare_worker(gpu: str) -> None:
    """Give a worker its GPU ("": all), and let it end with the process that started it."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if (parent := multiprocessing.parent_process()) is not None:
        Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


class Worker:
    """One process that makes run after run, so that the framework is imported once; a new one after it was killed."""

    def __init__(self, gpu: str = "") -> None:
        self.gpu = gpu
        self.executor: ProcessPoolExecutor | None = None

    def run(self, job: Job) -> dict[str, Any] | str:
        """Results of a run, or a sentence where it failed."""
        if self.executor is None:
            spawn = multiprocessing.get_context("spawn")
            self.executor = ProcessPoolExecutor(1, spawn, initializer=prepare_worker, initargs=(self.gpu,))
        try:
            return self.executor.submit(make, job).result()
        except BrokenProcessPool:
            self.close()
            return "its process was killed, perhaps because memory ran out; start the command again, with fewer --jobs"

    def close(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = None


def attempt(worker: Worker, job: Job) -> dict[str, Any] | str:
    """A run's outcome, also where the worker fails, since the caller waits for it."""
    try:
        return worker.run(job)
    except Exception as error:  # such as no memory or no file descriptor for another process
        worker.close()
        return f"no process could be started for it: {type(error).__name__}: {' '.join(str(error).split())}"


class WorkerPool:
    """Workers that take jobs in the order in which these were submitted, each in a thread.

    gpus: values of CUDA_VISIBLE_DEVICES for the workers, in turn.
    """

    def __init__(self, number: int, gpus: Sequence[str] = ()) -> None:
        self.number = max(1, number)
        self.waiting: SimpleQueue[Job | None] = SimpleQueue()
        self.outcomes: SimpleQueue[tuple[Job, dict[str, Any] | str]] = SimpleQueue()
        for i in range(self.number):
            worker = Worker(gpus[i % len(gpus)] if gpus else "")
            Thread(target=self.serve, args=(worker,), daemon=True).start()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(at_once=kind is not None)

    def serve(self, worker: Worker) -> None:
        while (job := self.waiting.get()) is not None:
            self.outcomes.put((job, attempt(worker, job)))
        worker.close()

    def submit(self, job: Job) -> None:
        self.waiting.put(job)

    def next(self) -> tuple[Job, dict[str, Any] | str]:
        """A job that has ended and its outcome, as soon as there is one."""
        return self.outcomes.get()

    def close(self, at_once: bool = False) -> None:
        """Let the workers end after their current job, or stop that too: Python waits for it before it exits."""
        with contextlib.suppress(Empty):
            while True:
                self.waiting.get_nowait()
        processes = multiprocessing.active_children() if at_once else []
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(2)
            process.kill()  # a signal to a process that is just starting can be lost
        for _ in range(self.number):
            self.waiting.put(None)


class Progress:
    """Runs done and time left: a bar on a terminal, a line per run elsewhere."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.made, self.start = total, done, 0, perf_counter()
        self.bar = tqdm(total=total, initial=done, unit="run", dynamic_ncols=True, disable=not sys.stderr.isatty())

    def skip(self, number: int) -> None:
        """So many runs are not made after all."""
        self.done += number
        self.bar.update(number)

    def step(self, job: Job, outcome: dict[str, Any] | str) -> None:
        self.done, self.made = self.done + 1, self.made + 1
        self.bar.update()
        # Where settings are chosen, the test set is not shown.
        result = (
            "failed" if isinstance(outcome, str) else f"mAP {outcome.get('validation', outcome['test'])['mAP']:.4f}"
        )
        if self.bar.disable:
            minutes = (perf_counter() - self.start) / self.made * (self.total - self.done) / 60
            print(
                f"{self.done}/{self.total} {label(job)}: {result}; {minutes:.0f} min left", file=sys.stderr, flush=True
            )
        else:
            self.bar.set_postfix_str(f"{label(job)}: {result}")


def label(job: Job) -> str:
    """A run in words."""
    return f"{job.method} on {job.dataset}, {100 * job.label_ratio:g} %, seed {job.seed}"


def run_jobs(
    jobs: Sequence[Job], workers: int, gpus: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], dict[Job, str]]:
    """Results of all jobs, finished ones included, in the order of the jobs; and why others failed.

    Finished runs with the same settings are kept, all others are made again. `gpus`: values of CUDA_VISIBLE_DEVICES for
    the workers, in turn.
    """
    results = finished_results(jobs)
    failed: dict[Job, str] = {}
    waiting = [job for job in jobs if job not in results]
    progress = Progress(len(jobs), len(results))
    with WorkerPool(min(workers, len(waiting)), gpus) as pool, contextlib.closing(progress.bar):
        for job in waiting:
            pool.submit(job)
        for _ in waiting:
            job, outcome = pool.next()
            progress.step(job, outcome)
            if isinstance(outcome, str):
                failed[job] = outcome
            else:
                results[job] = outcome
    return [results[job] for job in jobs if job in results], failed
