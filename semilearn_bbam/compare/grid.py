"""A grid of runs: methods x datasets x label ratios x seeds, and how it is printed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from semilearn_bbam.compare.paths import without_folders
from semilearn_bbam.config import ConfigError, config_words


@dataclass(frozen=True)
class Job:
    """One run: its method, dataset, ratio and seed, and the command line (without the program) that makes it.

    options: those words of the command line that the method, the dataset, the ratio and the seed do not explain,
    with files for paths; config: the file that it begins with, relative to the grid's folder of configs.
    """

    method: str
    dataset: str
    label_ratio: float
    seed: int
    argv: tuple[str, ...]
    options: tuple[str, ...] = ()
    config: str = ""


@dataclass(frozen=True)
class Block:
    """Methods x datasets x label ratios x seeds."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    label_ratios: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """A method with further options, which a grid compares under its own name."""

    method: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Printing:
    """The output of a comparison.

    tables: rows of each table (empty: one of all methods); names: printed names of methods; effects: pairs of
    methods of which the second has what is named; figures: methods that are drawn (empty: all); floors and ceilings:
    methods that train on the labelled rows alone, and on the labels of all rows, of which in each column the best ones
    are the two ends of the gap that a method may close, and of which the best floor says how many labels a method saves
    (empty: neither); flagship: the method whose lead over the best other one is tested, members of its flagship_family
    left out ("": none); judged_on: `test`, or `validation` where settings are chosen, of which nothing of the test set
    is written; cards: whether the tables of single methods in the documents are drawn from this grid.
    """

    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    effects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    ceilings: tuple[str, ...] = ()
    flagship: str = ""
    flagship_family: tuple[str, ...] = ()
    judged_on: str = "test"
    cards: bool = False


@dataclass(frozen=True)
class Grid:
    """Blocks of runs.

    configs: the folder in which `config_words` finds the config of a run; options: those of all runs; ratio_options:
    those of all runs of a label ratio; variants: what these method names mean; tuned: whether the folder `tuned` is
    looked in.
    """

    blocks: tuple[Block, ...]
    configs: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio_options: Mapping[float, Mapping[str, Any]] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    printing: Printing = field(default_factory=Printing)
    tuned: bool = True

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.datasets))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.methods))

    def variant(self, name: str) -> Variant:
        """What a name in `methods` means: a variant, or the method of that name unchanged."""
        return self.variants.get(name, Variant(name, {}))

    def jobs(self, data_dirs: Mapping[str, str], save_dir: str | Path, further: tuple[str, ...] = ()) -> list[Job]:
        """All runs, one seed of all methods after the other, so that an interrupted grid compares what it has.

        data_dirs: folder of each dataset; further: options for every run. Those of the grid win over these, those of a
        label ratio over the grid's, and those of a variant over all. A run of several blocks is made once. A folder's
        name depends on the run and not on the grid, so that grids in one `save_dir` share their runs.
        ConfigError for a dataset without a folder or a config, or two methods that are the same run.
        """
        missing = [name for name in self.datasets if name not in data_dirs]
        if missing:
            raise ConfigError(f"--data_dir: where is {missing[0]}? give --data_dir {missing[0]}=FOLDER")
        jobs: dict[str, Job] = {}
        for block in self.blocks:
            for seed, ratio, dataset, method in product(block.seeds, block.label_ratios, block.datasets, block.methods):
                variant = self.variant(method)
                start = config_words(self.configs, variant.method, dataset, self.tuned)
                grid_options = {**self.options, **self.ratio_options.get(ratio, {}), **variant.options}
                words = (*further, *as_argv(grid_options))
                options = tuple(without_folders(word) for word in words)
                name = f"{variant.method}_{dataset}_{100 * ratio:g}pct_s{seed}{digest(options)}"
                argv = [*start, "--data_dir", data_dirs[dataset], "--seed", str(seed)]
                argv += ["--label_ratio", str(ratio), "--save_dir", str(save_dir), "--save_name", name]
                argv += ["--num_threads", "1"]  # as many runs as cores
                config = Path(start[1]).relative_to(self.configs).as_posix()
                job = Job(method, dataset, ratio, seed, (*argv, *words), options, config)
                if jobs.setdefault(name, job).method != method:
                    raise ConfigError(
                        f"{jobs[name].method} and {method} are the same run (of files the names count, "
                        f"not the folders); keep one of them, or rename a file"
                    )
        return sorted(jobs.values(), key=lambda job: job.seed)  # stable: within a seed the order of the file stays


def as_argv(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as words of a command line."""
    words = ((f"--{key}", str(value).lower() if isinstance(value, bool) else str(value))
             for key, value in sorted(options.items()))  # fmt: skip
    return tuple(word for pair in words for word in pair)


def digest(options: tuple[str, ...]) -> str:
    """A short hash of these words for a name; empty without words."""
    return f"_{hashlib.sha256(' '.join(options).encode()).hexdigest()[:8]}" if options else ""
