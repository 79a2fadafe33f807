"""Warnings of another library left out, in many threads at once."""

from __future__ import annotations

import threading
import warnings


class Silence:
    """`warnings.catch_warnings` for many threads: the first to enter sets the filter, the last to leave restores it."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.catch = warnings.catch_warnings()
                self.catch.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.catch.__exit__(None, None, None)


silence = Silence()
