"""Long work: on all usable cores, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from semilearn_bbam.util.machine import usable_cpus

T = TypeVar("T")


def progress_bar(items: Iterable[T], title: str, *, total: int | None = None) -> Iterable[T]:
    """`items` with a progress bar while they are iterated; on a terminal only, removed at the end."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    hidden = not sys.stderr.isatty()
    bar: Iterable[T] = tqdm(items, title, total=total, leave=False, dynamic_ncols=True, disable=hidden)
    return bar


def in_threads(work: Callable[[int], T], count: int, title: str) -> list[T]:
    """`[work(0), .., work(count-1)]` on all usable cores with a progress bar, for work that releases the GIL."""
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        return list(progress_bar(pool.map(work, range(count)), title, total=count))
    finally:
        pool.shutdown(cancel_futures=True)  # do not wait for the rest after an error or Ctrl-C
