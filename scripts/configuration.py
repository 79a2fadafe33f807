#!/usr/bin/env python
"""Write docs/configuration.md from the table of options and those of every method: python scripts/configuration.py."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.config import OPTIONS, Option
from semilearn_bbam.config.options import ENCODED_DEFAULTS
from semilearn_bbam.run import algorithm_names

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
INTRODUCTION = """\
# Options

Written by `python scripts/configuration.py` from the options that the program checks. Each is a line `key: value` of a
YAML file or `--key value` on the command line, which wins over the file, and that over the defaults below.
`semilearn-bbam train --help` prints the same, with `--algorithm <name>` the options of that method too. `--c` names the
file, `inherits` in a file another one that it adds to ([configs](training.md#configs)).
"""
ABOUT = {
    "run": "[What a run leaves](training.md#what-a-run-leaves); [resuming](training.md#stopping-and-going-on).",
    "schedule": "",
    "optimiser": "",
    "net": "[Nets and their weights](data.md#nets); [encoders](training.md#minutes-on-a-cpu).",
    "data": "[Data](data.md); [how the labelled rows are found](splits.md).",
    "views": "[Views](data.md#views).",
}
OF_METHODS = """\
## Options of methods

A method takes the options above and those of its table. Methods with the same options share one; where their defaults
differ, the method is named. A default that depends on the kind of data has a value for each kind.
"""
# USB's own options, of which several have no help there.
USB_HELP = {
    "C": "factor of the threshold on the loss of a pseudo-labelled row",
    "T": "temperature of a pseudo-label that is not hard",
    "clip_thresh": "limit thresholds to between 0 and 0.95",
    "dist_align": "align the mean of the pool's predictions with the rates of the labelled part",
    "dist_uniform": "no effect here: the target is the labelled rate of each label",
    "ema_p": "share of the past in the running means of predictions",
    "ent_loss_ratio": "weight of the entropy term",
    "gamma": "what the threshold on the loss is divided by every 10 epochs",
    "hard_label": "pseudo-labels are 0 or 1; false: probabilities",
    "kl_loss_ratio": "weight of the term on unmixed strong views",
    "mixup_alpha": "both parameters of the beta distribution of the shares in which rows are mixed",
    "mixup_manifold": "mix features in place of inputs",
    "n_sigma": "what the width of the Gaussian that weights a pseudo-label is divided by",
    "num_wu_eval_iter": "no effect here: the first threshold is the labelled loss after the warm-up",
    "num_wu_iter": "no effect here: the warm-up is that of the run",
    "p_cutoff": "confidence from which a pseudo-label counts",
    "per_class": "a Gaussian for each label and class, not one for each label",
    "rho_min": "least value of the threshold on the loss",
    "rot_loss_ratio": "weight of the prediction of rotations, of images only",
    "thresh_warmup": "rows without a pseudo-label count too, so that thresholds rise slowly at first",
    "tsa_schedule": "how labelled rows that are already well predicted come into the loss: none, linear, log or exp",
    "unsup_warm_up": "share of the steps over which the weight of the unlabelled loss rises",
    "use_quantile": "the global threshold follows the 0.8 quantile of the confidences, not their mean",
    "vat_embed": "perturb the embeddings of words, not the input",
    "vat_eps": "length of the perturbation",
}
KINDS = {"image": "images", "text": "texts", "features": "vectors"}
TYPES: dict[type[Any], str] = {int: "integer", float: "number", bool: "true, false", str: "text"}
HEADING = "| option | type | default | what it is |\n|---|---|---|---|\n"


def shown(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "empty"


def type_of(option: Option) -> str:
    """The type of an option, with its choices or limits."""
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    return f"{TYPES[option.type]} {option.limits()}".strip()


def row(option: Option, default: str) -> str:
    """A line of a table."""
    words = re.sub(r"\S*<\S*", r"`\g<0>`", option.help).replace("|", "\\|").replace("*", "\\*")
    return f"| `{option.name}` | {type_of(option)} | {default} | {words} |\n"


def shared_group(name: str, options: Iterable[Option]) -> str:
    """The section of a group of options that all methods share."""
    rows = ""
    for option in options:
        default = shown(option.default)
        if option.name in ENCODED_DEFAULTS:
            default += f"; with `encoder`: {shown(ENCODED_DEFAULTS[option.name])}"
        rows += row(option, default)
    about = f"{ABOUT[name]}\n\n" if ABOUT[name] else ""
    return f"## {name.capitalize()}\n\n{about}{HEADING}{rows}"


def options_of(name: str) -> list[Option]:
    """The options of a method, each with a help in our words."""
    method = ALGORITHMS[name]
    options = []
    for option in method.own_options():
        words = option.help if is_ours(option) else USB_HELP[option.name]
        if option.name in ("scale", "margin") and method.head == "linear":
            words += ", with `head: cosine`"
        options.append(replace(option, help=words))
    return options


def is_ours(option: Option) -> bool:
    """Whether an option is declared here, and not taken over from USB."""
    return option.name not in USB_HELP


def method_default(options: Mapping[str, Option]) -> str:
    """The default of an option of several methods: by method or by kind of data where it differs."""
    first, *others = options
    if options[first].default is None:
        by_kind = {kind: ALGORITHMS[first].kind_defaults[kind][options[first].name] for kind in KINDS}
        return "; ".join(f"{KINDS[kind]}: {shown(value)}" for kind, value in by_kind.items())
    value = shown(options[first].default)
    unequal = [f"`{name}`: {shown(options[name].default)}" for name in others if shown(options[name].default) != value]
    return "; ".join([value, *unequal])


def methods_section() -> str:
    """The tables of all methods: what those of USB share, and a table for each set of options."""
    own = {name: options_of(name) for name in algorithm_names()}
    of_usb = [name for name in own if name.startswith("ml_")]
    shared = [option for option in own[of_usb[0]] if all(option in own[name] for name in of_usb)]
    rows = "".join(row(option, shown(option.default)) for option in shared)
    tables = {f"### All ml_ methods\n\n{HEADING}{rows}"}
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, options in own.items():
        options[:] = [option for option in options if name not in of_usb or option not in shared]
        groups.setdefault(tuple((item.name, type_of(item), item.help) for item in options), []).append(name)
    without = groups.pop((), [])
    for names in groups.values():
        names.sort(key=lambda name: (len(ALGORITHMS[name].__mro__), name))  # parent classes first
        same = zip(*(own[name] for name in names), strict=True)
        rows = "".join(row(items[0], method_default(dict(zip(names, items, strict=True)))) for items in same)
        tables.add(f"### {', '.join(names)}\n\n{HEADING}{rows}")
    others = ", ".join(f"`{name}`" for name in without if name not in of_usb)
    return "\n".join([OF_METHODS, f"{others} have none.\n", *sorted(tables)])


def page() -> str:
    """The whole page."""
    groups: dict[str, list[Option]] = {}
    for option in OPTIONS:
        groups.setdefault(option.group, []).append(option)
    sections = [shared_group(name, options) for name, options in groups.items()]
    names = ", ".join(f"`{name}`" for name in algorithm_names())
    required = f"`algorithm` must be given, and is the name of a [method](methods/README.md):\n{names}.\n"
    return "\n".join([INTRODUCTION, fill(required, 120, break_on_hyphens=False) + "\n", *sections, methods_section()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
