"""Every image file decoded once: what is wrong with it, and the notes on those that are changed on reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.fingerprint import files_key
from semilearn_bbam.data.images import ODD_MODES, ImageFiles, Inspection, inspect_image
from semilearn_bbam.data.pixels import Range, natural_range, parse_range
from semilearn_bbam.data.problems import SHOWN
from semilearn_bbam.data.remember import remembered
from semilearn_bbam.errors import first_few
from semilearn_bbam.util.progress import in_threads

Inspections = dict[str, NDArray[Any]]


def verify_images(files: ImageFiles, cache_dir: str) -> Inspections:
    """The fields of `Inspection`, an array [N] each, of all files; checked once, then remembered."""

    def inspect_all() -> Inspections:
        return as_arrays(in_threads(lambda row: inspect_image(files.paths[row]), len(files), "verifying images"))

    return remembered(cache_dir, "verified", files_key(files.paths, *Inspection._fields), inspect_all)


def as_arrays(inspections: Sequence[Inspection]) -> Inspections:
    """A field of all inspections per array."""
    types = {field: type(value) for field, value in Inspection("", "")._asdict().items()}
    return {field: np.array([getattr(one, field) for one in inspections], dtype=kind) for field, kind in types.items()}


def with_range(source: Source, value_range: Range | None) -> Source:
    """The source with image files that are scaled from this range; the source itself where it is None."""
    if value_range is None or not isinstance(source.train, ImageFiles) or not isinstance(source.test, ImageFiles):
        return source
    train, test = source.train.paths, source.test.paths
    return replace(source, train=ImageFiles(train, value_range), test=ImageFiles(test, value_range))


def notes_on_images(parts: Sequence[tuple[Inspections, list[str]] | None], image_range: str) -> list[str]:
    """`image_notes` of all parts together; none for a part that was not verified."""
    verified = [part for part in parts if part]
    if not verified:
        return []
    inspections = {field: np.concatenate([part[0][field] for part in verified]) for field in Inspection._fields}
    return image_notes(inspections, [name for part in verified for name in part[1]], parse_range(image_range))


def image_notes(inspections: Inspections, names: Sequence[str], value_range: Range | None = None) -> list[str]:
    """A sentence on each way in which sound images are changed on reading, and on those that show nothing.

    inspections: of the images that are used; names: theirs; value_range: the option `image_range`.
    """

    def listed(mask: NDArray[np.bool_]) -> str:
        return first_few([names[int(row)] for row in np.flatnonzero(mask)], SHOWN)

    deep = ~np.isnan(inspections["low"])
    odd = inspections["mode"][inspections["kind"] == "mode"]
    converted = Counter(ODD_MODES.get(str(mode), str(mode)) for mode in odd)
    notes = []
    if converted:
        notes.append(f"converted to RGB: {_counts(converted)} image(s) (image_modes: strict refuses them)")
    if deep.any():
        notes += _range_notes(inspections, deep, value_range, listed)
    for field, words in (
        ("turned", "turned upright by EXIF orientation"),
        ("transparent", "put on white, being transparent"),
    ):
        if inspections[field].any():
            notes.append(f"{words}: {inspections[field].sum()} image(s)")
    for field, words in (
        ("several", "file(s) with several pictures, of which the first is used"),
        ("constant", "image(s) with one value everywhere, which show nothing"),
    ):
        if inspections[field].any():
            notes.append(f"{inspections[field].sum()} {words}: {listed(inspections[field])}")
    return notes


def _range_notes(inspections: Inspections, deep: NDArray[np.bool_], fixed: Range | None, listed: Any) -> list[str]:
    """From which range how many images of more than 8 bits are scaled."""
    low, high = inspections["low"], inspections["high"]
    if fixed is not None:
        outside = deep & ((low < fixed[0]) | (high > fixed[1]))
        cut = f"; cut, being partly outside: {outside.sum()}: {listed(outside)}" if outside.any() else ""
        return [f"scaled to 8 bits from {_words(fixed)} (image_range): {deep.sum()} image(s){cut}"]
    ranges: Counter[str] = Counter()
    alone = np.zeros_like(deep)
    for row in np.flatnonzero(deep):
        natural = natural_range(low[row], high[row], inspections["mode"][row] == "F")
        if natural:
            ranges[_words(natural)] += 1
        else:
            alone[row] = low[row] < high[row]
    notes = []
    if ranges:
        counts = ", ".join(f"{count} from {words}" for words, count in ranges.items())
        notes.append(f"scaled to 8 bits: {counts} (image_range sets one range for all)")
    if alone.any():
        span = _words((float(low[alone].min()), float(high[alone].max())))
        notes.append(
            f"scaled to 8 bits, each from its own lowest to its own highest value, so that brightness does not compare "
            f"between them: {alone.sum()} image(s), values {span} (image_range: 'LOW HIGH' sets one range): "
            f"{listed(alone)}"
        )
    return notes


def _words(value_range: Range) -> str:
    return f"{value_range[0]:g}..{value_range[1]:g}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))
