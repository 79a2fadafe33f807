"""The content of a dataset, in words: counts, label frequencies, overlaps, bad and suspicious items by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Source, known_cells
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.problems import describe


def describe_source(source: Source) -> str:
    """Counts, cardinality (labels per item), density (cardinality / K), distinct label sets, and label frequencies.

    All of known cells; where some are unknown, also how many, in all and of each label.
    """
    unlabelled = len(source.train) - len(source.targets)
    parts = (("training", source.targets), ("test", source.test_targets))
    lines = [f"dataset {source.name} ({source.kind}), {len(source.label_names)} labels"]
    lines += [f"  {note}" for note in source.notes]
    lines += ["", f"{'':28}{'training':>12}{'test':>12}"]
    rows = {
        "items with labels": [f"{len(targets)}" for _, targets in parts],
        "items for the pool only": [f"{unlabelled}", "-"],
        "labels per item": [f"{_cardinality(targets):.3f}" for _, targets in parts],
        "density": [f"{_cardinality(targets) / targets.shape[1]:.4f}" for _, targets in parts],
        **_unknown_cells([targets for _, targets in parts]),
        "distinct label sets": [f"{len(np.unique(targets, axis=0))}" for _, targets in parts],
        "items without any label": [f"{int((~(targets != 0).any(1)).sum())}" for _, targets in parts],
    }
    lines += [f"{name:28}{first:>12}{second:>12}" for name, (first, second) in rows.items()]
    counts = [(targets > 0).sum(0) for _, targets in parts]
    known = [known_cells(targets).sum(0) for _, targets in parts]
    partly = any((n < len(targets)).any() for n, (_, targets) in zip(known, parts, strict=True))
    columns = ("training", "test", *(("unknown", "in test") if partly else ()))
    lines += ["", f"{'label':28}" + "".join(f"{column:>19}" for column in columns)]
    for k in np.argsort(-counts[0], kind="stable"):
        shares = [f"{n[k]} ({100 * n[k] / max(of[k], 1):.2f} %)" for n, of in zip(counts, known, strict=True)]
        if partly:
            shares += [f"{len(targets) - n[k]}" for n, (_, targets) in zip(known, parts, strict=True)]
        lines.append(f"{_short(source.label_names[k]):28}" + "".join(f"{share:>19}" for share in shares))
    return "\n".join(lines)


def _unknown_cells(parts: Sequence[NDArray[np.float32]]) -> dict[str, list[str]]:
    """The row of unknown cells, where there are any."""
    shares = [1 - known_cells(targets).mean() if targets.size else 0.0 for targets in parts]
    return {"unknown cells": [f"{100 * share:.2f} %" for share in shares]} if any(shares) else {}


def suspicious_items(source: Source, cache_dir: str = "") -> list[str]:
    """Sentences on what is allowed but may be a mistake, with names: useless labels, equal items, overlaps of parts."""
    lines = list(_useless_labels(source))
    train, test = content_keys(source.train, source.test, cache_dir=cache_dir)
    groups = _groups(train)
    names = [source.item_name("train", row) for row in range(len(source.train))]
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    lines += _line(
        "training items that occur more than once", (" = ".join(names[r] for r in rows) for rows in repeated)
    )
    labelled = len(source.targets)
    contradicting = [rows for rows in repeated if rows[-1] < labelled and _contradicting(source.targets[rows])]
    lines += _line(
        "equal training items with different labels", (" = ".join(names[r] for r in rows) for rows in contradicting)
    )
    repeated_test = [rows for rows in _groups(test).values() if len(rows) > 1]
    lines += _line(
        "test items that occur more than once",
        (" = ".join(source.item_name("test", row) for row in rows) for rows in repeated_test),
    )
    lines += _line(
        "test items that are in the training part too",
        (f"{source.item_name('test', row)} = {names[groups[key][0]]}" for row, key in enumerate(test) if key in groups),
    )
    return lines


def check_report(source: Source, cache_dir: str = "") -> tuple[str, bool]:
    """The whole report, and whether no bad item was found."""
    pieces = [describe_source(source), ""]
    suspicious = suspicious_items(source, cache_dir)
    pieces += ["suspicious:", *(f"- {line}" for line in suspicious)] if suspicious else ["nothing suspicious"]
    bad = describe(source.problems, shown=len(source.problems))
    pieces += (
        ["", "bad (bad_data: fail stops here, skip leaves them out):", *(f"- {line}" for line in bad)] if bad else []
    )
    return "\n".join([*pieces, "" if bad else "no bad item"]), not bad


def _useless_labels(source: Source) -> Iterator[str]:
    for part, targets in (("training", source.targets), ("test", source.test_targets)):
        positives, known = (targets > 0).sum(0), known_cells(targets).sum(0)
        # Of a label with unknown cells the negatives are those that are known.
        kinds = {"no positive": positives == 0, "no negative": positives == known}
        if part == "training":
            kinds["a single positive"] = positives == 1
        for problem, mask in kinds.items():
            yield from _line(
                f"labels with {problem} in the {part} part", (source.label_names[k] for k in np.flatnonzero(mask))
            )
    names_of: dict[bytes, list[str]] = defaultdict(list)
    for column, name in zip(np.asarray(source.targets).T, source.label_names, strict=True):
        if (column > 0).any():
            names_of[column.tobytes()].append(name)
    equal = (" = ".join(names) for names in names_of.values() if len(names) > 1)
    yield from _line("labels that are positive on exactly the same training items", equal)


def _line(title: str, names: Iterable[str]) -> list[str]:
    listed = list(names)
    return [f"{len(listed)} {title}: {', '.join(listed)}"] if listed else []


def _groups(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    return groups


def _cardinality(targets: NDArray[np.float32]) -> float:
    known = known_cells(targets)
    if known.all():
        return float(targets.sum() / max(len(targets), 1))
    return float((targets > 0).sum() / max(known.sum(), 1) * targets.shape[1])


def _contradicting(targets: NDArray[np.float32]) -> bool:
    """Whether a label is positive in one of these rows and negative in another."""
    return bool(((targets == 1).any(axis=0) & (targets == 0).any(axis=0)).any())


def _short(name: str) -> str:
    return name if len(name) <= 27 else name[:26] + "…"
