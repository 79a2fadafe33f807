"""Ctrl-C and SIGTERM from the first line of a program to its last: an exit, an exception, or a wish to stop."""

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
BEFORE_TRAINING = "interrupted before training began; nothing was changed, start it again"


class ExitAtSignal:
    """A handler that ends the process with a sentence and exit code 130."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __call__(self, number: int, frame: FrameType | None) -> None:
        os.write(2, f"{self.sentence}\n".encode())  # print is not safe in a handler
        os._exit(INTERRUPTED)


def exit_at_signals(sentence: str) -> None:
    """Let Ctrl-C and SIGTERM end the process at once with a sentence; `interruptible` takes over from there.

    For the imports, which take seconds: nothing is to be cleaned up then, and an exception could be swallowed, since
    packages try to import others and go on without them. Without effect outside the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        for number in CAUGHT:
            signal.signal(number, ExitAtSignal(sentence))


@contextlib.contextmanager
def exiting_at_signals(sentence: str) -> Iterator[None]:
    """`exit_at_signals` within; afterwards the handlers are those from before, or Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in CAUGHT}
    exit_at_signals(sentence)
    try:
        yield
    finally:
        _restore(before)


def _restore(before: Mapping[signal.Signals, Any]) -> None:
    """Set these handlers again, and Python's own in place of those of `exit_at_signals`, whose time is over."""
    own: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in before.items():
        signal.signal(number, own[number] if isinstance(handler, ExitAtSignal) else handler)


_received: list[signal.Signals] = []  # within `interruptible`


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number))
    raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within, as Ctrl-C does.

    Afterwards the handlers are those from before, and Python's own in place of those of `exit_at_signals`, whose time
    is over. Without effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.signal(number, _interrupt) for number in CAUGHT}
    try:
        yield
    finally:
        _received.clear()
        _restore(before)


class StopSignals:
    """A context in which the first Ctrl-C or SIGTERM is kept in `received`, and a second one ends the process.

    Only the process that entered the context listens: a loader's worker that inherited the handlers goes on after
    Ctrl-C, since it is its parent that stops, and ends at SIGTERM. Without effect outside the main thread, where
    Python takes no handlers. KeyboardInterrupt on entry where `interruptible` raised one that did not arrive.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """Whether the run is to stop."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        self.owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.handle) for number in CAUGHT}
            if _received:  # an exception in a destructor or a callback is only printed
                self.__exit__()
                raise KeyboardInterrupt
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
