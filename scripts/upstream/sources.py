"""Files of the pull request that come from this package: functions from its sources, a table from its archive.

The functions have one home, `semilearn_bbam`; upstream gets them with shorter docstrings and without the parts that
only this package needs. What is left out is named here word for word, so that a change of the sources is noticed.
"""

from __future__ import annotations

import ast
import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LICENCE = "# Copyright (c) Microsoft Corporation.\n# Licensed under the MIT License.\n"
DROPPED_SECTIONS = ("Raises", "Example", "Shapes")
_SECTION = re.compile(r"( *)(\w+):\n")
_SLIDES = re.compile(r" \(slides, '[^']+'\)")  # upstream has no slides


@dataclass(frozen=True)
class Part:
    """A function, class or constant of a module, and how upstream's differs.

    Args:
        module: its file below `semilearn_bbam`, without the suffix.
        name: its name.
        members: methods of a class to keep; None: all.
        changes: pairs of text to replace and its replacement, in this order, after the docstrings are shortened.
    """

    module: str
    name: str
    members: Sequence[str] | None = None
    changes: Sequence[tuple[str, str]] = ()


def extract(part: Part, root: Path = ROOT) -> str:
    """The text of `part` as upstream has it; ValueError where the sources no longer have what it names."""
    path = root / "semilearn_bbam" / f"{part.module}.py"
    source = path.read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(source).body if part.name in _names(node)]
    if len(nodes) != 1:
        raise ValueError(f"{path} must define {part.name} once, found {len(nodes)}")
    text = _SLIDES.sub("", _shortened(nodes[0], source.splitlines(keepends=True), part.members))
    for old, new in part.changes:
        if text.count(old) != 1:
            raise ValueError(f"{part.name} of {path} must have this once, found {text.count(old)}:\n{old}")
        text = text.replace(old, new)
    return text


def python_file(imports: str, parts: Sequence[Part], root: Path = ROOT) -> str:
    """A file of upstream: the licence, the imports, and the parts in order."""
    texts = [extract(part, root) for part in parts]
    defined = [text.startswith(("def ", "class ", "@")) for text in texts]
    spaces = ["\n\n" if this or before else "\n" for this, before in zip(defined, [False, *defined], strict=False)]
    return f"{LICENCE}\n{imports}" + "".join(space + text for space, text in zip(spaces, texts, strict=True))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]


