"""What is searched: hyperparameters with their ranges, the methods that have them, and the protocol of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semilearn_bbam.config import Option, plain_value

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Hyperparameter:
    """An option that is searched: among `choices`, or from `low` to `high`, both included, evenly in the logarithm
    where `log` says so."""

    option: Option
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def name(self) -> str:
        return self.option.name

    def contains(self, value: Any) -> bool:
        """Whether a value can be drawn; True is no 1."""
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        return type(value) is self.option.type and bool(self.low <= value <= self.high)

    def rounded(self, value: Any) -> Any:
        """The value with three significant digits, within the range, so that a table shows what was run."""
        if self.choices or self.option.type is int:
            return value
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def words(self) -> str:
        """The range in words."""
        if self.choices:
            return ", ".join(map(as_text, self.choices))
        return f"{as_text(self.low)} to {as_text(self.high)}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Contender:
    """A method whose settings are searched.

    settings: options of all its trials; first: changes to the defaults that are tried before any drawn values; seconds:
    of a run on one core, to plan with.
    """

    method: str
    space: tuple[Hyperparameter, ...]
    settings: Values = field(default_factory=dict)
    first: tuple[Values, ...] = ()
    seconds: float = 15

    def outside(self, values: Values) -> str:
        """The name that keeps these values from being a point of the space, or an empty text."""
        searched = {item.name: item for item in self.space}
        odd = [name for name in (*values, *searched) if (name in values) != (name in searched)]
        odd += [name for name, item in searched.items() if name in values and not item.contains(values[name])]
        return odd[0] if odd else ""


@dataclass(frozen=True)
class Tuning:
    """A search for each contender on each dataset: `trials` of them, each on all `seeds`.

    `label_ratio` of the training rows are labelled, of which `val_ratio` judge and the rest train; options: those of
    all runs; prune: whether a trial that is in the lowest quarter after the first seed gets no others; reference: the
    method against which the others are read, "" for none; configs: the folder in which `config_words` looks.
    """

    contenders: tuple[Contender, ...]
    datasets: tuple[str, ...]
    configs: Path
    label_ratio: float
    val_ratio: float
    trials: int = 16
    seeds: tuple[int, ...] = (10, 11)
    options: Values = field(default_factory=dict)
    prune: bool = True
    sampler_seed: int = 0
    reference: str = ""

    @property
    def trained_share(self) -> float:
        """Share of the training rows whose labels a trial trains on."""
        return self.label_ratio * (1 - self.val_ratio)


def as_text(value: Any) -> str:
    """A value as on a command line, a float without a needless `.0`."""
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else str(value)


def values_text(values: Values) -> str:
    """Values as `name=value; ..`, which `read_values` reads back."""
    return "; ".join(f"{name}={as_text(value)}" for name, value in values.items())


def read_values(text: str, space: tuple[Hyperparameter, ...]) -> dict[str, Any]:
    """The values of `values_text`, each of its option's type. ValueError for what no value of it is."""
    types = {item.name: item.option for item in space}
    pairs = (pair.split("=", 1) for pair in text.split("; ") if pair)
    return {
        name: types[name].parse(plain_value(value) if types[name].type is not str else value)
        if name in types
        else value
        for name, value in pairs
    }
