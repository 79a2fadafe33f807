"""A grid of runs, read from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from semilearn_bbam.config import ConfigError, load_yaml

KEYS = ("methods", "datasets", "label_ratios", "seeds")


@dataclass(frozen=True)
class Job:
    """One run: its method, data set, ratio and seed, and the command line (without the program) that makes it."""

    method: str
    dataset: str
    label_ratio: float
    seed: int
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Methods x data sets x label ratios x seeds; the config of a run is `<method>_<data set>.yaml` in `configs`."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    label_ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    configs: Path

    def config(self, method: str, dataset: str) -> Path:
        return self.configs / f"{method}_{dataset}.yaml"

    def jobs(self, data_dirs: Mapping[str, str], save_dir: str | Path, further: tuple[str, ...] = ()) -> list[Job]:
        """All runs, one seed of all methods after the other, so that an interrupted grid compares what it has.

        data_dirs: folder of each data set; further: options that every run gets. ConfigError for a data set without
        a folder, or a method without a config for a data set.
        """
        missing = [name for name in self.datasets if name not in data_dirs]
        if missing:
            raise ConfigError(f"--data_dir: where is {missing[0]}? give --data_dir {missing[0]}=FOLDER")
        wanted = [self.config(method, dataset) for method, dataset in product(self.methods, self.datasets)]
        gone = [path for path in wanted if not path.is_file()]
        if gone:
            raise ConfigError(f"there is no config '{gone[0]}'; remove the method or the data set from the grid")
        found = []
        for seed, ratio, dataset, method in product(self.seeds, self.label_ratios, self.datasets, self.methods):
            name = f"{method}_{dataset}_{100 * ratio:g}pct_s{seed}"
            argv = ["--c", str(self.config(method, dataset)), "--data_dir", data_dirs[dataset], "--seed", str(seed)]
            argv += ["--label_ratio", str(ratio), "--save_dir", str(save_dir), "--save_name", name, *further]
            found.append(Job(method, dataset, ratio, seed, tuple(argv)))
        return found


def read_grid(path: str | Path) -> Grid:
    """The grid in a YAML file: `methods`, `datasets`, `label_ratios` and `seeds`, each a list without repetition.

    Configs are looked for in the folder above the file's. ConfigError names every fault.
    """
    values = load_yaml(path)
    problems = [f"{item.where}: unknown key {key!r}; a grid has {', '.join(KEYS)}"
                for key, item in values.items() if key not in KEYS]  # fmt: skip
    kinds: dict[str, tuple[type, ...]] = {"label_ratios": (float, int), "seeds": (int,)}
    lists: dict[str, tuple[Any, ...]] = {}
    for key in KEYS:
        if key not in values:
            problems.append(f"{path}: {key} is missing; write '{key}: [..]'")
            continue
        value, where = values[key].value, values[key].where
        kind = kinds.get(key, (str,))
        if not isinstance(value, list) or not value or any(type(entry) not in kind for entry in value):
            problems.append(f"{where}: {key} must be a list of {'names' if kind == (str,) else 'numbers'}")
        elif len(set(value)) < len(value):
            problems.append(f"{where}: {key} names something twice")
        else:
            lists[key] = tuple(value)
    if "label_ratios" in lists and not all(0 < ratio <= 1 for ratio in lists["label_ratios"]):
        problems.append(f"{values['label_ratios'].where}: label_ratios must lie between 0 and 1")
    if problems:
        raise ConfigError("\n".join(problems))
    configs = Path(path).resolve().parents[1]
    return Grid(lists["methods"], lists["datasets"], lists["label_ratios"], lists["seeds"], configs)
