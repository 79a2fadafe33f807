"""The files below a folder, links to folders included."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.errors import first_few

SHOWN = 5


@dataclass
class FolderFiles:
    """Files below a folder by name, and what its links are: followed, a second way to a folder, or leading nowhere."""

    files: list[Path] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def notes(self, folder: str | Path) -> list[str]:
        """A sentence on each kind of link that there is."""
        kinds = (
            (self.followed, "followed {} link(s) to folders in"),
            (self.repeated, "left out {} link(s) to folders that are read already in"),
            (self.broken, "left out {} link(s) that lead nowhere in"),
        )
        return [f"{words.format(len(names))} {folder}: {first_few(names, SHOWN)}" for names, words in kinds if names]


def files_below(folder: str | Path) -> FolderFiles:
    """All files below a folder in the order of their paths, hidden files and folders apart.

    A link to a folder is followed; every folder is read once, under its own name where it has one below `folder`.
    DataError for a folder that cannot be read.
    """
    found, base = FolderFiles(), Path(folder)
    waiting, links = deque([base]), deque[Path]()
    seen = set()
    while waiting or links:
        current = waiting.popleft() if waiting else links.popleft()
        is_link = current != base and current.is_symlink()
        name = current.relative_to(base).as_posix()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                found.repeated.append(name)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = current / entry.name
                    if entry.name.startswith("."):
                        continue
                    if path.is_dir():
                        (links if entry.is_symlink() else waiting).append(path)
                    elif path.is_file():
                        found.files.append(path)
                    elif entry.is_symlink():
                        found.broken.append(path.relative_to(base).as_posix())
        except OSError as error:
            raise DataError(f"{current} cannot be read ({error.strerror}); check its rights") from error
        if is_link:
            found.followed.append(name)
    found.files.sort()
    return found
