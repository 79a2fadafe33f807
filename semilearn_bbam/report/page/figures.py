"""Which charts a page has, from what its runs have logged and kept, and why others are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.report.figures.angles import LabelAngles, has_arrays
from semilearn_bbam.report.page.charts import draw_angles, draw_course, draw_precision_recall, draw_scores
from semilearn_bbam.report.page.model import Chart, ChartGroup, ScoredPart
from semilearn_bbam.runs.reader import Run

NO_SCORES = "its scores on the test part are not known (train with --report_figures true)"
ENOUGH = 5
VDFD_EXPLAINED = "VDFD: variance of the label angles of positives less that of negatives, mean over labels."
NO_ANGLES = "Angles: the run kept none (train with --report_figures true)."


@dataclass(frozen=True)
class Course:
    """A value that runs log: the title of its chart, keys in `metrics.jsonl`, caption, and why no run may have it."""

    title: str
    keys: tuple[str, ...]
    caption: str
    nothing: str
    zero: bool = False


COURSES = (
    Course("Training loss", ("train/total_loss",), "Mean over the steps of an epoch.", "no run logged one"),
    Course("mAP on the test part", ("test/mAP",), "Nothing was chosen by it.", "no run logged one"),
    Course("mAP on the validation part", ("validation/mAP",), "A part of the labelled data.", ""),
    Course(
        "Pseudo-label rate",
        ("pseudo_positive_rate",),
        "Positive share of the pool's cells.",
        "no run has a table of pseudo-labels",
    ),
    Course(
        "Pseudo-label precision",
        ("pseudo_precision", "pseudo_recall"),
        "By the true labels of the pool; dashed: recall.",
        "",
    ),
    Course(
        "VDFD",
        ("vdfd_true", "vdfd_pseudo"),
        "In rad², with true labels; dashed: with pseudo-labels.",
        "no run logged its angles (train with --report_figures true)",
        zero=True,
    ),
)


def course_charts(runs: Mapping[int, Run]) -> ChartGroup:
    """The values that runs log over their epochs, one chart each.

    Args:
        runs: by their number on the page.

    Returns:
        The charts; a value of which every run logged one at most has a sentence in place of its chart.
    """
    drawn: list[tuple[Course, dict[int, list[dict[float, float]]]]] = []
    missing = []
    for course in COURSES:
        lines = {
            number: [line for key in course.keys if (line := run.series("epoch", key))] for number, run in runs.items()
        }
        lines = {number: logged for number, logged in lines.items() if logged}
        if any(len(line) > 1 for logged in lines.values() for line in logged):
            drawn.append((course, lines))
        elif lines:
            missing.append(f"{course.title}: logged once only, so there is no curve.")
        elif course.nothing:
            missing.append(f"{course.title}: {course.nothing}.")
    charts = [
        draw_course(
            lines, course.title, f"course{place}", caption=course.caption, zero=course.zero, narrow=len(drawn) == 4
        )
        for place, (course, lines) in enumerate(drawn)
    ]
    explained = VDFD_EXPLAINED if any(course.zero for course, _ in drawn) else ""
    return ChartGroup("Course of training", tuple(charts), tuple(missing), explained)


def precision_recall_charts(parts: Mapping[int, ScoredPart], names: Mapping[int, Sequence[str]]) -> ChartGroup:
    """Precision against recall: of all cells together, and of three labels.

    Args:
        parts: scores by the number of the run, of those runs that have any.
        names: of the labels of these runs.

    Returns:
        The charts. The labels are the most frequent, the middle and the rarest of the first run's test part; a run
        without positives of a label has no line.
    """
    title = "Precision and recall"
    if not parts:
        return ChartGroup(title, (), (f"{title}: {NO_SCORES.replace('its', 'the')}.",))
    cells = {number: (part.scores[part.known], part.targets[part.known]) for number, part in parts.items()}
    cells = {number: pair for number, pair in cells.items() if pair[1].any()}
    first = next(iter(parts))
    chosen = [names[first][k] for k in typical_labels(parts[first])]
    narrow = len(chosen) == 3
    charts = [draw_precision_recall(cells, "all labels, micro-averaged", "pr", narrow=narrow)] if cells else []
    for place, label in enumerate(chosen):
        columns = {number: list(names[number]).index(label) for number in parts if label in names[number]}
        pairs = {number: _column(parts[number], k) for number, k in columns.items()}
        pairs = {number: pair for number, pair in pairs.items() if pair[1].any()}
        charts.append(draw_precision_recall(pairs, label, f"pr{place}", narrow=narrow))
    explained = "On the test part. Dotted: the share of positives, which guessing reaches. Labels: the most frequent, "
    explained += f"the middle and the rarest one, of those with at least {ENOUGH} test positives if there are any."
    return ChartGroup(title, tuple(charts), (), explained)


def own_charts(
    run: Run,
    scored: ScoredPart | None,
    names: Sequence[str],
    thresholds: Mapping[str, NDArray[np.float32]],
    prefix: str,
    *,
    few: bool = False,
) -> tuple[ChartGroup, ...]:
    """The charts that a run has for itself: histograms of scores and of angles of some labels.

    Args:
        run: the run.
        scored: its scores, if known.
        names: of its labels, K.
        thresholds: protocol -> [K].
        prefix: of the identifiers in their SVGs.
        few: whether angles are shown of one label only, as on a page of several runs.

    Returns:
        The charts; a sentence where there is nothing to draw from. A label with fewer than two positives or negatives
        has angles without Gaussians.
    """
    scores = ChartGroup("Scores", (), (f"Scores: {NO_SCORES}.",))
    if scored:
        charts = []
        for k in typical_labels(scored):
            limits = {protocol: float(values[k]) for protocol, values in thresholds.items()}
            charts.append(draw_scores(*_column(scored, k), limits, names[k], f"{prefix}-scores{k}"))
        scores = ChartGroup("Scores", tuple(charts), (), "Shares of positives and of negatives of the test part.")
    if not has_arrays(run):
        return scores, ChartGroup("Angles", (), (NO_ANGLES,))
    columns = typical_labels(scored)[: 1 if few else None] if scored else []
    by_label = [_angle_charts(run, k, names[k], f"{prefix}-angles{k}") for k in columns]
    # A row of all labels before the map, and one after it.
    angles = [chart for row in zip_longest(*by_label) for chart in row if chart]
    mapped = "counted" in run.arrays
    fitted = "those of the last epoch's statistics" if mapped else "fitted to the angles shown"
    explained = f"Label angles of the final model on the training part; Gaussians: {fitted}."
    return scores, ChartGroup("Angles", tuple(angles), (), explained)


def _angle_charts(run: Run, label: int, name: str, prefix: str) -> list[Chart]:
    before = LabelAngles.of(run, label)
    if not len(before.angles):
        return []
    panels = [("before the map" if before.mapped else before.reading, before, "label angle")]
    if before.mapped and before.usable:
        unused = "" if run.settings.get("balance", True) else ", which the run does not use"
        panels.append((f"after the map{unused}", before.after(), "mapped angle"))
    every = np.concatenate([shown.angles for _, shown, _ in panels])
    limits = float(every.min()), float(every.max()) + 1e-3
    return [
        draw_angles(shown, f"{name}, {words}", f"{prefix}-{place}", limits, axis)
        for place, (words, shown, axis) in enumerate(panels)
    ]


def typical_labels(scored: ScoredPart) -> list[int]:
    """The most frequent, the middle and the rarest label of those with test positives enough for a curve.

    Args:
        scored: scores and targets of the test part. Labels with fewer than `ENOUGH` positives are passed over where
            others have as many.

    Returns:
        Up to three columns, none where no label has a positive.
    """
    support = (scored.targets & scored.known).sum(axis=0)
    present = np.flatnonzero(support >= min(ENOUGH, support.max(initial=0)))
    present = present[support[present] > 0]
    ordered = present[np.argsort(-support[present], kind="stable")]
    return list(dict.fromkeys(int(ordered[place]) for place in (0, len(ordered) // 2, -1))) if len(ordered) else []


def _column(part: ScoredPart, label: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    known = part.known[:, label]
    return part.scores[known, label], part.targets[known, label]
