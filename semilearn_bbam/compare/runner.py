"""Run what is missing of a grid, in parallel processes of which each makes many runs."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.run import FREE_ON_RESUME, read_settings, run, saved_settings
from semilearn_bbam.run_folder import CONFIG, RESULTS


def finished(job: Job) -> dict[str, Any] | None:
    """Results of a run that is there and was made with the same settings, else None."""
    args = read_settings(job.argv)
    folder = Path(args.save_dir) / args.save_name
    try:
        results: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        before = saved_settings(folder / CONFIG)
    except (OSError, ValueError):  # ConfigError is none of these and means a file that somebody edited
        return None
    same = all(getattr(args, key, None) == value for key, value in before.items() if key not in FREE_ON_RESUME)
    return described(job, results, folder) if same else None


def described(job: Job, results: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Results of a run with its place in the grid, and the names of its folder and config."""
    place = {"method": job.method, "grid_dataset": job.dataset, "grid_ratio": job.label_ratio}
    return {**results, **place, "folder": folder.name, "config": f"{job.method}_{job.dataset}.yaml"}


def make(job: Job) -> dict[str, Any] | str:
    """One run in a worker, silent but for its log file; a sentence where it failed."""
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            args = read_settings([*job.argv, "--overwrite"])
            results = run(args)
        return described(job, results, Path(args.save_dir) / args.save_name)
    except Exception as error:  # one failed run must not stop the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_jobs(jobs: Sequence[Job], workers: int) -> tuple[list[dict[str, Any]], dict[Job, str]]:
    """Results of all jobs, those that were there included, in the order of the jobs; and why others failed.

    Finished runs with the same settings are kept, all others are made anew. Each worker process computes with one
    thread and imports the framework once.
    """
    found = {job: results for job in jobs if (results := finished(job)) is not None}
    failed: dict[Job, str] = {}
    left = [job for job in jobs if job not in found]
    bar = tqdm(total=len(jobs), initial=len(found), unit="run", dynamic_ncols=True, disable=not sys.stderr.isatty())
    executor = ProcessPoolExecutor(max(1, min(workers, len(left))), multiprocessing.get_context("spawn"))
    with bar, executor:
        futures = {executor.submit(make, job): job for job in left}
        try:
            for future in as_completed(futures):
                job = futures[future]
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    outcome = "its process was killed; start the command again"
                if isinstance(outcome, str):
                    failed[job] = outcome
                else:
                    found[job] = outcome
                bar.update()
        except KeyboardInterrupt:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[job] for job in jobs if job in found], failed
