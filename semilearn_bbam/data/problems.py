"""Bad items: every kind, with its cure, and what `bad_data: fail | skip` does about them."""

from __future__ import annotations

from collections.abc import Iterable

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.errors import first_few

# kind -> (what the items are, after their number in a message; a cure other than fixing or removing them)
KINDS = {
    "missing": ("image file(s) missing", "check data_dir"),
    "unreadable": ("image(s) that cannot be decoded", ""),
    "bomb": ("image(s) with more pixels than Pillow decodes safely", "scale them down"),
    "mode": ("image(s) in a mode that is not RGB or grey", "set image_modes: convert"),
    "range": ("image(s) in 16-bit colour with values of 12 bits", "save them with 8 bits"),
    "outside": ("path(s) that leave data_dir", "write paths below data_dir"),
    "row": ("row(s) that cannot be read", ""),
    "label": ("item(s) with a label out of range", ""),
    "no_label": (
        "item(s) without any label",
        "set empty_labels: negative if none applies to them, or pool if they are unlabelled",
    ),
    "empty_text": ("empty text(s)", ""),
    "not_finite": ("vector(s) with a value that is not finite", ""),
    "in_test": ("training or unlabelled item(s) that are in the test part too", ""),
}
SHOWN = 20  # names per kind in a message; `data check` prints all
LONGEST = 300  # characters of a name or a detail in a message


def describe(problems: Iterable[Problem], shown: int = SHOWN) -> list[str]:
    """One line per kind: how many, and which, the first `shown` of them by name."""
    by_kind: dict[str, list[str]] = {}
    for problem in problems:
        detail = f" ({_plain(problem.detail)})" if problem.detail else ""
        by_kind.setdefault(problem.kind, []).append(f"{problem.part} {_plain(problem.item)}{detail}")
    lines = []
    for kind in (kind for kind in KINDS if kind in by_kind):
        names = by_kind[kind]
        lines.append(f"{len(names)} {KINDS[kind][0]}: {first_few(names, shown)}")
    return lines


def _plain(text: str) -> str:
    """The text on one line, without control characters, and cut where it is very long."""
    line = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[:LONGEST])
    return line if len(text) <= LONGEST else f"{line}..."


def settle(name: str, problems: tuple[Problem, ...], policy: str) -> list[str]:
    """Under `fail` a DataError with every kind, count and name; under `skip` the same as notes, one per kind."""
    if not problems:
        return []
    lines = describe(problems)
    if policy == "skip":
        return [f"left out {line}" for line in lines]
    cures = dict.fromkeys(KINDS[problem.kind][1] for problem in problems)
    cure = ", or ".join(["fix or remove them", *(text for text in cures if text)])
    raise DataError(
        f"dataset {name!r} has {len(problems)} bad item(s): " + "; ".join(lines) + f". To go on, {cure}, "
        f"or set bad_data: skip to train without them ('python -m semilearn_bbam data check' lists all)"
    )
