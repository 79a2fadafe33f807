"""Runs as jobs of Slurm, submitted as arrays by submitit; a command that is started again waits for them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tqdm import tqdm

from semilearn_bbam.compare.executors.remote import LOST, make_there, results_of
from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.making import Outcome, folder_of, in_words, label
from semilearn_bbam.errors import InstallError, UserError, first_line
from semilearn_bbam.util.files import write_atomically

FOLDER = ".slurm"  # in the folder of the run folders: scripts, logs, and which job makes which run
ARRAY = 1000  # jobs of an array; Slurm's own limit is 1,001
PAUSE = 2.0  # seconds between two looks at the jobs
DEFAULTS: dict[str, Any] = {"job_name": "semilearn-bbam", "time": 240, "cpus_per_task": 1}
GENERAL = {
    "job_name": "name",
    "time": "timeout_min",
    "cpus_per_task": "cpus_per_task",
}  # submitit's names for all clusters
NODE_LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED")
UNTIL_REQUEUED = 300.0  # seconds in which Slurm itself starts such a job again, where it does
GOES_ON = ("READY", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED")


def load_submitit() -> Any:
    """The package submitit; InstallError where it is missing."""
    try:
        import submitit
    except ImportError as error:
        raise InstallError(
            f"--executor slurm needs a package that is missing ({first_line(error)}); "
            'pip install "semilearn-bbam[slurm]"'
        ) from error
    return submitit


def parameters_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Parameters of sbatch out of words KEY=VALUE, over the defaults of this module.

    Args:
        pairs: such as "partition=gpu"; a key is an option of sbatch; "time" as Slurm takes it.

    Returns:
        Values by key, with "_" for "-" in keys; "time" in minutes; a number where the text is one.

    Raises:
        UserError: a word without "=", or a time that is none.

    Example:
        >>> parameters_of(["partition=gpu", "time=1-02:30:00", "gpus-per-node=1"])["time"]
        1590
    """
    parameters = dict(DEFAULTS)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UserError(f"--slurm {pair}: must be KEY=VALUE, such as partition=gpu or time=2:00:00")
        key = key.replace("-", "_")
        parameters[key] = minutes(value) if key == "time" else int(value) if value.isdecimal() else value
    return parameters


