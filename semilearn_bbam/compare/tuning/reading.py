"""Read a search of settings from its YAML file, and name every fault in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.compare.grid import as_argv
from semilearn_bbam.compare.tuning.space import Contender, Hyperparameter, Tuning, Values
from semilearn_bbam.config import OPTIONS, ConfigError, Option, config_words, load_yaml, nearest
from semilearn_bbam.run import algorithm_names, read_settings

NEEDED = ("methods", "datasets", "label_ratio", "val_ratio")
KEYS = (*NEEDED, "space", "trials", "seeds", "options", "prune", "sampler_seed", "reference")
OF_A_METHOD = ("space", "without", "settings", "first", "seconds")
RANGE = ("low", "high", "log")
# What the search sets itself, or what is no property of a method.
NOT_SEARCHED_GROUPS = ("run", "data")
LEAKS = "reproduce_released"  # options that give hidden labels away


def read_tuning(path: str | Path) -> Tuning:
    """The search in a YAML file.

        methods      {cap: {space: {clip: {low: 0, high: 0.2}}, settings: {..}, first: [{clip: 0}], without: [head],
                     seconds: 14}}: hyperparameters of a method, options of all its trials, changes to its defaults that
                     are tried first, those of the common space that it lacks, and how long a run takes, to plan with
        space        hyperparameters of all methods: a list of choices, or {low: 0.0001, high: 0.01, log: true}
        datasets     names, as in a grid
        label_ratio  share of the training rows that is labelled; val_ratio: share of these that judges
        trials       of each method on each dataset, 16; seeds: [10, 11]; options: those of all runs
        prune        true: a trial in the lowest quarter after the first seed gets no others
        sampler_seed of Optuna's sampler, 0; reference: the method against which the others are read

    The defaults of a method are those of its config without the folder `tuned`, which is what a search writes. They are
    the first trial, and so must be within the space. ConfigError names every fault.
    """
    return _Reader(path).tuning()


def start_words(tuning: Tuning, contender: Contender, dataset: str) -> tuple[str, ...]:
    """The words of a command line for a contender's defaults, without folders and seed."""
    options = {"label_ratio": tuning.label_ratio, "val_ratio": tuning.val_ratio}
    options |= {**tuning.options, **contender.settings}
    return (*config_words(tuning.configs, contender.method, dataset, tuned=False), *as_argv(options))


def defaults(tuning: Tuning, contender: Contender, dataset: str) -> dict[str, Any]:
    """The value that each hyperparameter of a contender has on a dataset where nothing is searched."""
    settings = vars(read_settings(start_words(tuning, contender, dataset)))
    values = {item.name: settings[item.name] for item in contender.space}
    if values.get("head") == "auto":
        values["head"] = ALGORITHMS[contender.method].head
    return values


def stage_options(tuning: Tuning, contender: Contender, dataset: str, values: Values) -> dict[str, Any]:
    """The warm-up of a trial with these values: the same share of its epochs as by default, if `epoch` is searched."""
    if "epoch" not in values or {"warmup_epochs"} & {*values, *contender.settings, *tuning.options}:
        return {}
    settings = read_settings(start_words(tuning, contender, dataset))
    return {"warmup_epochs": round(values["epoch"] * settings.warmup_epochs / settings.epoch)}


