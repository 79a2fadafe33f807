"""Ctrl-C and SIGTERM from the first line of a program to its last: an exit, an exception, or a request to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130  # exit code
BEFORE_TRAINING = "interrupted before training started; nothing was changed, start it again"


class ExitAtSignal:
    """A handler that ends the process with a message and exit code 130."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __call__(self, number: int, frame: FrameType | None) -> None:
        os.write(2, f"{self.message}\n".encode())  # print is not safe in a handler
        os._exit(INTERRUPTED)


def exit_at_signals(message: str) -> None:
    """Let Ctrl-C and SIGTERM end the process at once with a message; `interruptible` takes over from there.

    For the imports, which take seconds: there is nothing to clean up then, and an exception could be swallowed, since
    packages try to import others and continue without them. Without effect outside the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        for number in CAUGHT:
            signal.signal(number, ExitAtSignal(message))


@contextlib.contextmanager
def exiting_at_signals(message: str) -> Iterator[None]:
    """`exit_at_signals` within; afterwards the handlers are the previous ones, or Python's defaults."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in CAUGHT}
    exit_at_signals(message)
    try:
        yield
    finally:
        _restore(handlers)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    """Set these handlers again, and Python's defaults instead of those of `exit_at_signals`."""
    defaults: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in handlers.items():
        signal.signal(number, defaults[number] if isinstance(handler, ExitAtSignal) else handler)


_received: list[signal.Signals] = []  # within `interruptible`


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number))
    raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within, as Ctrl-C does.

    Afterwards the handlers are the previous ones, and Python's defaults instead of those of `exit_at_signals`. Without
    effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    handlers = {number: signal.signal(number, _interrupt) for number in CAUGHT}
    try:
        yield
    finally:
        _received.clear()
        _restore(handlers)


class StopSignals:
    """A context in which the first Ctrl-C or SIGTERM is stored in `received`, and a second one ends the process.

    This holds for the process that entered the context: a loader's worker that inherited the handlers continues after
    Ctrl-C, since its parent stops it, and ends at SIGTERM. Without effect outside the main thread, where Python sets
    no handlers. KeyboardInterrupt on entry if one that `interruptible` raised was swallowed.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.previous: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether the user requested a stop."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        self.owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self.handle) for number in CAUGHT}
            if _received:  # an exception in a destructor or a callback is only printed
                self.__exit__()
                raise KeyboardInterrupt
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
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
