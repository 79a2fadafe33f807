"""What an option of train.py is: its type, limits and default, and how a value is checked."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .yaml_loader import plain_value

_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH_WORDS = {"yes": "true", "on": "true", "y": "true", "1": "true"}
_TRUTH_WORDS.update({"no": "false", "off": "false", "n": "false", "0": "false"})


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most similar to `word` regardless of case and dashes, or None if none is similar."""
    folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


@dataclass(frozen=True)
class Option:
    """One setting: its name, type, default, group of the help, one-line help and inclusive limits.

    `type` is int, float, bool or str; an algorithm's own argument may bring any other function of a text that
    raises ValueError or argparse.ArgumentTypeError (one whose default is a truth value counts as bool). `refused`
    maps values that somebody may well try to the reason why they are not among the choices.
    """

    name: str
    type: Callable[..., Any]
    default: Any
    group: str
    help: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Callable[..., Any]:
        """int, float, bool or str, or `type` itself where it is a function of the algorithm's own."""
        return bool if self.type not in _WANTED and isinstance(self.default, bool) else self.type

    def parse(self, value: Any) -> Any:
        """Check `value` strictly and return it (a whole number becomes a float where a float is wanted).

        Raises ValueError with the rest of a sentence that begins with the option's name. None passes only
        where the default is None.
        """
        if value is None:
            if self.default is None:
                return None
            raise ValueError('has no value; give it one ("" for empty text) or delete the line')
        kind = self.kind
        if kind not in _WANTED:
            value = self._parse_own(value)
        accepted = (int, float) if kind is float else (kind,)
        if kind in _WANTED and type(value) not in accepted:  # exact types, since True is an int to Python
            raise ValueError(f"must be {_WANTED[kind]}, not {_show(value)}{_hint(kind, value)}")
        if kind is float:
            value = float(value)  # the loader keeps whole numbers short enough not to overflow
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        self._check_limits(value)
        return value

    def _parse_own(self, value: Any) -> Any:
        if isinstance(value, (list, dict)):
            raise ValueError(f"must be a single value, not {_show(value)}")
        try:
            result = self.type(str(value).lower() if isinstance(value, bool) else str(value))
        except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
            reason = " ".join(str(error).split()) or "it does not say why"
            raise ValueError(f"is refused with the value {_show(value)}: {reason}") from error
        if not isinstance(result, (int, float, str)):  # bool is an int
            raise TypeError(f"the type of option {self.name} must give a number, a truth value or text")
        return result

    def _check_limits(self, value: Any) -> None:
        if self.choices is not None and value in self.refused:
            raise ValueError(f"cannot be {value}: {self.refused[value]}")
        if self.choices is not None and value not in self.choices:
            guess = nearest(value, self.choices)
            meant = f"; did you mean {guess!r}?" if guess else ""
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {_show(value)}{meant}")
        low = self.minimum is not None and value < self.minimum
        if low or (self.maximum is not None and value > self.maximum):
            raise ValueError(f"must be {self.limits()}, not {_show(value)}")

    def limits(self) -> str:
        """The allowed range in words, or an empty text where there is none."""
        if self.minimum is not None and self.maximum is not None:
            return f"between {self.minimum:.12g} and {self.maximum:.12g}"
        if self.minimum is not None:
            return f"at least {self.minimum:.12g}"
        return "" if self.maximum is None else f"at most {self.maximum:.12g}"


def _show(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"the text {text}" if isinstance(value, str) else text


def _hint(kind: Callable[..., Any], value: Any) -> str:
    word = str(value).lower()
    if kind is bool and word in _TRUTH_WORDS:
        return f" (write {_TRUTH_WORDS[word]})"
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f" (write {int(value)})"
    if kind is str and not isinstance(value, (list, dict)):
        return " (put it in quotes)"
    if isinstance(value, str) and type(plain_value(value)) in ((int, float) if kind is float else (kind,)):
        return " (remove the quotes)"
    if kind in (int, float) and isinstance(value, str) and any(letter.isdigit() for letter in value):
        return f" (write plain decimal digits, such as {'1000' if kind is int else '0.001 or 1e-3'})"
    return ""
