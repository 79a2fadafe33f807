"""Ctrl-C and SIGTERM as a wish that training fulfils between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which the first Ctrl-C or SIGTERM is kept in `received`, and a second one ends the process.

    Only the process that entered the context listens: a loader's worker that inherited the handlers goes on after
    Ctrl-C, since it is its parent that stops, and ends at SIGTERM. Without effect outside the main thread, where
    Python takes no handlers.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """Whether somebody wants the run to stop."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        self.owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.handle) for number in CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # print is not safe in a handler