def _lines(node: ast.stmt) -> range:
    """Numbers of the lines of a definition, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return range(min([node.lineno, *(decorator.lineno for decorator in decorators)]), (node.end_lineno or 0) + 1)


def _shortened(node: ast.stmt, lines: Sequence[str], members: Sequence[str] | None) -> str:
    """The lines of a definition, with the comments above it, shorter docstrings, and only some methods of a class."""
    first = _lines(node).start
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    kept = {number: lines[number - 1] for number in range(first, _lines(node).stop)}
    if members is not None:
        methods = {item.name: item for item in getattr(node, "body", []) if isinstance(item, ast.FunctionDef)}
        if missing := set(members) - set(methods):
            raise ValueError(f"found no {', '.join(sorted(missing))} in the class at line {node.lineno}")
        for name in set(methods) - set(members):
            del kept[_lines(methods[name]).start - 1]  # the empty line above
            for number in _lines(methods[name]):
                del kept[number]
    for item in ast.walk(node):
        if isinstance(item, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(item) is not None:
            numbers = _lines(item.body[0])
            if numbers.start in kept:
                text = _short_docstring("".join(kept.pop(number) for number in numbers))
                kept[numbers.start] = text
    return "".join(kept[number] for number in sorted(kept))


def _short_docstring(text: str) -> str:
    """A docstring, with its quotes, without the dropped sections."""
    lines = text.splitlines(keepends=True)
    if len(lines) == 1:
        return text
    indent, dropping = len(lines[0]) - len(lines[0].lstrip()), False
    kept: list[str] = []
    for line in lines[:-1]:
        section = _SECTION.fullmatch(line)
        if section and len(section[1]) == indent:
            dropping = section[2] in DROPPED_SECTIONS
        if not dropping:
            kept.append(line)
    return "".join(kept).rstrip() + "\n" + lines[-1]


# ---------------------------------------------------------------------- the functions of BBAM

_BBAM_IMPORTS = """\
from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from semilearn.core.criterions import bce_loss
"""
_MARGIN_ON = '        margin_on: "both" or "positive", see `angular_logits`.\n'
BBAM_PARTS = (
    Part("angles", "COSINE_MARGIN"),
    Part("angle_statistics", "MIN_VARIANCE"),
    Part("tensors", "full_precision"),
    Part("tensors", "without_autocast"),
    Part("angles", "safe_arccos"),
    Part("angles", "_unit_rows"),
    Part(
        "angles",
        "cosine_similarity_matrix",
        changes=[('    _require_same_width(features, vectors, "vectors", dim=1)\n', "")],
    ),
    Part(
        "angles",
        "label_prototypes",
        changes=[
            ('    _require_same_width(features, targets, "targets", dim=0)\n', ""),
            ("and 1; values between count as weights, so `targets * valid` leaves entries out.", "and 1."),
        ],
    ),
    Part("nets/heads", "CosinePrototypes"),
    Part(
        "angle_statistics",
        "_moments",
        changes=[
            (", center: Tensor | None, shards: Shards) -> tuple", ") -> tuple"),
            (
                "total, weighted = shards.all_reduce(torch.stack([weights.sum(dim=0), (weights * angles).sum(dim=0)]))",
                "total = weights.sum(dim=0)",
            ),
            ("mean = weighted / total", "mean = (weights * angles).sum(dim=0) / total"),
            ("    around = mean if center is None else center.to(mean)\n", ""),
            (
                "    squares = shards.all_reduce((weights * (angles - around).square()).sum(dim=0))\n"
                "    variance = squares /",
                "    variance = (weights * (angles - mean).square()).sum(dim=0) /",
            ),
        ],
    ),
    Part("angle_statistics", "_nonzero"),
    Part(
        "angle_statistics",
        "AngleStatistics",
        members=("estimate", "usable", "balance", "_maps"),
        changes=[
            (
                "The four tensors are the whole state. A side (positive or negative) that cannot be used has variance "
                "0, and a\n    label with such a side is not `usable`: it has psi = theta.",
                "A side (positive or negative) that cannot be used has variance 0, and a label with such a side is not "
                "`usable`: it\n    has psi = theta.",
            ),
            (
                "        cls,\n        angles: Tensor,\n        targets: Tensor,\n"
                "        negative_weights: Tensor | None = None,\n"
                "        *,\n        valid: Tensor | None = None,\n"
                "        center: tuple[Tensor, Tensor] | None = None,\n",
                "        cls, angles: Tensor, targets: Tensor, negative_weights: Tensor | None = None\n",
            ),
            (
                "            valid: [N,K] bool; entries where it is False are left out.\n"
                "            center: (mean_pos, mean_neg), each [K]: the variances are taken around these, as the "
                "released code does;\n                the means in the result stay the sample's.\n",
                "",
            ),
            (
                "        require_same_shape(angles=angles, targets=targets, negative_weights=negative_weights, "
                "valid=valid)\n",
                "",
            ),
            (
                "            if valid is not None:\n"
                "                zero = torch.zeros_like(angles)\n"
                "                keep = valid.bool()\n"
                "                angles = torch.where(keep, angles, zero)\n"
                "                positive, negative = torch.where(keep, positive, zero), "
                "torch.where(keep, negative, zero)\n"
                "            return cls.of_sides(angles, positive, negative, center=center)",
                "            return cls(*_moments(angles, positive), *_moments(angles, negative))",
            ),
            (
                "        require_same_shape(theta=theta, targets=targets)\n"
                "        if theta.shape[1:] != self.mean_pos.shape:\n"
                "            labels = len(self.mean_pos)\n"
                '            raise ValueError(f"theta {list(theta.shape)} must have {labels} columns, '
                'one per label")\n',
                "",
            ),
        ],
    ),
    Part(
        "losses",
        "bam_loss",
        changes=[
            (', margin: float, margin_on: str = "both") -> Tensor', ", margin: float) -> Tensor"),
            ("x = angular_logits(c, y)", "x = s (c - m)"),
            (_MARGIN_ON, ""),
            (
                "        logits = angular_logits(cosine, targets, scale=scale, margin=margin, margin_on=margin_on)\n"
                "        return _binary_log_loss(logits, targets.to(logits.dtype))",
                "        return bce_loss(scale * (full_precision(cosine) - margin), targets)",
            ),
        ],
    ),
    Part("losses", "balanced_cosine"),
    Part(
        "losses",
        "bbam_loss",
        changes=[
            (
                "    cosine: Tensor,\n    targets: Tensor,\n    statistics: AngleStatistics,\n    *,\n"
                '    scale: float,\n    margin: float,\n    margin_on: str = "both",\n',
                "    cosine: Tensor, targets: Tensor, statistics: AngleStatistics, *, scale: float, margin: float\n",
            ),
            (_MARGIN_ON, ""),
            ("margin=margin, margin_on=margin_on)", "margin=margin)"),
        ],
    ),
)


def generated(commit: str, root: Path = ROOT) -> dict[str, str]:
    """The files of a commit, `<series>/<folder>`, that are made here: text by path."""
    if commit == "bbam/2_add_s2ml2_bbam":
        return {"semilearn/algorithms/bbam/utils.py": python_file(_BBAM_IMPORTS, BBAM_PARTS, root)}
    if commit == "bbam/4_document_cap_and_s2ml2":
        return {"results/multilabel.csv": results_csv(root)}
    return {}


# ---------------------------------------------------------------------- the table of results

RESULT_ROWS = {  # upstream's name, this package's, and the seeds that results/README.md of upstream states
    "kernel_ridge": ("supervised_kernel", 5),
    "supervised": ("ml_supervised", 5),
    "pseudolabel": ("ml_pseudolabel", 3),
    "fixmatch": ("ml_fixmatch", 3),
    "flexmatch": ("ml_flexmatch", 3),
    "freematch": ("ml_freematch", 3),
    "softmatch": ("ml_softmatch", 5),
    "cap": ("cap", 5),
    "bbam": ("bbam", 5),
}
RESULT_DATASETS = ("corel5k_features", "ohsumed_features")
RESULT_RATIOS = ("0.05", "0.1")


def results_csv(root: Path = ROOT) -> str:
    """Test mAP in percent in the format of upstream's tables, mean±std, the latter that of the population as theirs.

    ValueError where a cell has other seeds than `RESULT_ROWS` states, or runs of different numbers of labelled rows.
    """
    cells: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    labeled: dict[tuple[str, str], set[str]] = defaultdict(set)
    with open(root / "results" / "head_to_head" / "runs.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            column = row["grid_dataset"], row["grid_ratio"]
            cells[(row["method"], *column)][row["seed"]] = 100 * float(row["test/mAP"])
            if row["hidden_labels"] == "none":
                labeled[column].add(row["num_labels"])
    columns = [(dataset, ratio) for dataset in RESULT_DATASETS for ratio in RESULT_RATIOS]
    names = []
    for column in columns:
        if len(labeled[column]) != 1:
            raise ValueError(f"{column} must have one number of labelled rows, found {sorted(labeled[column])}")
        names.append(f"{column[0].removesuffix('_features')}_{next(iter(labeled[column]))}")
    lines = [",".join(["", *names])]
    for name, (method, num_seeds) in RESULT_ROWS.items():
        texts = []
        for column in columns:
            values = cells[(method, *column)]
            if sorted(values) != [str(seed) for seed in range(num_seeds)]:
                raise ValueError(f"{method} on {column} must have the seeds below {num_seeds}, has {sorted(values)}")
            mean, spread = statistics.fmean(values.values()), statistics.pstdev(values.values())
            texts.append(f"{round(mean, 2)}±{round(spread, 2)}")
        lines.append(",".join([name, *texts]))
    return "\n".join(lines) + "\n"
