"""All figures that run folders hold data for, and a message on each."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from semilearn_bbam.errors import FigureError, UserError, did_you_mean
from semilearn_bbam.report.figures import (
    Method,
    Run,
    draw_angle_histogram,
    draw_label_ap,
    draw_learning_curves,
    draw_precision_recall,
    draw_ratios,
    draw_sensitivity,
    draw_vdfd,
    read_methods,
    save,
)
from semilearn_bbam.report.figures.angles import has_arrays, has_map
from semilearn_bbam.report.figures.curves import has_metric, has_vdfd
from semilearn_bbam.report.figures.runs import differing_options, having, settings_of
from semilearn_bbam.report.figures.sweeps import has_results

# More of them cannot be distinguished in one picture.
MAX_LINES, MAX_MARKERS = 8, 4
LONGEST_NAME = 160  # bytes of the name of a picture's files; systems allow 255 with the suffix


@dataclass(frozen=True)
class Picture:
    """A picture to be drawn: the name of its files, its drawing function, and which methods it lacks, and why."""

    name: str
    draw: Callable[[], Figure]
    without: str = ""


def draw_all(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    kinds: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    selected: Sequence[str] = (),
    label: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Draw every figure that the run folders hold data for, as PNG and SVG in the folder `out`; returns their paths.

    kinds: of `KINDS`, all where empty; names: what the method of a run folder is called (see `read_methods`); selected:
    methods to be drawn, in this order, all where empty; label: that of the angle histograms and of the single
    precision-recall curve. `log` gets a line for each figure that is drawn or left out. Methods of which there are too
    many for one picture share several, in the order of their mAP. RunError for a folder that is no run, UserError for
    an unknown kind or method.
    """
    for kind in kinds:
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS) or f"choose from {', '.join(KINDS)}"
            raise UserError(f"there is no figure '{kind}'; {hint}")
    methods = _pick(read_methods(folders, names), selected)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for kind in kinds or KINDS:
        pictures = list(KINDS[kind].pictures(methods, label))
        if not pictures:
            log(f"left out {kind}: {KINDS[kind].nothing}")
        for picture in pictures:
            try:
                paths = save(picture.draw(), out / picture.name)
            except FigureError as error:
                log(f"left out {picture.name}: {error}")
                continue
            listed = f", full names in {paths[2]}" if paths[2:] else ""
            log(f"drew {paths[0]} and .svg{picture.without}{listed}")
            written += paths
    return written


def _pick(methods: list[Method], selected: Sequence[str]) -> list[Method]:
    by_name = {method.name: method for method in methods}
    for name in selected:
        if name not in by_name:
            hint = did_you_mean(name, by_name) or f"there are {'; '.join(by_name)}"
            raise UserError(f"no run is of the method '{name}'; {hint}")
    return [by_name[name] for name in dict.fromkeys(selected)] or methods


# ---------------------------------------------------------------------- the pictures of each kind


