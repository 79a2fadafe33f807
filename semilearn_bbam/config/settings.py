"""The settings of a run once they are resolved."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn


class Settings(argparse.Namespace):
    """Settings that cannot be changed: what a run derives from them, it keeps itself.

    A namespace, as USB's classes read one. AttributeError for an assignment; `having` gives a changed copy.

    Example:
        >>> settings = Settings(lr=0.1, seed=0)
        >>> settings.having(seed=1)
        Settings(lr=0.1, seed=1)
    """

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def having(self, **changes: Any) -> Settings:
        """A copy with other values."""
        return type(self)(**{**vars(self), **changes})

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"settings are frozen; settings.having({name}=..) gives a changed copy")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"settings are frozen; {name} cannot be deleted")
