"""The folder of one run: `<save_dir>/<save_name>/` and the files that others read there."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from semilearn_bbam.config import written_by_run
from semilearn_bbam.errors import RunError
from semilearn_bbam.util.files import UNFINISHED, write_beside

CONFIG, METRICS, RESULTS, SPLIT = "config.yaml", "metrics.jsonl", "results.json", "split.json"
LABELS, SKIPPED = "labels.json", "skipped.json"
FIGURES, LOG = "figures.npz", "log.txt"
LATEST, BEST = "latest_model.pth", "model_best.pth"
LOCK = ".lock"


class LogFile(logging.FileHandler):
    """A log whose lines must get to the disk: RunError where one does not, instead of logging's stack traces."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path, encoding="utf-8")
        except OSError as error:
            raise RunError(f"'{path}' cannot be written ({error.strerror}); fix that and try again") from error
        self.setFormatter(logging.Formatter("[%(asctime)s %(levelname)s] %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        raise RunError(
            f"'{self.baseFilename}' cannot be written ({error.strerror}); fix that, go on with --resume"
        ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of a line that could not be written, which has been said
            super().close()


class RunFolder:
    """Reads and writes the files of a run; every whole file is written beside and then renamed.

    Of several processes that share a run one `writes`; the others leave the folder as it is.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.kept = False  # whether the run has begun, and no older one is to come back
        self._locks: list[FileLock] = []

    @classmethod
    def inside(cls, save_dir: str | Path, save_name: str, *, writes: bool = True) -> RunFolder:
        """The folder `save_name` in `save_dir`. RunError where that name leads out of it, by a link too."""
        root, name = Path(save_dir), Path(save_name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise RunError(f"save_name: {save_name!r} is no name of a folder in save_dir; leave out '..' and the root")
        home = root.resolve()
        if home not in (root / name).resolve().parents:
            raise RunError(f"save_name: '{root / name}' is a link out of save_dir '{root}'; name another folder")
        return cls(root / name, writes=writes)

    # ------------------------------------------------------------------ the life of a folder

    @contextlib.contextmanager
    def prepared(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """The folder, made or accepted as `prepare` says, and closed to other processes until the end.

        Whatever ends it before `keep` was called leaves the folder as it was: bad data or settings, or a signal.
        """
        self.kept = False
        try:
            if self.writes:
                try:
                    self.prepare(resume=resume, overwrite=overwrite)
                except KeyboardInterrupt:
                    self._release()
                    with contextlib.suppress(RunError):  # another process has the folder, and brings it back
                        self._bring_back()
                    raise
            try:
                yield
            finally:
                if not (resume or self.kept):
                    self.undo()
        finally:
            self._release()

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Create the folder, or accept an existing one when `resume` or `overwrite` says so, and lock it.

        Only a folder that holds the `config.yaml` of a run, or nothing, is ever replaced; it is kept beside until
        `keep` or `undo`. Raises RunError otherwise, and where another process uses the folder.
        """
        self._bring_back()
        if resume:
            if not (self.path / LATEST).is_file():
                raise RunError(f"--resume: '{self.path}' holds no {LATEST}; leave --resume out to start a new run")
            self._lock()
            for left in self.path.glob(UNFINISHED):
                left.unlink()
            return
        if self._is_taken():
            if not overwrite:
                raise RunError(
                    f"'{self.path}' exists; --resume continues it, --overwrite deletes it, --save_name names another"
                )
            if not self._is_ours():
                raise RunError(
                    f"--overwrite: '{self.path}' holds no {CONFIG} of a run of this program; delete it yourself"
                )
            self._lock()
            os.replace(self.path, self._replaced)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"'{self.path}' cannot be made ({error.strerror}); choose another save_dir") from error
        self._lock()

    def _bring_back(self) -> None:
        """Where a process was killed between taking the place of an older run and beginning, the older one returns."""
        if self._replaced.is_dir():
            self._lock()
            self.undo()

    def _is_taken(self) -> bool:
        return self.path.exists() and (
            not self.path.is_dir() or any(entry.name != LOCK for entry in self.path.iterdir())
        )

    def _is_ours(self) -> bool:
        """Whether the folder holds the settings of a whole run; another program's `config.yaml` does not."""
        return written_by_run(self.path / CONFIG)

    def _lock(self) -> None:
        """Keep every other process out of the folder as long as this one lives, however it ends."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(
                f"'{self.path}' is in use by another process; wait for it, or give this run another --save_name"
            ) from error
        except OSError as error:
            raise RunError(f"'{self.path}' cannot be written ({error.strerror}); choose another save_dir") from error
        self._locks.append(lock)

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f".{self.path.name}.replaced")

    def keep(self) -> None:
        """The new run has begun: what it replaced is deleted."""
        self.kept = True
        if not self.writes or not self._replaced.is_dir():
            return
        doomed = self.path.with_name(f".{self.path.name}.deleted")  # at once, or half of it might come back
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(self._replaced, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def undo(self) -> None:
        """The new run never began: its folder goes, and what it replaced comes back."""
        if not self.writes:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self._replaced.is_dir():
            os.replace(self._replaced, self.path)

    # ------------------------------------------------------------------ its files

    @contextlib.contextmanager
    def logged(self, logger: logging.Logger) -> Iterator[None]:
        """What is said within goes to `log.txt` too."""
        if not self.writes:
            yield
            return
        file = LogFile(self.path / LOG)
        logger.addHandler(file)
        try:
            yield
        finally:
            logger.removeHandler(file)
            file.close()

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Let `write` make a file at once or not at all. RunError where it cannot; the older file is whole then."""
        path = self.path / name
        if not self.writes:
            return
        try:
            write_beside(path, write)
        except OSError as error:
            cure = "go on with --resume" if (self.path / LATEST).is_file() else "start the run again"
            raise RunError(
                f"'{path}' cannot be written ({error.strerror or error}); what was there before is untouched; "
                f"fix that and {cure}"
            ) from error

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(_finite(content), indent=2) + "\n"
        self.write(name, lambda beside: beside.write_text(text, encoding="utf-8"))

    def write_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        """A NumPy archive of plain arrays: numbers and texts, no objects."""

        def save(beside: Path) -> None:
            with open(beside, "wb") as file:  # a name would get another suffix
                np.savez_compressed(file, **arrays)

        self.write(name, save)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One JSON object per line; a number that is not finite is written as null."""
        path = self.path / METRICS
        if not self.writes:
            return
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(row)) + "\n")
        except OSError as error:
            raise RunError(f"'{path}' cannot be written ({error.strerror}); fix that, go on with --resume") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows so far; a last one that was cut off when the process was killed is left out."""
        file = self.path / METRICS
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        return [json.loads(line) for line in lines[:-1]]  # what follows the last line's end is not whole

    def count_metrics(self) -> int:
        """How many rows there are."""
        file = self.path / METRICS
        return file.read_bytes().count(b"\n") if file.is_file() else 0

    def cut_metrics(self, count: int) -> None:
        """Keep the first `count` rows; a resumed run is about to write the others again."""
        text = "".join(json.dumps(row) + "\n" for row in self.read_metrics()[:count])
        self.write(METRICS, lambda beside: beside.write_text(text, encoding="utf-8"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
