"""The tables of the check, in Markdown, each with the problems that it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from upstream.series import SERIES, git

MAX_ADDED = 600  # lines of the switch, so that one person can review it
TOLERANCE = 1e-6
LEARNT = 0.9  # mAP; the share of positives is below one half
Table = tuple[str, list[str]]  # text, problems
# Trained with the switch off before and after; the others of USB are too, where they run in main at all.
REQUIRED = ("fixmatch", "flexmatch", "freematch", "softmatch", "pseudolabel", "supervised")


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def added_lines(tree: Path, since: str, until: str) -> int:
    """Lines that a range of commits adds."""
    counts = git(tree, "diff", "--numstat", since, until).splitlines()
    return sum(int(line.split("\t")[0]) for line in counts)


def diffstat(build: Path) -> Table:
    """Files and lines of each series."""
    rows = []
    for series, since in zip(SERIES, ("main", *SERIES), strict=False):
        for line in git(build / "work", "diff", "--numstat", since, series).splitlines():
            added, removed, name = line.split("\t")
            rows.append((series, f"`{name}`", added, removed))
        rows.append((series, "all", added_lines(build / "work", since, series), ""))
    return markdown(("series", "file", "added", "removed"), rows), []


def single_label(results: Mapping[str, Any]) -> Table:
    """Losses of USB's own algorithms on single-label data, in main and with each series."""
    before, *after = [results[f"single {tree}"]["results"] for tree in ("main", *SERIES)]
    rows, problems = [], []
    for name, run in before.items():
        equal = [tree.get(name) == run for tree in after]
        words = ["bit-equal" if same else "DIFFERS" for same in equal]
        problems += [
            f"{name}: differs without the switch in {s}" for s, same in zip(SERIES, equal, strict=True) if not same
        ]
        if "error" in run:
            problems += [f"{name}: {run['error']}"] if name in REQUIRED else []
            rows.append((name, 0, f"fails: {run['error']}", "", *(["the same"] * len(words) if all(equal) else words)))
        else:
            steps, first, last = summary(run)
            rows.append((name, steps, first, last, *words))
    head = ("algorithm", "steps", "first loss", "last loss", "with the switch's series", "with both series")
    return markdown(head, rows), problems


def multilabel(results: Mapping[str, Any]) -> Table:
    """Runs on multi-label data with the switch."""
    alone, both = (results[f"multilabel {series}"]["results"] for series in SERIES)
    problems = [
        f"{name}: differs between the series" for name, run in alone["runs"].items() if both["runs"][name] != run
    ]
    configs = {**alone["configs"], **both["configs"]}
    problems += [f"{name}: {run['error']}" for name, run in configs.items() if "error" in run]
    problems += [f"batches of {name} do not hold the targets" for name, equal in both["batches"].items() if not equal]
    rows = []
    for name, run in both["runs"].items():
        if "error" in run or not all(math.isfinite(float.fromhex(loss)) for loss in run["losses"]):
            problems.append(f"{name}: {run.get('error', 'a loss is not finite')}")
            continue
        printed = run.get("eval.py", "")
        if printed != "" and printed != run["test/best_acc"]:
            problems.append(f"{name}: eval.py prints {printed}, and training {run['test/best_acc']}")
        scores = [f"{score:.4f}" if isinstance(score, float) else score for score in (run["test/best_acc"], printed)]
        rows.append((name, *summary(run), *scores))
    rows += [(f"`{name}`", *summary(run), "", "") for name, run in configs.items() if "error" not in run]
    head = ("algorithm or config", "steps", "first loss", "last loss", "mAP or `best_metric`, test", "mAP by `eval.py`")
    return markdown(head, rows), problems


def summary(run: Mapping[str, Any]) -> tuple[int, str, str]:
    """Number of steps, first and last loss."""
    losses = [float.fromhex(text) for text in run["losses"]]
    return len(losses), f"{losses[0]:.6f}", f"{losses[-1]:.6f}"


def refusals(results: Mapping[str, Any]) -> Table:
    """What USB answers where the switch cannot be used."""
    answers = {
        case: run.get("error", "is not refused")
        for case, run in results["multilabel bbam"]["results"]["refused"].items()
    }
    problems = [f"{case}: {answer}" for case, answer in answers.items() if not answer.startswith("ValueError")]
    return markdown(("case", "answer"), [(case, f"`{answer}`") for case, answer in answers.items()]), problems


def learning(results: Mapping[str, Any]) -> Table:
    """Longer runs with a small net."""
    rows, problems = [], []
    for name, run in results["learning"]["results"].items():
        score = run.get("test/best_acc", 0.0)
        problems += [f"{name}: mAP {score} ({run.get('error', 'no error')})"] if score < LEARNT else []
        rows.append((name, *(summary(run) if "losses" in run else ("", "", "")), f"{score:.4f}"))
    return markdown(("algorithm", "steps", "first loss", "last loss", "mAP, test"), rows), problems


def processes(results: Mapping[str, Any]) -> Table:
    """Runs of two processes, whose states must be those of both."""
    rows, problems = [], []
    if not results["processes"]["results"]:
        return "Not run: with GPUs it takes two of them.\n", []
    for name, run in results["processes"]["results"].items():
        last = [losses[-1] for losses in run["losses"]]
        if run["different"] or not run["same"] or not all(map(math.isfinite, last)):
            problems.append(
                f"{name}: two processes differ in {', '.join(run['different']) or 'nothing, or lack a loss'}"
            )
        rows.append((name, len(run["losses"][0]), *(f"{loss:.6f}" for loss in last), f"`{', '.join(run['same'])}`"))
    return markdown(("algorithm", "steps", "last loss, rank 0", "rank 1", "states that are equal"), rows), problems


def losses(results: Mapping[str, Any]) -> Table:
    """Largest difference to this package's numbers, as a share of the number where that is above 1."""
    ours, theirs = results["reference"], results["losses"]
    rows, problems = [], []
    for name in dict.fromkeys(key.partition("/")[0] for key in ours):
        keys = [key for key in ours if key.startswith(f"{name}/")]
        problems += [f"{key} is not in the port" for key in keys if key not in theirs]
        found = {key: difference(ours[key], theirs[key]) for key in keys if key in theirs}
        worst = max(found, key=found.__getitem__)
        problems += [f"{key} differs by {value:.1e}" for key, value in found.items() if not value <= TOLERANCE]
        rows.append((name, len(found), f"{found[worst]:.1e}", f"`{worst.partition('/')[2]}`"))
    return markdown(("algorithm or functions", "arrays", "largest difference", "of"), rows), problems


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of two arrays; infinite where their shapes differ."""
    if ours.shape != theirs.shape:
        return math.inf
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return float((np.abs(a - b) / np.maximum(1, np.abs(a))).max())


def all_tables(results: Mapping[str, Any], build: Path) -> dict[str, Table]:
    """Every table by its name."""
    return {
        "diffstat": diffstat(build),
        "single_label": single_label(results),
        "multilabel": multilabel(results),
        "learning": learning(results),
        "processes": processes(results),
        "refusals": refusals(results),
        "losses": losses(results),
    }
