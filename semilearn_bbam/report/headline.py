"""The labels that methods save as tables, and the headline: mAP, macro-F1 and labels saved side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence

from semilearn_bbam.report.columns import HEADLINE, compared, heading, metric_of
from semilearn_bbam.report.labels_saved import (
    INTERVAL,
    FloorCurve,
    LabelsSaved,
    Point,
    beyond,
    factor_words,
    labels_saved,
    share_words,
)
from semilearn_bbam.report.render import markdown_lines, short, to_rows
from semilearn_bbam.report.tables import Run, common_seeds, comparison_table

CSV_COLUMNS = ("dataset", "metric", "protocol", "method", "label_ratio", "labeled_rows", "mean", "floor_share",
               "factor", "factor_low", "factor_high", "seeds")  # fmt: skip
BEYOND = '"<" and ">": beyond the ends of the floor\'s curve, which is not continued'


def saved_tables(
    results: Sequence[Run], floors: Collection[str], ceilings: Collection[str], methods: Collection[str] = ()
) -> list[LabelsSaved]:
    """Labels saved, by dataset and metric of the headline, where the floor has a curve (see `labels_saved`)."""
    datasets = sorted({run["grid_dataset"] for run in results})
    found = (labels_saved(results, dataset, headline, floors=floors, ceilings=ceilings, methods=methods)
             for dataset in datasets for headline in HEADLINE)  # fmt: skip
    return [saved for saved in found if saved is not None and saved.points]


def saved_text(tables: Iterable[LabelsSaved], floors: Collection[str], names: Mapping[str, str], note: str = "") -> str:
    """Markdown: a table per dataset and metric, a row per method, a column per labelled share; empty without tables."""
    texts = [_saved_table(saved, names) for saved in tables]
    if not texts:
        return ""
    caption = (
        "Labels saved: the labelled share with which the best method that trains on the labelled rows alone (the best "
        f"floor, of {', '.join(names.get(floor, floor) for floor in floors)}) does as well as a method with the share "
        f"above its column. In brackets, how many times as many labels that is, and its {100 * INTERVAL:g} % interval "
        "over seeds, resampled for the method and the floor together (it is too narrow with fewer than five). The "
        "floor's curve joins its means by lines over the logarithm of the share; where it dips, what is as good with "
        "fewer labels counts. "
        f"{BEYOND}. Seeds: those that all methods of a table and all floors have. Bold: best mean of a column. Methods "
        f"to which hidden labels were given away are left out. {note}"
    )
    return "\n\n".join([caption.strip(), *texts]) + "\n"


def _saved_table(saved: LabelsSaved, names: Mapping[str, str]) -> str:
    ratios = sorted({ratio for points in saved.points.values() for ratio in points})
    head = [f"{saved.dataset}, {heading(saved.title, saved.protocol)}", "seeds"]
    lines = [[*head, *(f"{100 * ratio:g} %" for ratio in ratios)]]
    for method in sorted(saved.points, key=saved.mean, reverse=True):
        cells = [_saved_cell(saved, method, ratio) for ratio in ratios]
        lines.append([names.get(method, method), str(len(saved.seeds)), *cells])
    curve = saved.curve
    points = (f"{short(mean)} at {100 * share:g} % ({names.get(method, method)})"
              for mean, share, method in zip(curve.means, curve.shares, curve.methods, strict=True))  # fmt: skip
    return f"{to_rows(lines)}\n\nBest floor: {', '.join(points)}."


def _saved_cell(saved: LabelsSaved, method: str, ratio: float) -> str:
    point = saved.points[method].get(ratio)
    if point is None:
        return "-"
    text = share_words(point.share, saved.curve)
    floor = dict(zip(saved.curve.shares, saved.curve.methods, strict=True)).get(ratio)
    text = "floor" if method == floor else text
    text = f"**{text}**" if saved.is_best(method, ratio) else text
    return text if method == floor else f"{text} ({_factor(point, saved)}{_interval(point, saved)})"


def _factor(point: Point, saved: LabelsSaved) -> str:
    return f"{factor_words(point.share, point.ratio, saved.curve)}x"


def _interval(point: Point, saved: LabelsSaved) -> str:
    if point.interval is None:
        return ""
    low, high = (factor_words(share, point.ratio, saved.curve) for share in point.interval)
    return f", {low} to {high}" if low != high else ""


def saved_csv(tables: Iterable[LabelsSaved]) -> str:
    """A line per dataset, metric, method and share; a share below or above the floor's curve as `<0.05` or `>0.2`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for saved in tables:
        for method, points in saved.points.items():
            for point in points.values():
                row = [saved.dataset, saved.title, saved.protocol, method, point.ratio, point.rows, point.mean]
                row += [_number(point.share, 1, saved.curve), _number(point.share, point.ratio, saved.curve)]
                row += [_number(share, point.ratio, saved.curve) for share in point.interval or ()] or ["", ""]
                writer.writerow([*row, len(saved.seeds)])
    return text.getvalue()


def _number(share: float, ratio: float, curve: FloorCurve) -> float | str:
    edge = beyond(share, curve)
    return f"{edge[0]}{edge[1] / ratio:.6g}" if edge else share / ratio


def headline_text(
    results: Sequence[Run],
    floors: Collection[str],
    ceilings: Collection[str],
    methods: Sequence[str],
    names: Mapping[str, str],
) -> str:
    """Markdown: a table per dataset, a row per method; mAP, macro-F1 (prior) and labels saved in mAP by share.

    A dataset on which the methods have no seed in common is left out; labels saved, where the floor has no curve.
    """
    texts = []
    runs = compared(results, floors, ceilings)
    for dataset in sorted({run["grid_dataset"] for run in runs}):
        dataset_runs = [run for run in runs if run["grid_dataset"] == dataset]
        rows = [method for method in methods if any(run["method"] == method for run in dataset_runs)]
        if not common_seeds(dataset_runs, rows):
            continue
        metrics = [metric_of(title) for title, _ in HEADLINE]
        table = comparison_table(dataset_runs, dataset, "prior", methods=rows, names=names, metrics=metrics)
        saved = labels_saved(results, dataset, HEADLINE[0], floors=floors, ceilings=ceilings, methods=rows)
        lines, caption = markdown_lines(table), table.caption
        if saved is not None:
            seeds = ", ".join(map(str, saved.seeds))
            caption += (
                " Labels saved: how many times as many labels the best floor needs for the same mAP, seeds "
                f"{seeds}; {BEYOND}."
            )
            lines[0] += [f"labels saved {100 * ratio:g} %" for ratio in table.ratios]
            for method, line in zip(table.rows, lines[1:], strict=True):
                points = saved.points.get(method, {})
                line += [_factor(points[r], saved) if r in points else "-" for r in table.ratios]
        texts.append(f"{caption}\n\n{to_rows(lines)}\n")
    return "\n".join(texts)
