"""The content of a dataset, in words: counts, label frequencies, overlaps, bad and suspicious items by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Source, known_cells
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.suspicious import cardinality, suspicious_items


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
        "labels per item": [f"{cardinality(targets):.3f}" for _, targets in parts],
        "density": [f"{cardinality(targets) / targets.shape[1]:.4f}" for _, targets in parts],
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


def _short(name: str) -> str:
    return name if len(name) <= 27 else name[:26] + "…"
