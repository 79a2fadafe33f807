"""Results of slow checks of files, kept in the cache folder under a key that changes with the files."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.util.files import write_atomically

_logger = logging.getLogger(__name__)
Arrays = dict[str, NDArray[Any]]


def cache_folder(cache_dir: str) -> Path:
    """`cache_dir`, or where it is empty `semilearn_bbam` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if cache_dir:
        return Path(os.path.expanduser(cache_dir))
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home)) / "semilearn_bbam"


def remembered(cache_dir: str, name: str, key: str, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays that `compute` returns, read from `<cache folder>/<name>_<key>.npz` if that exists.

    They are computed again where the file cannot be read; a folder that cannot be written is a warning, and the next
    run computes them again.
    """
    path = cache_folder(cache_dir) / f"{name}_{key[:24]}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass  # missing or cut short: it is written below
    arrays = compute()
    try:
        write_atomically(path, lambda temporary: np.savez(temporary, allow_pickle=False, **arrays))
    except OSError as error:
        _logger.warning("cache_dir: %s cannot be written (%s); the next run starts over", path, error)
    return arrays
