"""The tables of a page, from its data: metrics, labels of several runs, and settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from semilearn_bbam.config import OPTIONS
from semilearn_bbam.report.figures.runs import plain
from semilearn_bbam.report.figures.style import BY_PROTOCOL, WORDS
from semilearn_bbam.report.page.model import LabelRow, RunPage

RANKING = ("mAP", "mAP_present", "lrap", "one_error", "ranking_loss", "coverage_error")
ORACLE = tuple(f"oracle_{name}" for name in BY_PROTOCOL if name != "vca")
LOWER_IS_BETTER = {"hamming_loss", "one_error", "ranking_loss", "coverage_error", "vca"}
DIGITS = {"hamming_loss": 4, "vca": 4, "coverage_error": 2}
NOT_COMPARED = ("save_dir", "save_name")
NOT_KNOWN = "–"


@dataclass(frozen=True)
class Value:
    """A number in a table as text, and whether it is the best of its row."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class MetricRow:
    """A metric in words, whether lower is better, and its value for each run."""

    words: str
    lower: bool
    values: tuple[Value, ...]


@dataclass(frozen=True)
class MetricGroup:
    """Metrics under one protocol, which `title` names; of those that are not shown at once `collapsed` is true."""

    title: str
    explained: str
    rows: tuple[MetricRow, ...]
    collapsed: bool = False


PROTOCOL_WORDS = {
    "0.5": ("Decisions at 0.5", "A label is predicted where its score is at least 0.5."),
    "prior": (
        "Decisions at prior thresholds",
        "Each label as often as among the labelled items.",
    ),
    "tuned": ("Decisions at tuned thresholds", "One for each label, tuned without the test part."),
}
PARTS = {"0.5": ("test",), "prior": ("test_prior",), "tuned": ("test_tuned", "tuned")}
ORACLE_EXPLAINED = (
    "The oracle is given the true number of labels of each item, so these numbers cannot be compared with the others."
)


def number(value: float | None, digits: int = 3) -> str:
    """A number with these digits after the point, a dash where there is none.

    Args:
        value: the number, None or NaN where there is none; infinity.
        digits: after the point.

    Returns:
        The text.

    Example:
        >>> number(0.25), number(None), number(float("inf"))
        ('0.250', '–', '∞')
    """
    if value is None or math.isnan(value):
        return NOT_KNOWN
    return f"{value:.{digits}f}".replace("inf", "∞")


def metric_groups(runs: Sequence[RunPage]) -> list[MetricGroup]:
    """Metrics of runs by protocol, in the order of a page; a protocol that no run has is left out.

    Args:
        runs: those of the page, in order.

    Returns:
        Groups with a value for each run; of several the best is marked, but never that of a run to which hidden labels
        were given away.
    """
    groups = [_group("Ranking", "By the scores alone, without a threshold.", ("test",), RANKING, runs)]
    for protocol, (title, explained) in PROTOCOL_WORDS.items():
        groups.append(_group(title, explained, PARTS[protocol], BY_PROTOCOL, runs))
    groups.append(_group("Oracle", ORACLE_EXPLAINED, ("test",), ORACLE, runs, collapsed=True))
    for protocol, (title, explained) in PROTOCOL_WORDS.items():
        parts = tuple(part.replace("test", "validation") for part in PARTS[protocol] if part.startswith("test"))
        names = (*RANKING, *BY_PROTOCOL) if protocol == "0.5" else BY_PROTOCOL
        words = f"{title[0].lower()}{title[1:]}"
        groups.append(_group(f"Validation part, {words}", explained, parts, names, runs, collapsed=True))
    return [group for group in groups if group.rows]


def _group(
    title: str,
    explained: str,
    parts: Sequence[str],
    names: Sequence[str],
    runs: Sequence[RunPage],
    *,
    collapsed: bool = False,
) -> MetricGroup:
    rows = []
    for name in names:
        values = [
            next((run.metrics[part][name] for part in parts if name in run.metrics.get(part, ())), None) for run in runs
        ]
        if all(value is None for value in values):
            continue
        key = name.removeprefix("oracle_")
        lower, digits = key in LOWER_IS_BETTER, DIGITS.get(key, 3)
        texts = [number(value, digits) for value in values]
        num_values = sum(value is not None for value in values)
        fair = [value for value, run in zip(values, runs, strict=True) if value is not None and not run.mark]
        best = number((min if lower else max)(fair), digits) if fair and num_values > 1 else ""
        cells = (Value(text, text == best and not run.mark) for text, run in zip(texts, runs, strict=True))
        rows.append(MetricRow(WORDS.get(key, key), lower, tuple(cells)))
    return MetricGroup(title, explained, tuple(rows), collapsed)


@dataclass(frozen=True)
class ComparedLabel:
    """A label in the runs of a page: its row in each, None where a run does not have it, and the spread of the AP.

    difference: AP of the second run less that of the first of two, highest less lowest of more; None where fewer than
    two are defined.
    """

    name: str
    rows: tuple[LabelRow | None, ...]
    difference: float | None


def compared_labels(runs: Sequence[RunPage]) -> list[ComparedLabel]:
    """The labels of several runs by name, in the order in which they first appear.

    Args:
        runs: those of the page that have a table of labels count, at their places.

    Returns:
        A row per name.
    """
    by_name = [{row.name: row for row in run.labels} for run in runs]
    compared = []
    for name in dict.fromkeys(name for rows in by_name for name in rows):
        rows = tuple(labels.get(name) for labels in by_name)
        values = [row.average_precision for row in rows if row and row.average_precision is not None]
        difference = None
        if len(values) > 1:
            difference = values[1] - values[0] if len(runs) == 2 else max(values) - min(values)
        compared.append(ComparedLabel(name, rows, difference))
    return compared


def setting_rows(runs: Sequence[RunPage]) -> list[tuple[str, tuple[str, ...]]]:
    """Settings in which runs differ, or for a single run those that are not the default of their option.

    Args:
        runs: those of the page.

    Returns:
        Names with a text for each run, in the order of the settings; "–" for a setting that a run does not have.
        Where a run is written and how it is called is left out.
    """
    names = [name for name in dict.fromkeys(name for run in runs for name in run.settings) if name not in NOT_COMPARED]
    if len(runs) == 1:
        defaults = {option.name: option.default for option in OPTIONS}
        changed = [name for name in names if name not in defaults or runs[0].settings[name] != defaults[name]]
        return [(name, (plain(runs[0].settings[name]),)) for name in changed]
    rows = [(name, tuple(plain(run.settings.get(name, NOT_KNOWN)) for run in runs)) for name in names]
    return [(name, texts) for name, texts in rows if len(set(texts)) > 1]


def version_rows(runs: Sequence[RunPage]) -> list[tuple[str, tuple[str, ...]]]:
    """Versions with which runs were made, a text for each run.

    Args:
        runs: those of the page.

    Returns:
        A row per package that any run names.
    """
    names = dict.fromkeys(name for run in runs for name in run.versions)
    return [(name, tuple(run.versions.get(name, NOT_KNOWN) for run in runs)) for name in names]
