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


class FolderInUse(RunError):
    """Another process has the run folder."""


class NonFiniteError(RunError):
    """A loss, a score or a state is infinite or undefined."""


class Interrupted(UserError):
    """The user asked to stop, and what was done so far is saved."""


class InstallError(UserError, ImportError):
    """A package that is needed does not import here."""


class FitError(UserError, ValueError):
    """Parameters or data that an estimator cannot be fitted with."""


class FigureError(UserError):
    """The runs do not hold what a figure is drawn from."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question with the known words nearest to a word.

    Args:
        word: what was given.
        known: the words that are accepted.
        cutoff: least similarity in [0, 1] of a word that is named.

    Returns:
        "did you mean a or b?" with up to three words, or an empty text where none is near.

    Example:
        >>> did_you_mean("bbamm", ["bbam", "bam", "cap"])
        'did you mean bbam or bam?'
    """
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_few(names: Sequence[object], shown: int) -> str:
    """A list in words that stays short.

    Args:
        names: what is listed.
        shown: how many are listed by name.

    Returns:
        The first names, and how many more there are.

    Example:
        >>> first_few(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    text = ", ".join(map(str, names[:shown]))
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def first_line(error: BaseException) -> str:
    """The first line of another library's error, as part of a sentence.

    Args:
        error: the error.

    Returns:
        The line without its full stop, or the error's type where it has no text.

    Example:
        >>> first_line(ValueError("bad value.\\nmore"))
        'bad value'
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
