"""What an option of train.py is: its type, limits and default, and how a value is checked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .yaml_loader import plain_value

_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH_WORDS = {"yes": "true", "on": "true", "y": "true", "1": "true"}
_TRUTH_WORDS.update({"no": "false", "off": "false", "n": "false", "0": "false"})


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most similar to `word` regardless of case and dashes, or None if none is similar."""
    folded = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


@dataclass(frozen=True)
class Option:
    """One setting: its name, type, default, one-line help, limits and the group of the help that it belongs to.

    `type` is int, float, bool or str. `minimum` and `maximum` are inclusive, `above` and `below` are not. A default of
    None means one that follows from the kind of the data. `refused` maps values that a user may try to the
    reason why they are not among the choices. `listed`: a YAML file may give a list of texts, which becomes one text
    with commas.
    """

    name: str
    type: type[Any]
    default: Any
    help: str
    group: str = ""
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False

    def parse(self, value: Any) -> Any:
        """Check `value` strictly and return it (a whole number becomes a float where a float is wanted).

        Raises ValueError with the rest of a sentence that begins with the option's name. None passes only
        where the default is None.
        """
        if value is None:
            if self.default is None:
                return None
            raise ValueError('has no value; give it one ("" for empty text) or delete the line')
        if self.listed and isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = ", ".join(value)
        accepted = (int, float) if self.type is float else (self.type,)
        if type(value) not in accepted:  # exact types, since True is an int to Python
            raise ValueError(f"must be {_WANTED[self.type]}, not {_show(value)}{_hint(self.type, value)}")
        if self.type is float:
            value = float(value)  # the loader keeps whole numbers short enough not to overflow
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        self._check_limits(value)
        return value

    def _check_limits(self, value: Any) -> None:
        if self.choices is not None and value in self.refused:
            raise ValueError(f"cannot be {value}: {self.refused[value]}")
        if self.choices is not None and value not in self.choices:
            guess = nearest(value, self.choices)
            meant = f"; did you mean {guess!r}?" if guess else ""
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {_show(value)}{meant}")
        if (
            (self.minimum is not None and value < self.minimum)
            or (self.maximum is not None and value > self.maximum)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        ):
            raise ValueError(f"must be {self.limits()}, not {_show(value)}")

    def limits(self) -> str:
        """The allowed range in words, or an empty text where there is none."""
        if self.minimum is not None and self.maximum is not None:
            return f"between {self.minimum:.12g} and {self.maximum:.12g}"
        limits = (("at least", self.minimum), ("above", self.above), ("at most", self.maximum), ("below", self.below))
        return " and ".join(f"{word} {limit:.12g}" for word, limit in limits if limit is not None)


def _show(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"the text {text}" if isinstance(value, str) else text


def _hint(kind: type[Any], value: Any) -> str:
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
