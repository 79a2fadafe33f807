"""Atomic writes of files and folders: under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

UNFINISHED = ".*.tmp*"  # left by a process that was killed while it wrote


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file with `write(temporary)` and rename it to `path`, so that `path` is never half a file.

    The file and its folder are flushed to the disk, so that this holds after a power cut too; the permissions of a
    file that is replaced are kept. OSError if that fails, naming `path` and not the temporary file; the older file is
    unchanged then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        write(temporary)
        _flush(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Write a folder with `write(temporary)` and rename it to `path`, so that `path` is never half a folder.

    An empty folder is replaced. OSError if that fails, and where `path` is a folder with files; nothing is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        write(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _flush(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened elsewhere
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
