"""Files that are there under another spelling of their name: a hint for a file that is not found."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from semilearn_bbam.errors import did_you_mean


@lru_cache(maxsize=64)
def _listed(folder: str, changed: int) -> tuple[str, ...]:
    """The names in a folder; `changed`, its time of change, is only a part of the cache's key."""
    return tuple(sorted(os.listdir(folder)))


def _entries(folder: str) -> tuple[str, ...]:
    """The names in a folder; none where it cannot be read."""
    try:
        return _listed(folder, os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):  # not there, not readable, or no name of a folder
        return ()


def fold(name: str) -> str:
    """A name without what spellings differ in: case, outer blanks and Unicode form."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def _stem(name: str) -> str:
    return os.path.splitext(fold(name))[0]


def _only(candidates: list[str]) -> str:
    return candidates[0] if len(candidates) == 1 else ""


def _entry(folder: str, name: str, *, is_last: bool) -> str:
    """The entry of a folder that a name means: itself, else the only one that it folds to, with or without a suffix."""
    entries = _entries(folder)
    if name in entries or name == "..":
        return name
    same = _only([entry for entry in entries if fold(entry) == fold(name)])
    keys: tuple[Callable[[str], str], ...] = (_stem, fold) if is_last else ()
    for key in keys:  # another extension, then none
        same = same or _only([entry for entry in entries if _stem(entry) == key(name)])
    return same


def find_spelling(path: str) -> str:
    """The file that a path means under another spelling, as a path; an empty text where there is none, or several.

    Backslashes are read as slashes; case, blanks around names, Unicode form and a missing or another extension do not
    count.
    """
    for separated in (path, path.replace("\\", "/")):
        parts = separated.split("/")
        found = "/" if separated.startswith("/") else "."
        names = [part for part in parts if part not in ("", ".")]
        for number, name in enumerate(names):
            entry = _entry(found, name, is_last=number == len(names) - 1)
            if not entry:
                break
            found = entry if found == "." else os.path.join(found, entry)
        else:
            if names and os.path.isfile(found) and found != path:
                return found
    return ""


def spelling_hint(path: str) -> str:
    """The name under which a file that is not found is there, in words, or an empty text."""
    spelling = find_spelling(path)
    if not spelling:
        return ""
    folder, name = os.path.split(spelling)
    return f"'{name}' is there" if folder == os.path.dirname(path) else f"'{_end(spelling, path)}' is there"


def _end(spelling: str, path: str) -> str:
    """The end of a path that begins where the other path differs, with whole names."""
    common = os.path.commonprefix([spelling, path])
    return spelling[common.rfind("/") + 1 :]


def hint_for(path: Path, otherwise: str) -> str:
    """The end of a sentence about a file that is not there: its other spelling, the nearest name, or the advice."""
    if spelling := spelling_hint(str(path)):
        return spelling
    missing = path
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    near = did_you_mean(missing.name, _entries(str(missing.parent)))
    if near and missing != path:
        return f"there is no folder {missing.name}; {near}"
    return near or otherwise
