"""The errors that a user can fix, and how they are worded.

The command line prints their text, never a stack trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Says in one sentence which file, key or item is wrong and what to do about it."""


class NetError(UserError):
    """A net, its weights or its tokenizer cannot be loaded."""


class RunError(UserError):
    """A run folder or a checkpoint cannot be used."""


class NonFiniteError(RunError):
    """A loss, a score or a state is infinite or undefined."""


class Interrupted(UserError):
    """The user asked to stop, and what was done so far is saved."""


class InstallError(UserError, ImportError):
    """A package that is needed does not import here."""


class FigureError(UserError):
    """The runs do not hold what a figure is drawn from."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """ "did you mean a or b?" with the up to three known words nearest to `word`, or an empty text."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_few(names: Sequence[object], shown: int) -> str:
    """The first `shown` of these, and how many more there are."""
    text = ", ".join(map(str, names[:shown]))
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def first_line(error: BaseException) -> str:
    """The first line of another library's error without its full stop, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
