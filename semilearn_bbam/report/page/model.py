"""What a page about runs shows: plain values, gathered elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

MAX_RUNS = 8  # lines of more could not be distinguished in one chart

# How an item's label comes out: whether it is true, and whether it is predicted.
CORRECT, MISSED, WRONG, UNKNOWN = "correct", "missed", "wrong", "unknown"


@dataclass(frozen=True, eq=False)
class ScoredPart:
    """The scores of a run on the test part [M,K], its targets [M,K] of 0 and 1, and which of them are known."""

    scores: NDArray[np.float32]
    targets: NDArray[np.bool_]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class LabelRow:
    """A label in the table of a run; None where a value is not defined or not known.

    support: positives of the test part; labeled: those of the labelled part; f1_half: F1 of decisions at 0.5; known:
    cells of the test part whose label is known, None where all are. Precision, recall and F1 are those of the decisions
    at `threshold`.
    """

    name: str
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    f1_half: float | None
    support: int | None
    labeled: int | None
    threshold: float | None
    known: int | None = None


@dataclass(frozen=True)
class ItemLabel:
    """A label that an item has or is predicted to have: its name, its score, and one of the outcomes above."""

    name: str
    score: float
    outcome: str


@dataclass(frozen=True)
class Item:
    """An item of the test part: its name, its picture as a data URI or its text, and its labels.

    hidden: how many further labels are left out of `labels`; measure: why it is listed, as a number.
    """

    name: str
    labels: tuple[ItemLabel, ...]
    hidden: int = 0
    picture: str = ""
    text: str = ""
    measure: str = ""


@dataclass(frozen=True)
class ItemGroup:
    """Items of a kind, such as the most wrong ones, with a sentence on how they are chosen."""

    title: str
    explained: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its title and caption as text, what it shows for those who cannot see it, and its SVG."""

    title: str
    svg: str
    shown: str
    caption: str = ""


@dataclass(frozen=True)
class ChartGroup:
    """Charts under one heading, and a sentence for each that is missing."""

    title: str
    charts: tuple[Chart, ...]
    missing: tuple[str, ...] = ()
    explained: str = ""


@dataclass(frozen=True, eq=False)
class RunPage:
    """One run on a page.

    metrics: part of the results (`test`, `test_prior`, ..) -> metric -> value, nothing for an unfinished run;
    decided_at: the protocol of the decisions in `labels` and `items`; progress: how far an unfinished run is; mark:
    what was given away to the run; items_note: why there are no items; facts: what the run is, in pairs.
    """

    letter: str
    name: str
    algorithm: str
    facts: tuple[tuple[str, str], ...]
    settings: Mapping[str, object]
    yaml: str
    finished: bool = True
    progress: str = ""
    mark: str = ""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    decided_at: str = ""
    labels: tuple[LabelRow, ...] = ()
    notes: tuple[str, ...] = ()
    charts: tuple[ChartGroup, ...] = ()
    items: tuple[ItemGroup, ...] = ()
    items_note: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The place of the run on the page, from 1 on, by which it gets its colour."""
        return ascii_uppercase.index(self.letter) + 1


@dataclass(frozen=True, eq=False)
class PageData:
    """A page: its runs, the charts that they share, the version of the program that gathered it, and remarks on all."""

    runs: tuple[RunPage, ...]
    charts: tuple[ChartGroup, ...]
    version: str
    notes: tuple[str, ...] = ()