def _curves(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    metrics = ("test/mAP", "test/macro_f1")
    for setting, group in _by_setting(methods):
        for page_number, page, without in _pages(group, has_metric(metrics[0]), MAX_LINES):
            yield Picture(
                _name(*setting, "curves", *page_number), partial(draw_learning_curves, page, metrics), without
            )


def _vdfd(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    for setting, group in _by_setting(methods):
        for page_number, page, without in _pages(group, has_vdfd, MAX_LINES):
            yield Picture(_name(*setting, "vdfd", *page_number), partial(draw_vdfd, page), without)


def _angles(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    """A picture of each method with a map; where none has a map, of the first method."""
    for setting, group in _by_setting(methods):
        for method in having(group, has_map) or having(group, has_arrays)[:1] or group[:1]:
            yield Picture(_name(*setting, "angles", method.name), partial(draw_angle_histogram, method, label))


def _labels(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    for setting, group in _by_setting(methods):
        for page_number, page, without in _pages(group, has_arrays, MAX_MARKERS):
            yield Picture(_name(*setting, "labels", *page_number), partial(draw_label_ap, page), without)


def _precision_recall(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    labels = [label] if label else []
    for setting, group in _by_setting(methods):
        for page_number, page, without in _pages(group, has_arrays, MAX_MARKERS):
            draw = partial(draw_precision_recall, page, labels)
            yield Picture(_name(*setting, "precision_recall", *page_number), draw, without)


def _ratios(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    by_data: dict[str, list[tuple[str, str]]] = {}
    for setting in settings_of(methods):
        by_data.setdefault(setting[0], []).append(setting)
    for data, settings in by_data.items():
        group = having(_within(methods, settings), has_results)
        several = [method for method in group if len(settings_of([method])) > 1]
        single = [method.name for method in group if method not in several]
        for page_number, page, _ in _pages(several, has_results, MAX_LINES) if several else ():
            without = f", without {'; '.join(single)}, which ended with one labelled share only" if single else ""
            yield Picture(_name(data, "ratios", *page_number), partial(draw_ratios, page), without)


def _sensitivity(methods: Sequence[Method], label: str) -> Iterator[Picture]:
    for setting, group in _by_setting(methods):
        runs = [run for method in group for run in method.runs]
        for algorithm in dict.fromkeys(run.algorithm for run in runs):
            algorithm_runs = [run for run in runs if run.algorithm == algorithm]
            if differing_options(algorithm_runs):
                draw = partial(draw_sensitivity, having(group, algorithm_runs.__contains__))
                yield Picture(_name(*setting, "sensitivity", algorithm), draw)


@dataclass(frozen=True)
class Kind:
    """A kind of figure: in words, its pictures of these methods and label, and why there may be none."""

    words: str
    pictures: Callable[[Sequence[Method], str], Iterator[Picture]]
    nothing: str = "there are no runs"


KINDS = {
    "curves": Kind("learning curves", _curves),
    "vdfd": Kind("angle variances of positives and negatives per epoch", _vdfd),
    "angles": Kind("angle histograms of a label before and after the map", _angles),
    "labels": Kind("average precision per label", _labels),
    "precision_recall": Kind("precision against recall", _precision_recall),
    "ratios": Kind(
        "metrics against the labelled share", _ratios, "no method has ended with two labelled shares of a dataset"
    ),
    "sensitivity": Kind("metrics against options", _sensitivity, "no two runs of an algorithm differ in an option"),
}


# ---------------------------------------------------------------------- methods that share a picture


def _within(methods: Sequence[Method], settings: Sequence[tuple[str, str]]) -> list[Method]:
    return having(methods, lambda run: run.setting in settings)


def _by_setting(methods: Sequence[Method]) -> Iterator[tuple[tuple[str, str], list[Method]]]:
    for setting in settings_of(methods):
        yield setting, _within(methods, [setting])


def _pages(
    methods: Sequence[Method], keep: Callable[[Run], bool], size: int
) -> Iterator[tuple[list[str], list[Method], str]]:
    """Those methods that have the data, by mAP where they need several pages; with the page number and what is absent.

    Where no method has the data, one page of all, for the drawing function to say what is missing.
    """
    present = having(methods, keep)
    names = {method.name for method in present}
    absent = [method.name for method in methods if method.name not in names]
    without = f", without {'; '.join(absent)}, which kept no data for it" if absent else ""
    if len(present) <= size:
        yield [], present or list(methods), without
        return
    # The same number on each page, or one more; in a page the order of the styles.
    ranked = sorted(present, key=lambda method: -_mean_map(method))
    number = -(-len(ranked) // size)
    for page in range(number):
        names = {method.name for method in ranked[page * len(ranked) // number : (page + 1) * len(ranked) // number]}
        yield [str(page + 1)], [method for method in present if method.name in names], without


def _mean_map(method: Method) -> float:
    values = [run.value("test/mAP") for run in method.runs if has_results(run)]
    return statistics.mean(values) if values else 0.0


def _name(*parts: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", "_".join(part for part in parts if part))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha1(name.encode()).hexdigest()[:8]  # names that begin alike stay apart
    return f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}_{digest}"
