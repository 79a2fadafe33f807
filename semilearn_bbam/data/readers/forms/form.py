"""What a form of data is: how it is recognised and how it is read."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semilearn_bbam.data.readers.entries import Entries


@dataclass(frozen=True)
class Form:
    """A form in which people have labelled images.

    `matches(path)` says whether a file or a folder is of this form; it raises nothing. `read(root, path, part,
    settings)` gives its entries: `root` is data_dir, below which all images are, and `part` ("training", "test" or
    "unlabelled") is what problems call them. `read` raises DataError for data that cannot be used as a whole.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Path, str, Namespace], Entries]
