"""Read a grid from its YAML file, and name every fault in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semilearn_bbam.compare.grid import Block, Grid, Printing, Variant
from semilearn_bbam.config import ConfigError, load_yaml, nearest
from semilearn_bbam.report.effects import ORACLE_EPOCH
from semilearn_bbam.run import algorithm_names

LISTS = ("methods", "datasets", "label_ratios", "seeds")
ENDS = ("floors", "ceilings")
PRINTED = ("tables", "names", "effects", "figures", *ENDS, "flagship", "flagship_family", "judged_on", "cards")
KEYS = (*LISTS, "also", "options", "ratio_options", "variants", "tuned", *PRINTED)
NAME = re.compile(r"[a-z][a-z0-9_]*")


def read_grid(path: str | Path) -> Grid:
    """The grid in a YAML file: lists `methods`, `datasets`, `label_ratios` and `seeds`, each without repetition.

    And, optionally,

        also           further blocks, each of which says only in which of these lists it differs: [{seeds: [3, 4]}]
        options        options of all runs: {report_figures: true}
        ratio_options  options of all runs of a label ratio: {"0.1": {batch_size: 8}}
        variants       methods with options, under their own names: {no_map: {method: bbam, balance: false}};
                       the method may be a variant above
        tuned          false: methods have the settings that they had before the search, those of the folder `tuned`
                       left out
        tables         lists of methods; figures: the methods that are drawn; names: how methods are printed
        effects        pairs of methods, of which the second has what is named: {the map: [no_map, bbam]};
                       oracle_epoch: the first one's runs at the epoch that is best on the test set
        floors         methods that have the labelled rows alone; they may have further label_ratios, by `also`: the
                       labels that a method saves are read off the curve of the best of them
        ceilings       methods that have the labels of all rows: the gap that a method closes is that between the best
                       floor and the best ceiling of each dataset, ratio and metric
        flagship       the method whose lead over the best other one is tested; flagship_family: methods that are no
                       others, such as variants of it
        judged_on      validation: metrics of a validation part of the labelled data, nothing of the test set; needs
                       options: {val_ratio: 0.5} or another share that is held out
        cards          true: with --docs, fill the tables of methods in the documents

    Configs are looked for in the folder above the file's, as `config_words` says. ConfigError names every fault.
    """
    return _Reader(path).grid()


class _Reader:
    """The values of a file, and the faults that are found in them."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.values = load_yaml(path)
        self.problems = [f"{item.where}: unknown key {key!r}; a grid has {', '.join(KEYS)}"
                         for key, item in self.values.items() if key not in KEYS]  # fmt: skip

    def grid(self) -> Grid:
        blocks = self.blocks()
        options, variants, ratios = self.mapping("options"), self.variants(), self.ratio_options()
        self.check_used(blocks, variants, ratios)
        self.check_algorithms(blocks, variants)
        printing = self.printing({method for block in blocks for method in block.methods})
        tuned = self.truth("tuned", True)
        if self.problems:
            raise ConfigError("\n".join(self.problems))
        return Grid(blocks, Path(self.path).resolve().parents[1], options, ratios, variants, printing, tuned)

    # ------------------------------------------------------------------ what a key holds

    def fault(self, key: str, message: str) -> None:
        self.problems.append(f"{self.values[key].where}: {message}")

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.values[key].value if key in self.values else {}
        if isinstance(value, dict):
            return value
        self.fault(key, f"{key} must be a mapping, 'name: ..'")
        return {}

    def word(self, key: str) -> str:
        value = self.values[key].value if key in self.values else ""
        if isinstance(value, str):
            return value
        self.fault(key, f"{key} must be a word")
        return ""

    def truth(self, key: str, default: bool) -> bool:
        value = self.values[key].value if key in self.values else default
        if not isinstance(value, bool):
            self.fault(key, f"{key} must be true or false")
        return value is True

    # ------------------------------------------------------------------ runs

    def blocks(self) -> tuple[Block, ...]:
        grid_lists = {key: self.values[key].value for key in LISTS if key in self.values}
        self.problems += [
            f"{self.path}: {key} is missing; write '{key}: [..]'" for key in LISTS if key not in grid_lists
        ]
        for key, value in grid_lists.items():
            self.check_list(key, value, self.values[key].where)
        further = self.values["also"].value if "also" in self.values else []
        if not isinstance(further, list) or not all(isinstance(entry, dict) for entry in further):
            self.fault("also", "also must be a list of blocks, such as '- {seeds: [3, 4]}'")
            further = []
        for number, entry in enumerate(further, 1):
            for key, value in entry.items():
                if key in LISTS:
                    self.check_list(key, value, f"{self.values['also'].where}: block {number} of also")
                else:
                    self.fault("also", f"block {number} of also: unknown key {key!r}; a block has {', '.join(LISTS)}")
        if self.problems:  # the lists may not be what a block needs
            return ()
        return tuple(Block(**{key: tuple({**grid_lists, **entry}[key]) for key in LISTS}) for entry in ({}, *further))

    def check_list(self, key: str, value: Any, where: str) -> None:
        kinds: dict[str, tuple[type, ...]] = {"label_ratios": (float, int), "seeds": (int,)}
        kind = kinds.get(key, (str,))
        if not isinstance(value, list) or not value or any(type(entry) not in kind for entry in value):
            self.problems.append(f"{where}: {key} must be a list of {'names' if kind == (str,) else 'numbers'}")
        elif len(set(value)) < len(value):
            self.problems.append(f"{where}: {key} names something twice")
        elif key == "label_ratios" and not all(0 < ratio <= 1 for ratio in value):
            self.problems.append(f"{where}: label_ratios must be between 0 and 1")

    def variants(self) -> dict[str, Variant]:
        variants: dict[str, Variant] = {}
        for name, entry in self.mapping("variants").items():
            if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
                self.fault(
                    "variants", f"{name} must be a mapping with a method, such as '{{method: bbam, margin: 0.2}}'"
                )
            elif not NAME.fullmatch(name):
                self.fault("variants", f"{name!r} is no name; use small letters, digits and _")
            else:
                options = {key: value for key, value in entry.items() if key != "method"}
                base = variants.get(entry["method"], Variant(entry["method"], {}))  # a variant of a variant above it
                variants[name] = Variant(base.method, {**base.options, **options})
        return variants

    def ratio_options(self) -> dict[float, Mapping[str, Any]]:
        options_of_ratio: dict[float, Mapping[str, Any]] = {}
        for ratio, options in self.mapping("ratio_options").items():
            try:
                options_of_ratio[float(ratio)] = dict(options)
            except (TypeError, ValueError):
                self.fault("ratio_options", f"{ratio!r} must be a ratio with options, '\"0.1\": {{batch_size: 8}}'")
        return options_of_ratio

    def check_used(
        self, blocks: tuple[Block, ...], variants: Mapping[str, Variant], ratios: Mapping[float, Mapping[str, Any]]
    ) -> None:
        """Options and variants that no run uses are problems."""
        shares = {ratio for block in blocks for ratio in block.label_ratios}
        for ratio in set(ratios) - shares if blocks else ():
            self.fault("ratio_options", f"ratio_options: {ratio:g} is none of the label_ratios")
        used = {method for block in blocks for method in block.methods}
        used |= {entry["method"] for entry in self.mapping("variants").values() if isinstance(entry, dict)
                 and isinstance(entry.get("method"), str)}  # fmt: skip
        for name in variants if blocks else ():
            if name not in used:
                self.fault("variants", f"variants: {name} is in no list of methods")

    def check_algorithms(self, blocks: tuple[Block, ...], variants: Mapping[str, Variant]) -> None:
        """Every method is an algorithm or a variant; a dataset's config would be found for any name."""
        algorithms, written = algorithm_names(), self.mapping("variants")
        known = {*algorithms, *written}
        unknown = [("methods", method) for block in blocks for method in block.methods if method not in known]
        bases = {*algorithms, *written.keys() - variants.keys()}  # those at fault already are no second problem
        unknown += [("variants", variant.method) for variant in variants.values() if variant.method not in bases]
        for key, name in dict.fromkeys(unknown):
            guess = nearest(name, sorted(known))
            hint = f"; did you mean {guess!r}?" if guess else ""
            if name in variants:
                hint = ", for it is defined further down; move it up"
            self.fault(key, f"{key}: unknown method {name!r}{hint}")

    # ------------------------------------------------------------------ what is printed

    def printing(self, known: set[str]) -> Printing:
        """Tables, figures, effects and the gap, every method in them checked against those of the grid."""
        names = {name: str(text) for name, text in self.mapping("names").items()}
        tables = {name: self.methods("tables", name, rows, known) for name, rows in self.mapping("tables").items()}
        pairs = {name: self.methods("effects", name, rows, known) for name, rows in self.mapping("effects").items()}
        for name, pair in pairs.items():
            if len(pair) != 2 or pair[0] == ORACLE_EPOCH:
                self.fault("effects", f"{name} must name two methods, [from, to]")
        drawn_methods = self.values["figures"].value if "figures" in self.values else []
        figures = self.methods("figures", "figures", drawn_methods, known) if drawn_methods else ()
        for name in names:
            self.check_method("names", name, known)
        effects = {name: (pair[0], pair[-1]) for name, pair in pairs.items() if pair}
        floors, ceilings = self.ends(known)
        flagship, family = self.flagship(known, ceilings)
        part, cards = self.judged_on(), self.truth("cards", False)
        return Printing(tables, names, effects, figures, floors, ceilings, flagship, family, part, cards)

    def ends(self, known: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        floors, ceilings = (
            self.methods(key, key, self.values[key].value, known) if key in self.values else () for key in ENDS
        )
        if ceilings and "floors" not in self.values:
            self.fault("ceilings", "a gap needs floors and ceilings; add floors, the methods with labelled rows alone")
        for method in floors:
            if method in ceilings:
                self.fault("ceilings", f"{method} cannot be among floors and ceilings")
        return floors, ceilings

    def flagship(self, known: set[str], ceilings: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        flagship, key = self.word("flagship"), "flagship_family"
        if flagship:
            self.check_method("flagship", flagship, known)
        if flagship in ceilings:
            self.fault("flagship", f"flagship: {flagship} is among the ceilings, which have the labels of all rows")
        family = self.methods(key, key, self.values[key].value, known) if key in self.values else ()
        if family and not flagship:
            self.fault(key, "flagship_family needs a flagship, 'flagship: ..'")
        return flagship, family

    def judged_on(self) -> str:
        part = self.word("judged_on") or "test"
        if part not in ("test", "validation"):
            self.fault("judged_on", f"judged_on: {part!r} must be test or validation")
        elif part == "validation":
            held_out = self.mapping("options").get("val_ratio")
            if not held_out or any("val_ratio" in entry for entry in self.mapping("variants").values()):
                self.fault("judged_on", "validation needs one val_ratio for all, 'options: {val_ratio: 0.5}'")
        return part

    def methods(self, key: str, name: str, rows: Any, known: set[str]) -> tuple[str, ...]:
        if not isinstance(rows, list) or not rows:
            self.fault(key, f"{name} must be a list of methods")
            return ()
        for method in rows:
            if not (key == "effects" and method == ORACLE_EPOCH):
                self.check_method(key, method, known)
        return tuple(rows)

    def check_method(self, key: str, method: Any, known: set[str]) -> None:
        if not isinstance(method, str) or (known and method not in known):
            self.fault(key, f"{key}: {method!r} is not among the grid's methods")
