"""Run folders as the data of figures: runs of one method, in several settings and with several seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semilearn_bbam.config import OPTIONS
from semilearn_bbam.errors import FigureError, RunError
from semilearn_bbam.report.figures.style import Style
from semilearn_bbam.report.tables import printed_name
from semilearn_bbam.runs.reader import Run

# Settings in which runs of one method may differ: where and how it was computed, which samples were drawn, and what is
# only reported. Data and labelled share are the setting of a run.
NO_METHOD = {option.name for option in OPTIONS if option.group == "run"}
NO_METHOD |= {"data_dir", "num_workers", "eval_batch_size", "cache", "cache_dir", "verify_images", "split_file"}
NO_METHOD |= {"dataset", "feature_file", "manifest", "label_ratio", "num_labels"}
NO_METHOD |= {"report_figures", "report_pseudo_label_quality"}
MAX_NAMED = 3  # a name of more options than these would be longer than a legend is wide
PLACE = re.compile(r"(_[\d.]+pct|_\d+lb|_all|_split)?_s\d+$")


@dataclass(frozen=True, eq=False)
class Method:
    """Runs under one name, which has the same style in all pictures made together."""

    name: str
    style: Style
    runs: tuple[Run, ...]

    @property
    def hidden_labels(self) -> str:
        """Which hidden labels were given away to the method: `none`, `all`, or some by a `leak`."""
        kinds = (run.results.get("hidden_labels", "none") for run in self.runs)
        return next((kind for kind in kinds if kind != "none"), "none")

    @property
    def title(self) -> str:
        """The name, marked as in tables where hidden labels were given away to the method."""
        return printed_name({"hidden_labels": self.hidden_labels}, self.name)

    def only(self, keep: Callable[[Run], bool]) -> Method:
        return replace(self, runs=tuple(run for run in self.runs if keep(run)))


def read_methods(folders: Iterable[str | Path], names: Mapping[str, str] | None = None) -> list[Method]:
    """The methods of run folders, in the order of the folders.

    names: the method's name for a folder (its last part). Without it a method has the name of its algorithm and,
    where runs of that algorithm in one setting differ in options, by these. RunError for a folder that is no run, and
    for two runs that differ in nothing but their folder.
    """
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}
    runs = [Run.read(path) for path in paths.values()]
    default_names = _names(runs)
    groups: dict[str, dict[tuple[Any, ...], Run]] = {}
    for run in runs:
        name = (names or {}).get(run.folder.name) or default_names[run]
        twin = groups.setdefault(name, {}).setdefault((*run.setting, run.seed), run)
        if twin is not run:
            raise RunError(
                f"'{twin.folder}' and '{run.folder}' are both {name} on {' '.join(run.setting)} with seed {run.seed}; "
                "leave one out"
            )
    return [
        Method(name, Style.of(number), tuple(sorted(runs_of.values(), key=lambda run: run.seed)))
        for number, (name, runs_of) in enumerate(groups.items())
    ]


def _names(runs: Sequence[Run]) -> dict[Run, str]:
    differing: dict[tuple[str, str], dict[str, None]] = {}
    for algorithm, data, share in dict.fromkeys((run.algorithm, *run.setting) for run in runs):
        group = [run for run in runs if (run.algorithm, *run.setting) == (algorithm, data, share)]
        differing.setdefault((algorithm, data), {}).update(dict.fromkeys(differing_options(group)))
    names = {}
    for run in runs:
        options = differing[run.algorithm, run.setting[0]]
        values = (f"{key} {plain(run.settings.get(key))}" for key in options)
        name = ", ".join([run.algorithm, *values])
        names[run] = name if len(options) <= MAX_NAMED else PLACE.sub("", run.folder.name)
    return names


def differing_options(runs: Sequence[Run]) -> list[str]:
    """Options of the method in which these runs do not all agree."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if key not in NO_METHOD and len({str(run.settings.get(key)) for run in runs}) > 1]


def plain(value: Any) -> str:
    """A setting in words, numbers without needless digits."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def having(methods: Sequence[Method], keep: Callable[[Run], bool]) -> list[Method]:
    """Methods with those of their runs that `keep` accepts, without methods of which none remains."""
    return [subset for method in methods if (subset := method.only(keep)).runs]


def settings_of(methods: Sequence[Method]) -> list[tuple[str, str]]:
    """Settings of the runs of these methods, in order."""
    return sorted({run.setting for method in methods for run in method.runs}, key=_by_number)


def _by_number(setting: tuple[str, str]) -> tuple[str, float, str]:
    number = re.match(r"[\d.]+", setting[1])
    return setting[0], float(number[0]) if number else 0.0, setting[1]


def comparable(methods: Sequence[Method], needed: str, keep: Callable[[Run], bool]) -> tuple[list[Method], list[int]]:
    """Methods that have the data of a figure, in one setting, cut down to the seeds that all of them have.

    FigureError where nothing remains (`needed` names the data that a run needs), where the runs have several
    settings, or where the methods have no seed in common.
    """
    present = having(methods, keep)
    if not present:
        raise FigureError(f"no run has {needed}")
    settings = settings_of(present)
    if len(settings) > 1:
        listed = ", ".join(" ".join(setting) for setting in settings)
        raise FigureError(f"the runs are of several settings ({listed}); give those of one")
    return common_seeds(present)


def common_seeds(methods: Sequence[Method]) -> tuple[list[Method], list[int]]:
    """The same methods, cut down to the seeds that all of them have in every setting that they have."""
    places: dict[tuple[str, ...], set[int]] = {}
    for method in methods:
        for run in method.runs:
            places.setdefault((method.name, *run.setting), set()).add(run.seed)
    seeds = sorted(set.intersection(*places.values())) if places else []
    if not seeds:
        raise FigureError("the methods have no seed in common, so they cannot be compared fairly")
    return having(methods, lambda run: run.seed in seeds), seeds
