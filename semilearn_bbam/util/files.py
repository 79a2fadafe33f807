"""Files that are whole or not there at all: written beside, brought to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

UNFINISHED = ".*.tmp*"  # what a process leaves that was killed while it wrote


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path` and then rename it, so that nobody ever sees half a file.

    The file and its folder are brought to the disk, so that this holds through a power cut too; a file that is
    replaced hands on its permissions. OSError where that fails, naming `path` and not the file beside it, and then
    what was there is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        write(beside)
        _to_disk(beside)
        if path.exists():
            shutil.copymode(path, beside)
        os.replace(beside, path)
        _to_disk(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(beside):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _to_disk(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened elsewhere
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
