"""The data set and the split of a run, read back from where its settings say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.config import Settings
from semilearn_bbam.data import Source, Split, load_source, load_split
from semilearn_bbam.data.dataset import Items, take
from semilearn_bbam.engine.encoding import encoded_fingerprint
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.run import read_settings
from semilearn_bbam.runs.folder import CONFIG, LABELS, SPLIT
from semilearn_bbam.runs.reader import Run


@dataclass(frozen=True, eq=False)
class RunData:
    """The data set of a run and its split.

    `source` holds the items as the data have them: images, texts or vectors, not those of an encoder. `split` has the
    row numbers of its training part, and the fingerprint that the run recorded.
    """

    record: Run
    settings: Settings
    source: Source
    split: Split

    @property
    def labeled(self) -> Items:
        """The labelled items of the run, in the order of `split.labeled`."""
        return take(self.source.train, self.split.labeled)

    @property
    def targets(self) -> NDArray[np.float32]:
        """Targets [L,K] of the labelled items: 0, 1 or -1, which is unknown."""
        return self.source.targets[self.split.labeled]

    @property
    def pool(self) -> Items:
        """The unlabelled items of the run, in the order of `split.unlabeled`."""
        return take(self.source.train, self.split.unlabeled)

    @property
    def pool_ids(self) -> list[str]:
        """A name for each item of the pool: its id, else its row number."""
        ids = self.source.train_ids
        return [str(ids[row]) if len(ids) else str(row) for row in self.split.unlabeled]


def load_run_data(folder: str | Path, *, data_dir: str = "") -> RunData:
    """Read the data of a run, and its split.

    Args:
        folder: run folder that training made.
        data_dir: where the data are now; "": where they were in training.

    Returns:
        The data and the rows of each part. Images are files, also where training read them from a cache.

    Raises:
        RunError: a folder that is no run, or data that are no longer those that it was trained on.
        UserError: data that cannot be read.
    """
    record = Run.read(folder)
    words = ["--c", str(record.folder / CONFIG), *(["--data_dir", data_dir] if data_dir else [])]
    settings = read_settings(words).having(cache="none")
    try:
        source = load_source(settings)
    except UserError as error:
        raise RunError(f"the data of '{record.folder}' cannot be read: {error}") from error
    description = record.labels.get("encoding")
    fingerprint = encoded_fingerprint(source, description) if description else source.fingerprint
    path = record.folder / SPLIT
    if not path.is_file():
        raise RunError(f"'{record.folder}' has no {SPLIT}; rerun it")
    try:
        split = load_split(path, len(source.train), fingerprint, len(source.targets))
    except UserError as error:
        raise RunError(
            f"the data are no longer those that '{record.folder}' was trained on ({error}); restore them, or rerun it"
        ) from error
    if list(source.label_names) != list(map(str, record.labels["label_names"])):
        raise RunError(f"the labels of the data differ from those in '{record.folder / LABELS}'; rerun it")
    return RunData(record, settings, source, split)


def same_pool(runs: Sequence[RunData]) -> None:
    """RunError unless all runs have the same unlabelled items."""
    first = runs[0]
    for other in runs[1:]:
        is_same = first.source.fingerprint == other.source.fingerprint
        if not is_same or not np.array_equal(first.split.unlabeled, other.split.unlabeled):
            raise RunError(
                f"'{first.record.folder}' and '{other.record.folder}' have different pools; give the items as a file "
                "or a folder"
            )
