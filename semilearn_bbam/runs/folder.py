"""The folder of one run: `<save_dir>/<save_name>/` and its files."""

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
from semilearn_bbam.errors import FolderInUse, RunError
from semilearn_bbam.util.files import UNFINISHED, write_atomically

CONFIG, METRICS, RESULTS, SPLIT = "config.yaml", "metrics.jsonl", "results.json", "split.json"
LABELS, SKIPPED, DECISIONS = "labels.json", "skipped.json", "decisions.json"
FIGURES, LOG = "figures.npz", "log.txt"
LATEST, BEST = "latest_model.pth", "model_best.pth"
LOCK = ".lock"


class LogFile(logging.FileHandler):
    """A log file whose lines must be written: RunError if one is not, instead of logging's stack traces."""

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
            f"'{self.baseFilename}' cannot be written ({error.strerror}); fix that and continue with --resume"
        ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of a line that could not be written, which is reported already
            super().close()


class RunFolder:
    """Reads and writes the files of a run; a file is written under a temporary name and then renamed.

    Of several processes that share a run one `writes`; the others do not change the folder.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.started = False  # whether the run has started, so that an older one is not restored
        self._locks: list[FileLock] = []

    @classmethod
    def inside(cls, save_dir: str | Path, save_name: str, *, writes: bool = True) -> RunFolder:
        """The folder `save_name` in `save_dir`. RunError if that name leads out of it, also by a link."""
        root, name = Path(save_dir), Path(save_name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise RunError(f"save_name: {save_name!r} is no name of a folder in save_dir; leave out '..' and the root")
        resolved = root.resolve()
        if resolved not in (root / name).resolve().parents:
            raise RunError(f"save_name: '{root / name}' is a link out of save_dir '{root}'; name another folder")
        return cls(root / name, writes=writes)

    # ------------------------------------------------------------------ the life of a folder

    @contextlib.contextmanager
    def prepared(self, *, resume: bool, overwrite: bool) -> Iterator[None]:
        """The folder, created or accepted as in `prepare`, and locked against other processes until the end.

        An end before `keep` was called, by bad data, settings or a signal, leaves the folder as it was.
        """
        self.started = False
        try:
            if self.writes:
                try:
                    self.prepare(resume=resume, overwrite=overwrite)
                except KeyboardInterrupt:
                    self._release()
                    with contextlib.suppress(RunError):  # another process has the folder, and restores it
                        self._restore()
                    raise
            try:
                yield
            finally:
                if not (resume or self.started):
                    self.undo()
        finally:
            self._release()

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Create the folder, or accept an existing one with `resume` or `overwrite`, and lock it.

        Only an empty folder, or one with the `config.yaml` of a run, is replaced; it is renamed until `keep` or
        `undo`. RunError otherwise, and if another process uses the folder.
        """
        self._restore()
        if resume:
            if not (self.path / LATEST).is_file():
                raise RunError(f"--resume: '{self.path}' holds no {LATEST}; leave --resume out to start a new run")
            self._lock()
            for temporary in self.path.glob(UNFINISHED):
                temporary.unlink()
            return
        if self._has_content():
            if not overwrite:
                raise RunError(
                    f"'{self.path}' exists; --resume continues it, --overwrite deletes it, --save_name names another"
                )
            if not self._is_run():
                raise RunError(
                    f"--overwrite: '{self.path}' holds no {CONFIG} of a run of this program; delete it yourself"
                )
            self._lock()
            os.replace(self.path, self._replaced)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"'{self.path}' cannot be created ({error.strerror}); choose another save_dir") from error
        self._lock()

    def _restore(self) -> None:
        """Restore an older run where a process was killed after it replaced it and before it started."""
        if self._replaced.is_dir():
            self._lock()
            self.undo()

    def _has_content(self) -> bool:
        return self.path.exists() and (
            not self.path.is_dir() or any(entry.name != LOCK for entry in self.path.iterdir())
        )

    def _is_run(self) -> bool:
        """Whether the folder has the complete settings of a run; another program's `config.yaml` has not."""
        return written_by_run(self.path / CONFIG)

    def _lock(self) -> None:
        """Lock the folder against other processes until this one ends, in any way."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise FolderInUse(
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
        """The new run has started: delete the one that it replaces."""
        self.started = True
        if not self.writes or not self._replaced.is_dir():
            return
        deleted = self.path.with_name(f".{self.path.name}.deleted")  # renamed at once, or half of it might be restored
        shutil.rmtree(deleted, ignore_errors=True)
        os.replace(self._replaced, deleted)
        shutil.rmtree(deleted, ignore_errors=True)

    def undo(self) -> None:
        """The new run did not start: delete its folder, and restore the one that it replaced."""
        if not self.writes:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self._replaced.is_dir():
            os.replace(self._replaced, self.path)

    # ------------------------------------------------------------------ its files

    @contextlib.contextmanager
    def logged(self, logger: logging.Logger) -> Iterator[None]:
        """Write the log within to `log.txt` too."""
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
        """Write a file with `write(path)`, whole or not at all. RunError if that fails; the older file is unchanged."""
        path = self.path / name
        if not self.writes:
            return
        try:
            write_atomically(path, write)
        except OSError as error:
            cure = "continue with --resume" if (self.path / LATEST).is_file() else "start the run again"
            raise RunError(
                f"'{path}' cannot be written ({error.strerror or error}); the file is as it was before; "
                f"fix that and {cure}"
            ) from error

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(finite(content), indent=2) + "\n"
        self.write(name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        """Write a NumPy archive of plain arrays: numbers and texts, no objects."""

        def save(temporary: Path) -> None:
            with open(temporary, "wb") as file:  # NumPy would add a suffix to a name
                np.savez_compressed(file, **arrays)

        self.write(name, save)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Write a JSON object as a line; a number that is not finite becomes null."""
        path = self.path / METRICS
        if not self.writes:
            return
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(finite(row)) + "\n")
        except OSError as error:
            raise RunError(
                f"'{path}' cannot be written ({error.strerror}); fix that and continue with --resume"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows so far, without an incomplete last one of a process that was killed."""
        file = self.path / METRICS
        lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        return [json.loads(line) for line in lines[:-1]]  # the text after the last line end is incomplete

    def count_metrics(self) -> int:
        """The number of rows."""
        file = self.path / METRICS
        return file.read_bytes().count(b"\n") if file.is_file() else 0

    def cut_metrics(self, count: int) -> None:
        """Keep the first `count` rows; a resumed run writes the others again."""
        text = "".join(json.dumps(row) + "\n" for row in self.read_metrics()[:count])
        self.write(METRICS, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value: Any) -> Any:
    """A nested value for JSON, in which numbers that are not finite are None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
