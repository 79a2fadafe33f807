"""Long work: on all usable cores, with a progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

from semilearn_bbam.util.machine import usable_cpus

T = TypeVar("T")
_without_bars: ContextVar[bool] = ContextVar("without_bars", default=False)


@contextlib.contextmanager
def without_bars(hidden: bool = True) -> Iterator[None]:
    """No progress bar within, in this thread, where `hidden`."""
    token = _without_bars.set(hidden)
    try:
        yield
    finally:
        _without_bars.reset(token)


def bars_hidden() -> bool:
    """Whether no progress bar is shown: within `without_bars`, and where standard error is no terminal."""
    return _without_bars.get() or not sys.stderr.isatty()


def progress_bar(items: Iterable[T], title: str, *, total: int | None = None) -> Iterable[T]:
    """`items` with a progress bar while they are iterated; on a terminal only, removed at the end."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar: Iterable[T] = tqdm(items, title, total=total, leave=False, dynamic_ncols=True, disable=bars_hidden())
    return bar


def in_threads(work: Callable[[int], T], count: int, title: str) -> list[T]:
    """`[work(0), .., work(count-1)]` on all usable cores with a progress bar, for work that releases the GIL."""
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        return list(progress_bar(pool.map(work, range(count)), title, total=count))
    finally:
        pool.shutdown(cancel_futures=True)  # do not wait for the rest after an error or Ctrl-C
