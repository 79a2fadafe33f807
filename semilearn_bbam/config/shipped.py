"""Which file of a folder of configs trains a method on a dataset."""

from __future__ import annotations

from pathlib import Path

from .yaml_loader import ConfigError


def config_words(folder: Path, method: str, dataset: str, tuned: bool = True) -> tuple[str, ...]:
    """The words of a command line that train a method on a dataset, as the configs in `folder` set it up.

    The method's file is `tuned/<method>_<dataset>.yaml` or else `<method>_<dataset>.yaml`; where there is neither, it
    is the dataset's, `data/<dataset>.yaml`, with `--algorithm`. ConfigError where that does not exist either. Without
    `tuned` that folder is passed over: a search of settings starts where none were chosen.
    """
    name = f"{method}_{dataset}.yaml"
    for path in (*((folder / "tuned" / name,) if tuned else ()), folder / name):
        if path.is_file():
            return ("--c", str(path))
    path = folder / "data" / f"{dataset}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no config for dataset {dataset!r}: neither '{path}' nor '{folder / name}'")
    return ("--c", str(path), "--algorithm", method)
