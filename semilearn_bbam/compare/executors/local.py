"""Runs in parallel processes of this machine, which make many runs each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome, in_words, make


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

    def run(self, job: Job) -> Outcome:
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


def attempt(worker: Worker, job: Job) -> Outcome:
    """A run's outcome, also where the worker fails, since the caller waits for it."""
    try:
        return worker.run(job)
    except Exception as error:  # such as no memory or no file descriptor for another process
        worker.close()
        return f"no process could be started for it: {in_words(error)}"


class WorkerPool:
    """Workers that take jobs in the order in which these were submitted, each in a thread.

    gpus: values of CUDA_VISIBLE_DEVICES for the workers, in turn.
    """

    def __init__(self, number: int, gpus: Sequence[str] = ()) -> None:
        self.number = max(1, number)
        self.waiting: SimpleQueue[Job | None] = SimpleQueue()
        self.outcomes: SimpleQueue[tuple[Job, Outcome]] = SimpleQueue()
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

    def submit(self, *jobs: Job) -> None:
        for job in jobs:
            self.waiting.put(job)

    def next(self) -> tuple[Job, Outcome]:
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
