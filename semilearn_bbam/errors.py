"""The one family of errors that are a user's to mend: the command line prints their text, never a stack trace."""

from __future__ import annotations


class UserError(Exception):
    """Says in one sentence which file, key or item is wrong and what to do about it."""


class NetError(UserError):
    """A net, its weights or its tokenizer cannot be had."""


class RunError(UserError):
    """A run folder or a checkpoint cannot be used."""