def minutes(text: str) -> int:
    """Minutes of a time as Slurm takes it: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; rounded up.

    >>> [minutes(text) for text in ("90", "90:30", "2:00:00", "1-0", "1-2:30")]
    [90, 91, 120, 1440, 1590]
    """
    days, dash, rest = text.rpartition("-")
    try:
        numbers = [int(number) for number in rest.split(":")]
        if dash:
            hours, mins, seconds = (*numbers, 0, 0)[:3]
            total = (int(days) * 24 + hours) * 3600 + mins * 60 + seconds
        else:
            hours, mins, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
            total = hours * 3600 + mins * 60 + seconds
    except (ValueError, KeyError) as error:
        raise UserError(f"--slurm time={text}: must be minutes, HH:MM:SS or D-HH:MM:SS") from error
    if total <= 0 or len(numbers) > 3:
        raise UserError(f"--slurm time={text}: must be minutes, HH:MM:SS or D-HH:MM:SS")
    return -(-total // 60)


class SlurmExecutor:
    """Each run is one job of an array, which goes on when this process ends.

    Args:
        save_dir: folder of the run folders, shared by all machines.
        parameters: as `parameters_of` gives them; those that submitit does not know go to sbatch as they are.
        limit: jobs of an array at a time; 0: submitit's default of 256.
        cluster: "local" makes them in processes of this machine, without Slurm.

    Raises:
        UserError: no submitit, no Slurm here, or a parameter that cannot be used.
    """

    def __init__(
        self, save_dir: Path, parameters: Mapping[str, Any] = DEFAULTS, limit: int = 0, cluster: str = "slurm"
    ) -> None:
        self.submitit = load_submitit()
        self.folder = save_dir.absolute() / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self.jobs: dict[Job, Any] = {}  # that submitit knows
        self.ended: deque[Job] = deque()
        self.lost: Counter[Job] = Counter()
        self.lost_since: dict[Job, float] = {}
        known = self.submitit.SlurmExecutor._valid_parameters()
        try:
            self.executor = self.submitit.AutoExecutor(self.folder, cluster=cluster)
            self.executor.update_parameters(**_for_submitit(parameters, limit, known))
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise UserError(f"--executor slurm: {first_line(error)}; start the command where 'sbatch' works") from error

    def __enter__(self) -> SlurmExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and self.jobs:
            print(
                f"{len(self.jobs)} runs stay in Slurm's queue; the same command waits for them, and scancel ends them",
                file=sys.stderr,
            )

    def submit(self, *jobs: Job) -> None:
        """Submit jobs, but for those that an earlier command has submitted and Slurm still has."""
        earlier = {job: known for job in jobs if (known := self._submitted(job)) is not None}
        earlier = {job: known for job, known in earlier.items() if self._goes_on(known)}  # asked for all at once
        self.jobs |= earlier
        new = [job for job in jobs if job not in earlier]
        for i in range(0, len(new), ARRAY):
            block = new[i : i + ARRAY]
            try:
                known = self.executor.map_array(partial(make_there, start=os.getcwd()), block)
            except Exception as error:  # of sbatch, as submitit passes it on
                raise UserError(f"--slurm: sbatch refused the runs ({in_words(error)})") from error
            for job, one in zip(block, known, strict=True):
                self.jobs[job] = one
                self._write_record(job, str(one.job_id))
        ids = sorted({str(one.job_id).split("_")[0] for one in self.jobs.values()})
        kept = f", {len(jobs) - len(new)} of them by an earlier command" if len(new) < len(jobs) else ""
        print(f"{len(jobs)} runs are Slurm's jobs {', '.join(ids)}{kept}; logs in {self.folder}", file=sys.stderr)

    def next(self) -> tuple[Job, Outcome]:
        """A run that has ended and its outcome, as soon as there is one."""
        while True:
            for job, known in list(self.jobs.items()):
                outcome = self._outcome(job, known)
                if outcome is not None:
                    del self.jobs[job]
                    return job, outcome
            sleep(PAUSE)

    def _outcome(self, job: Job, known: Any) -> Outcome | None:
        """The outcome of a job; None where it goes on, or is to be made again."""
        if known.paths.result_pickle.exists():
            error = known.exception()
            if error is None:
                return known.result() or results_of(job)
            return f"its job {known.job_id} failed: {_reason(error)} (log: {known.paths.stderr})"
        if known.state in NODE_LOST:
            return self._made_again(job, known)
        if not known.done():
            return None
        if isinstance(outcome := results_of(job), dict):  # the job ended after the run
            return outcome
        return (
            f"its job {known.job_id} ended as {known.state} (log: {known.paths.stderr}); start the command again, with "
            "another --slurm time=.. or mem=.. where these were too small"
        )

    def _made_again(self, job: Job, known: Any) -> Outcome | None:
        """Submit a job again whose machine was lost, unless Slurm does."""
        if monotonic() - self.lost_since.setdefault(job, monotonic()) < UNTIL_REQUEUED:
            return None
        del self.lost_since[job]
        known.watcher.clear()  # it asks no more about jobs that once had ended
        if known.state in GOES_ON:
            return None
        self.lost[job] += 1
        if self.lost[job] > LOST:
            return f"its machine was lost {self.lost[job]} times (job {known.job_id}: {known.state})"
        tqdm.write(f"{label(job)}: its machine was lost; it is made again", file=sys.stderr)
        self.submit(job)
        return None

    # ------------------------------------------------------------------ what an earlier command has submitted

    def _record(self, job: Job) -> Path:
        return self.folder / f"{folder_of(job).name}.json"

    def _write_record(self, job: Job, job_id: str) -> None:
        text = json.dumps([job_id, *self._identity(job)])
        write_atomically(self._record(job), lambda path: path.write_text(text, encoding="utf-8"))

    def _identity(self, job: Job) -> list[str]:
        return [os.getcwd(), *job.argv]

    def _submitted(self, job: Job) -> Any:
        """The job of an earlier command that makes this run, else None."""
        try:
            job_id, *identity = json.loads(self._record(job).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return self.submitit.SlurmJob(self.folder, job_id) if identity == self._identity(job) else None

    def _goes_on(self, known: Any) -> bool:
        return not known.paths.result_pickle.exists() and known.state in GOES_ON


def _reason(error: Exception) -> str:
    """The last line of the trace that an error of submitit quotes."""
    lines = [line.strip() for line in str(error).partition("\n---")[2].partition("\n---")[0].splitlines()]
    return next((line for line in reversed(lines) if line.strip("-")), first_line(error))


def _for_submitit(parameters: Mapping[str, Any], limit: int, known: Collection[str]) -> dict[str, Any]:
    """Parameters under the names of submitit's AutoExecutor; known: those of sbatch that it knows."""
    values: dict[str, Any] = {
        GENERAL.get(key, f"slurm_{key}"): value for key, value in parameters.items() if key in known
    }
    if further := {key: value for key, value in parameters.items() if key not in known}:
        values["slurm_additional_parameters"] = further
    if "slurm_setup" in values:
        values["slurm_setup"] = [values["slurm_setup"]]
    if limit:
        values["slurm_array_parallelism"] = limit
    return values
