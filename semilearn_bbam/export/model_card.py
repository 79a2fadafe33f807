"""The model card of a run for the Hugging Face hub: from its results, and from its data where these can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import yaml

from semilearn_bbam import __version__
from semilearn_bbam.config.run_files import default_save_name
from semilearn_bbam.errors import RunError, first_few
from semilearn_bbam.inference import Predictor
from semilearn_bbam.runs.folder import RESULTS, SPLIT
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.trained.run_data import RunData

TASKS = {"image": "image-classification", "text": "text-classification", "features": "tabular-classification"}
READS = {"image": "images", "text": "texts", "features": "vectors"}
ITEMS = {"image": '["photo.jpg"]', "text": '["a text"]', "features": "vectors  # an array [N,{width}]"}
RANKED = ("mAP", "mAP_present", "one_error", "ranking_loss", "coverage_error", "lrap")  # need no threshold
RARE = 10  # positives below which a measured value says little
SHOWN = 50  # labels that are listed


@dataclass(frozen=True)
class Card:
    """What a card is written from.

    metrics: part of `results.json` by protocol; per_label: its rows; labeled: labelled positives of each label, None
    where the data cannot be read; counts: of items by part, those that are known.
    """

    title: str
    kind: str
    width: int
    algorithm: str
    net: str
    encoders: Sequence[str]
    dataset: str
    seed: int
    counts: Mapping[str, int]
    label_names: Sequence[str]
    thresholds: Mapping[str, Sequence[float]]
    metrics: Mapping[str, Mapping[str, float]]
    per_label: Sequence[Mapping[str, Any]]
    labeled: Sequence[int] | None
    versions: Mapping[str, str]
    keeps_vectors: bool

    @classmethod
    def of(cls, record: Run, predictor: Predictor, data: RunData | None) -> Card:
        """From a run that has ended, and its data where they can be read; RunError for results that are cut."""
        results, settings = record.results, predictor.settings
        labeled = None
        counts = {"labelled": int(results.get("num_labels", 0))}
        if data is not None:
            counts["unlabelled"] = len(data.split.unlabeled)
            counts["test"] = len(data.source.test)
            labeled = (data.targets > 0).sum(axis=0).astype(int).tolist()
        net = settings.net
        if net.startswith("hf:"):
            net = f"hf:{Path(net).name if Path(net.removeprefix('hf:')).expanduser().is_dir() else net[3:]}"
        try:
            metrics = {_protocol(key): values for key, values in results.items() if key.startswith("test")}
            return cls(
                title=default_save_name(vars(settings)),
                kind=predictor.kind,
                width=predictor.facts.in_features,
                algorithm=settings.algorithm,
                net=net,
                encoders=predictor.encoders,
                dataset=record.setting[0],
                seed=record.seed,
                counts=counts,
                label_names=predictor.label_names,
                thresholds={name: values.tolist() for name, values in predictor.thresholds.items()},
                metrics=metrics,
                per_label=results["per_label"],
                labeled=labeled,
                versions=results["versions"],
                keeps_vectors="function" in predictor.state or "teacher" in predictor.state,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"'{record.folder / RESULTS}' is not complete ({error}); rerun the run") from error


def _protocol(key: str) -> str:
    return key.removeprefix("test").removeprefix("_") or "0.5"


def model_card(card: Card) -> str:
    """The card as Markdown with YAML in front; the licence is left for the user to fill.

    Metrics that give the true number of labels away ("oracle") are left out.
    """
    front = {
        "library_name": "semilearn-bbam",
        "pipeline_tag": TASKS[card.kind],
        "tags": ["multi-label-classification", "semi-supervised-learning", "semilearn", card.algorithm],
    }
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\nlicense: # fill in\n{header}---",
        f"# {card.title}",
        f"{card.algorithm} on {READS[card.kind]}, {len(card.label_names)} labels, any number of them per item; trained "
        f"with semilearn-bbam {card.versions.get('semilearn-bbam', __version__)} (USB).",
        "## Use\n\n" + _use(card),
        "## Data\n\n" + _data(card),
        "## Measured\n\n" + _measured(card),
        "## Labels and thresholds\n\n" + _labels(card),
        "## Limits\n\n" + _limits(card),
    ]
    return "\n\n".join(parts) + "\n"


def _use(card: Card) -> str:
    items, _, note = ITEMS[card.kind].format(width=card.width).partition("  #")
    return (
        "```python\nfrom semilearn_bbam import load_run\n\n"
        'predictor = load_run("path/of/this/folder")\n'
        f"scores = predictor.scores({items}){note and '  #' + note}\n"
        f"labels = predictor.predict({items})  # at the prior thresholds\n```\n\n"
        "Scores are in [0, 1], one per label; they are not calibrated probabilities."
    )


def _data(card: Card) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in card.counts.items())
    read = f", vectors of {' and '.join(card.encoders)} (frozen)" if card.encoders else ""
    return (
        f"- data set: {card.dataset}\n- items: {counts} (`{SPLIT}` of the run has the rows; seed {card.seed})\n"
        f"- net: {card.net}{read}"
    )


def _measured(card: Card) -> str:
    """Tables of the test part: what needs no threshold, then a column for each protocol."""
    first = next(iter(card.metrics.values()), {})
    ranked = [f"| {name} | {first[name]:.4f} |" for name in RANKED if name in first]
    names = [name for name in first if name not in RANKED and not name.startswith("oracle_")]
    head = "| metric | " + " | ".join(f"thresholds: {name}" for name in card.metrics) + " |"
    rows = [
        f"| {name} | " + " | ".join(f"{values[name]:.4f}" for values in card.metrics.values()) + " |" for name in names
    ]
    return "\n".join(
        [
            "On the test part, by ranking:\n",
            "| metric | value |",
            "| --- | --- |",
            *ranked,
            '\nBy decisions at thresholds; "prior" gives each label its labelled frequency on the unlabelled pool:\n',
            head,
            "| --- |" + " --- |" * len(card.metrics),
            *rows,
        ]
    )


def _labels(card: Card) -> str:
    protocols = list(card.thresholds)
    counted = " labelled positives |" if card.labeled is not None else ""
    rows = ["| label |" + counted + " test positives | AP | " + " | ".join(protocols) + " |"]
    rows.append("| --- " * (3 + len(protocols) + (card.labeled is not None)) + "|")
    for k, row in enumerate(card.per_label[:SHOWN]):
        precision = row.get("average_precision")
        labeled = f" {card.labeled[k]} |" if card.labeled is not None else ""
        values = " | ".join(_threshold(card.thresholds[name][k]) for name in protocols)
        ap = "-" if precision is None else f"{precision:.3f}"
        rows.append(f"| {_cell(card.label_names[k])} |{labeled} {row['positives']} | {ap} | {values} |")
    more = len(card.label_names) - SHOWN
    if more > 0:
        rows.append(f"\nand {more} more, in `config.json` and `{RESULTS}`.")
    return "\n".join(rows)


def _limits(card: Card) -> str:
    test = [name for name, row in zip(card.label_names, card.per_label, strict=True) if row["positives"] < RARE]
    lines = [
        "- Measured on a test part of the same data only; other sources of items were not tried.",
        f"- Labels with fewer than {RARE} test positives, whose values say little: {_listed(test)}.",
    ]
    if card.labeled is not None:
        rare = [name for name, count in zip(card.label_names, card.labeled, strict=True) if count < RARE]
        lines.append(f"- Labels with fewer than {RARE} labelled positives in training: {_listed(rare)}.")
    never = [name for k, name in enumerate(card.label_names)
             if any(values[k] == float("inf") for values in card.thresholds.values())]  # fmt: skip
    if never:
        lines.append(f"- Labels that are never predicted at a prior threshold: {_listed(never)}.")
    lines.append("- Items with labels that are not in the list get the scores of those that are.")
    if card.keeps_vectors:
        lines.append("- The model is a function of its training vectors, which this folder holds.")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return first_few([_cell(name) for name in names], SHOWN) if names else "none"


def _threshold(value: float) -> str:
    return "never" if value == float("inf") else f"{value:.3f}"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