class _Reader:
    """The values of a file, and the faults that are found in them."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.values = load_yaml(path)
        self.problems = [f"{item.where}: unknown key {key!r}; a search has {', '.join(KEYS)}"
                         for key, item in self.values.items() if key not in KEYS]  # fmt: skip
        self.problems += [f"{path}: {key} is missing; set it" for key in NEEDED if key not in self.values]

    def tuning(self) -> Tuning:
        ratio = Option("", float, None, "", above=0, below=1)
        simple = {
            "label_ratio": self.parsed("label_ratio", ratio),
            "val_ratio": self.parsed("val_ratio", Option("", float, None, "", above=0, maximum=0.9)),
            "trials": self.parsed("trials", Option("", int, 16, "", minimum=2)),
            "sampler_seed": self.parsed("sampler_seed", Option("", int, 0, "", minimum=0)),
            "prune": self.parsed("prune", Option("", bool, True, "")),
            "reference": self.parsed("reference", Option("", str, "", "")),
            "seeds": self.listed("seeds", int, (10, 11)),
            "datasets": self.listed("datasets", str, ()),
            "options": self.mapping("options"),
            "configs": Path(self.path).resolve().parents[1],
        }
        contenders = self.contenders()
        methods = [contender.method for contender in contenders]
        if simple["reference"] and simple["reference"] not in self.mapping("methods"):
            self.fault("reference", f"reference: {simple['reference']!r} is none of the methods")
        self.raise_problems()
        tuning = Tuning(contenders, **simple)
        if len(set(methods)) == len(methods):
            self.check_points(tuning)
        self.raise_problems()
        return tuning

    # ------------------------------------------------------------------ what a key holds

    def raise_problems(self) -> None:
        if self.problems:
            raise ConfigError("\n".join(self.problems))

    def fault(self, key: str, message: str) -> None:
        self.problems.append(f"{self.values[key].where}: {message}")

    def parsed(self, key: str, option: Option) -> Any:
        if key in self.values:
            try:
                return option.parse(self.values[key].value)
            except ValueError as error:
                self.fault(key, f"{key} {error}")
        return option.default

    def listed(self, key: str, kind: type, default: tuple[Any, ...]) -> tuple[Any, ...]:
        value = self.values[key].value if key in self.values else list(default)
        if not isinstance(value, list) or any(type(entry) is not kind for entry in value):
            self.fault(key, f"{key} must be a list of {'names' if kind is str else 'numbers'}")
        elif key in self.values and (not value or len(set(value)) < len(value)):
            self.fault(key, f"{key} must name something, and nothing twice")
        else:
            return tuple(value)
        return default

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.values[key].value if key in self.values else {}
        if isinstance(value, dict):
            return value
        self.fault(key, f"{key} must be a mapping, 'name: ..'")
        return {}

    # ------------------------------------------------------------------ methods and their spaces

    def contenders(self) -> tuple[Contender, ...]:
        names, common = algorithm_names(), self.mapping("space")
        used: set[str] = set()
        contenders = []
        for method, entry in self.mapping("methods").items():
            if method not in names:
                guess = nearest(method, names)
                hint = f"; did you mean {guess!r}?" if guess else ""
                self.fault("methods", f"methods: unknown method {method!r}{hint}")
                continue
            entry = {} if entry is None else entry
            if not isinstance(entry, dict):
                self.fault("methods", f"{method} must be a mapping, such as '{{space: {{..}}}}'")
                continue
            contender = self.contender(method, entry, common)
            used |= {item.name for item in contender.space}
            contenders.append(contender)
        for name in common:
            if contenders and name not in used and not self.problems:
                self.fault("space", f"space: {name} is searched for no method")
        return tuple(contenders)

    def contender(self, method: str, entry: Mapping[str, Any], common: Mapping[str, Any]) -> Contender:
        for key in entry:
            if key not in OF_A_METHOD:
                self.fault("methods", f"{method}: unknown key {key!r}; a method has {', '.join(OF_A_METHOD)}")
        own, settings = (self.part(method, entry, key) for key in ("space", "settings"))
        without = entry.get("without", [])
        if not isinstance(without, list) or any(name not in common for name in without):
            self.fault("methods", f"{method}: without must list names of the common space")
            without = []
        seconds = entry.get("seconds", Contender.seconds)
        if type(seconds) not in (int, float) or not 0 < seconds < float("inf"):
            self.fault("methods", f"{method}: seconds must be a number above 0")
            seconds = Contender.seconds
        written = {name: value for name, value in common.items() if name not in without} | own
        options = {option.name: option for option in (*OPTIONS, *ALGORITHMS[method].own_options())}
        for name in settings:
            self.check_name(method, name, options, ("settings",))
        space = tuple(item for name, value in written.items()
                      if (item := self.hyperparameter(method, name, value, options, name in own)))  # fmt: skip
        for name in (item.name for item in space):
            if name in settings or name in self.mapping("options"):
                key = "settings" if name in settings else "options"
                self.fault("methods", f"{method}: {name} is in {key} and searched; delete one")
        return Contender(method, space, settings, self.first(method, entry, space), float(seconds))

    def part(self, method: str, entry: Mapping[str, Any], key: str) -> dict[str, Any]:
        value = entry.get(key, {})
        if isinstance(value, dict):
            return value
        self.fault("methods", f"{method}: {key} must be a mapping, 'name: ..'")
        return {}

    def first(
        self, method: str, entry: Mapping[str, Any], space: Sequence[Hyperparameter]
    ) -> tuple[dict[str, Any], ...]:
        """Settings that are tried first, as values of their options."""
        written = entry.get("first", [])
        if not isinstance(written, list) or not all(isinstance(values, dict) for values in written):
            self.fault("methods", f"{method}: first must be a list of settings, such as '[{{clip: 0}}]'")
            return ()
        options = {item.name: item.option for item in space}
        points = []
        for values in written:
            point = dict(values)
            for name in options.keys() & values.keys():
                try:
                    point[name] = options[name].parse(values[name])
                except ValueError as error:
                    self.fault("methods", f"{method}: first: {name} {error}")
            points.append(point)
        return tuple(points)

    def check_name(self, method: str, name: str, options: Mapping[str, Option], kinds: Sequence[str] = ()) -> bool:
        """Whether an option can be set here; a problem where not."""
        if name not in options:
            guess = nearest(name, options)
            self.fault("methods", f"{method} has no option {name!r}{f'; did you mean {guess!r}?' if guess else ''}")
        elif name.startswith(LEAKS):
            self.fault("methods", f"{method}: {name} gives hidden labels away and cannot be set in a search")
        elif not kinds and options[name].group in NOT_SEARCHED_GROUPS:
            self.fault("methods", f"{method}: {name} is no property of a method and cannot be searched")
        else:
            return True
        return False

    def hyperparameter(
        self, method: str, name: str, value: Any, options: Mapping[str, Option], own: bool
    ) -> Hyperparameter | None:
        """A hyperparameter as it is written, or None and a problem."""
        if not self.check_name(method, name, options):
            return None
        option, key = options[name], "methods" if own else "space"
        where = f"{method}: {name}" if own else f"space: {name}"
        try:
            if isinstance(value, list):
                choices = tuple(option.parse(choice) for choice in value)
                if len(choices) < 2 or len({*map(str, choices)}) < len(choices):
                    raise ValueError("needs two choices or more, none twice")
                return Hyperparameter(option, choices)
            if not isinstance(value, dict) or not {"low", "high"} <= value.keys() <= {*RANGE}:
                raise ValueError("must be a list of choices or a range such as '{low: 0.1, high: 1, log: true}'")
            if option.type not in (int, float):
                raise ValueError("takes no range; write a list of choices")
            low, high, log = option.parse(value["low"]), option.parse(value["high"]), value.get("log", False)
            if type(log) is not bool or not low < high or (log and low <= 0):
                raise ValueError("needs low < high, and low above 0 with log: true")
            return Hyperparameter(option, low=low, high=high, log=log)
        except ValueError as error:
            problem = f"{self.values[key].where}: {where} {error}"
            if problem not in self.problems:  # a fault of the common space is one of all methods
                self.problems.append(problem)
            return None

    # ------------------------------------------------------------------ points of the spaces

    def check_points(self, tuning: Tuning) -> None:
        """The defaults and what is tried first are within the space, and each choice and end of a range is accepted.

        The latter on the first dataset only, since what a method accepts hardly depends on it.
        """
        for contender in tuning.contenders:
            if 1 + len(contender.first) > tuning.trials:
                self.fault("methods", f"{contender.method}: first has more than the {tuning.trials} trials")
            for dataset in tuning.datasets:
                if not self.check_start(tuning, contender, dataset):
                    break

    def check_start(self, tuning: Tuning, contender: Contender, dataset: str) -> bool:
        before, method = len(self.problems), contender.method
        try:
            start = defaults(tuning, contender, dataset)
        except ConfigError as error:
            self.fault("methods", f"{method} on {dataset}: {' '.join(str(error).split())}")
            return False
        for number, changes in enumerate(({}, *contender.first)):
            what = f"number {number} of first" if number else "its default"
            if name := contender.outside({**start, **changes}):
                value = {**start, **changes}[name]
                self.fault("methods", f"{method} on {dataset}: {what}, {name}: {value}, is not in the space")
        for item in contender.space if dataset == tuning.datasets[0] else ():
            for value in item.choices or (item.low, item.high):
                self.check_point(tuning, contender, dataset, {**start, item.name: value}, item.name)
        return len(self.problems) == before

    def check_point(self, tuning: Tuning, contender: Contender, dataset: str, values: Values, name: str) -> None:
        words = as_argv({**values, **stage_options(tuning, contender, dataset, values)})
        try:
            read_settings((*start_words(tuning, contender, dataset), *words))
        except ConfigError as error:
            cure = f"; write 'without: [{name}]'" if name in self.mapping("space") else ""
            reason = " ".join(str(error).split()).removeprefix("command line: ")
            self.fault("methods", f"{contender.method} on {dataset}: {name}: {values[name]}: {reason}{cure}")
