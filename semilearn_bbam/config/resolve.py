"""One set of settings for a run: command line over YAML over defaults, all problems at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .conflicts import OWN_FILES, Conflict, conflicts
from .option import Option, nearest
from .options import OPTIONS, encoded_defaults
from .run_files import COMMAND_LINE_ONLY, default_save_name, is_derived, written_by_run
from .settings import Settings
from .yaml_loader import ConfigError, Located, format_yaml, load_yaml, plain_value

_COMMAND_LINE = "command line"
_REQUIRED = ("algorithm", "dataset", "net")
_RESERVED = ("c", "algorithm", "inherits", "help", "unused_keys", "algorithm_keys", "ignored_keys")

MethodOptions = Callable[[str], Sequence[Option]]
KindDefaults = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Conflicts = Callable[[Mapping[str, Any]], Iterable[Conflict]]


@dataclass
class Findings:
    """Problems so far, and the keys they concern, so that one mistake is not reported twice."""

    problems: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def add(self, where: str, key: str, sentence: str) -> None:
        self.faulty.add(key)
        self.problems.append(f"{where}: {key} {sentence}")


def resolve(
    argv: Sequence[str],
    method_options: MethodOptions,
    algorithm_names: Sequence[str],
    usb_only: Mapping[str, str] = MappingProxyType({}),
    refused: Mapping[str, str] = MappingProxyType({}),
    further_conflicts: Conflicts = lambda values: (),
    kind_defaults: KindDefaults = lambda values: {},
) -> Settings:
    """Settings of a run from the command line `argv` (without the program's name), its YAML file, defaults.

    The command line wins over the YAML file, and that over the defaults; of a key given twice on the command
    line the last one counts. `method_options(name)` lists the options of an algorithm; `usb_only` maps keys of USB
    that are not taken here to the reason, and `refused` names of algorithms. `further_conflicts` names all values that
    do not go together, in addition to those of `conflicts`; a key that is at fault already does not count twice.
    `kind_defaults` gives values for options whose default is None. The settings hold every option, those of the
    algorithm, `algorithm`, `c` (the file, or ""), `algorithm_keys` (names of the options of the algorithm),
    `unused_keys` (keys that the YAML sets for its own algorithm while the command line names another) and
    `ignored_keys`: `overwrite` and `resume`, which the command line alone sets, in a file that a run wrote (in another
    file they are problems), and the `save_name` that such a run derived from settings that are now others.
    `default_save_name` fills in an empty save_name. `--help` prints the options and raises SystemExit(0). Raises
    ConfigError with all problems, one per line; an algorithm's option that clashes with a shared one, or has an unfit
    default, is a programming error: ValueError.
    """
    findings = Findings()
    typed = read_command_line(argv, findings)
    help_wanted = typed.pop("help", None) is not None
    config = typed.pop("c", None)
    path = str(config.value) if config else ""
    faults: list[str] = []
    from_file = load_yaml(path, faults) if path else {}
    findings.problems[:0] = faults
    ignored = _drop_command_line_only(from_file, findings)

    owned = partial(_own_options, method_options=method_options)
    names = tuple(algorithm_names)
    algorithm = Option(
        "algorithm", str, "", "name of the algorithm (required)", "algorithm", choices=names, refused=refused
    )
    chosen = _known(algorithm, typed.get("algorithm", from_file.get("algorithm")))
    of_file = _known(algorithm, from_file.get("algorithm"))
    own = owned(chosen) if chosen else {}
    options = {"algorithm": algorithm, **{option.name: option for option in OPTIONS}, **own}
    if help_wanted:
        _print_help(options.values())
        raise SystemExit(0)

    foreign = owned(of_file).keys() - options.keys() if of_file and chosen != of_file and chosen else set()
    unused = [key for key in from_file if key in foreign]
    given = [(key, item) for key, item in from_file.items() if key not in foreign] + list(typed.items())
    values, places = _take(given, options, findings)
    for key, item in given:
        if key not in options:
            owners = [name for name in algorithm_names if key in owned(name)]
            # Without a known algorithm it is not known whose key it is, so that of any algorithm passes.
            if chosen or not owners:
                findings.problems.append(f"{item.where}: {_unknown(key, chosen, owners, options, usb_only)}")
    files = [name for name, file in OWN_FILES.items() if values[file]]
    if not values["dataset"] and "dataset" not in findings.faulty and len(files) == 1:
        values["dataset"] = files[0]  # the file says it
    values |= encoded_defaults(values, places)
    values |= {key: value for key, value in kind_defaults(values).items() if values[key] is None}
    source = path or _COMMAND_LINE
    if not faults:  # what an unreadable file lacks is not known
        _check_required(values, places, source, findings)
    # Of an algorithm that is at fault nothing is asked, since its options are not there.
    for keys, sentence in chain(conflicts(values), further_conflicts({**values, "algorithm": chosen})):
        clashing = [places[key] for key in keys if key in places]
        # What an unreadable file sets is not known, so that only what was typed can clash.
        if not findings.faulty.intersection(keys) and (not faults or len(clashing) == len(keys)):
            findings.problems.append(f"{' and '.join(dict.fromkeys(clashing)) or source}: {sentence}")
    if findings.problems:
        raise ConfigError("\n".join(findings.problems))
    name, saved = default_save_name(values), from_file.get("save_name")
    if saved and "save_name" not in typed and written_by_run(saved.file):
        before, _ = _take(list(from_file.items()), options, findings)
        if default_save_name(before) != name and is_derived(values["save_name"], before):
            values["save_name"] = ""  # it is that of another run
            ignored.append("save_name")
    values["save_name"] = values["save_name"] or name
    return Settings(**values, c=path, algorithm_keys=list(own), unused_keys=unused, ignored_keys=ignored)


def dump_yaml(namespace: argparse.Namespace, path: str | Path) -> None:
    """Write the settings of `resolve`, group by group, to a YAML file that `--c` reads back to the same ones.

    What is no setting is left out: `overwrite`, `resume`, the default `save_name`, and attributes that were set on the
    namespace later. Raises ConfigError for a value that YAML cannot hold, OSError for a file that cannot be written.
    """
    groups: dict[str, dict[str, Any]] = {"algorithm": {"algorithm": namespace.algorithm}}
    left_out = set(COMMAND_LINE_ONLY)
    if namespace.save_name == default_save_name(vars(namespace)):
        left_out.add("save_name")
    for option in OPTIONS:
        if option.name not in left_out:
            groups.setdefault(option.group, {})[option.name] = getattr(namespace, option.name)
    for key in namespace.algorithm_keys:
        groups["algorithm"][key] = getattr(namespace, key)
    text = "\n".join(f"# {group}\n{format_yaml(values)}" for group, values in groups.items())
    Path(path).write_text(text, encoding="utf-8")


def _drop_command_line_only(from_file: dict[str, Located], findings: Findings) -> list[str]:
    """Take what only the command line says out of `from_file`; its keys where a run wrote them, else problems."""
    ignored = []
    for key in COMMAND_LINE_ONLY:
        item = from_file.pop(key, None)
        if item is not None and written_by_run(item.file):
            ignored.append(key)
        elif item is not None:
            findings.add(item.where, key, f"is taken from the command line only, as --{key}; delete this line")
    return ignored


def read_command_line(argv: Sequence[str], findings: Findings) -> dict[str, Located]:
    typed: dict[str, Located] = {}
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if token in ("-h", "--help"):
            typed["help"] = Located("", _COMMAND_LINE, 0)
            continue
        name, has_value, value = token[2:].partition("=")
        key = name.replace("-", "_")
        if not token.startswith("--") or not key:
            if token.startswith("-") and tokens and not tokens[0].startswith("-"):
                tokens.pop(0)  # its value, which is no second problem
            findings.problems.append(f"{_COMMAND_LINE}: {token!r} is out of place; write --key value")
            continue
        if not has_value:
            if tokens and not tokens[0].startswith("--"):
                value = tokens.pop(0)
            elif key in COMMAND_LINE_ONLY:
                value = "true"
            else:
                findings.add(_COMMAND_LINE, key, f"has no value; write --{key} VALUE")
                continue
        typed[key] = Located(value, _COMMAND_LINE, 0)
    return typed


def _known(algorithm: Option, item: Located | None) -> str:
    """The algorithm's name if it is known, else an empty text (its problem is reported with the others)."""
    return str(item.value) if item is not None and item.value in (algorithm.choices or ()) else ""


def _own_options(algorithm: str, method_options: MethodOptions) -> dict[str, Option]:
    taken = {option.name for option in OPTIONS} | set(_RESERVED)
    options: dict[str, Option] = {}
    for option in method_options(algorithm):
        if option.name in taken or option.name in options:
            raise ValueError(f"option {option.name} of algorithm {algorithm} has another option's name; rename it")
        try:
            default = option.parse(option.default)
        except ValueError as error:
            raise ValueError(f"the default of {option.name} of algorithm {algorithm} {error}") from error
        options[option.name] = replace(option, default=default, group=f"algorithm {algorithm}")
    return options


def _take(
    given: Sequence[tuple[str, Located]], options: Mapping[str, Option], findings: Findings
) -> tuple[dict[str, Any], dict[str, str]]:
    """Value of each option, a later one of `given` winning over an earlier one, and the place that set it."""
    values = {name: option.default for name, option in options.items()}
    places: dict[str, str] = {}
    for key, item in given:
        option = options.get(key)
        if option is not None:
            places[key] = item.where
            untyped = item.line == 0 and option.type is not str
            try:
                values[key] = option.parse(plain_value(item.value) if untyped else item.value)
            except ValueError as error:
                findings.add(item.where, key, str(error))
    return values, places


def _unknown(
    key: str,
    algorithm: str,
    owners: Sequence[str],
    options: Mapping[str, Option],
    usb_only: Mapping[str, str],
) -> str:
    if owners:
        named = " and ".join(owners) if len(owners) < 4 else f"{', '.join(owners[:2])} and {len(owners) - 2} others"
        return f"the key {key!r} belongs to algorithm {named}, not to {algorithm}; delete it"
    if key in usb_only:
        return f"USB's key {key!r} is not taken here: {usb_only[key]}"
    guess = nearest(key, options)
    return f"unknown key {key!r}; " + (f"did you mean {guess!r}?" if guess else "--help lists all keys")


def _check_required(values: Mapping[str, Any], places: Mapping[str, str], source: str, findings: Findings) -> None:
    for key in _REQUIRED:
        if not values[key] and key not in findings.faulty:
            where = places.get(key, source)
            findings.add(where, key, f"is missing; set '{key}: NAME' in the YAML file or give --{key} NAME")


def _print_help(options: Iterable[Option]) -> None:
    parser = argparse.ArgumentParser(
        usage="semilearn-bbam train --c FILE [--key VALUE ...]",
        description="Train one algorithm. The command line wins over the YAML file, that over the defaults.",
        allow_abbrev=False,
        add_help=False,
    )
    groups = {"algorithm": parser.add_argument_group("algorithm")}
    groups["algorithm"].add_argument("--help", action="help", help="show this and leave")
    groups["algorithm"].add_argument("--c", metavar="FILE", help="YAML file of 'key: value' lines")
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        shown = str(option.default).lower() if isinstance(option.default, bool) else repr(option.default)
        notes = [", ".join(option.choices)] if option.choices else []
        notes += [text for text in (option.limits(), f"default {shown}") if text]
        kinds: dict[type[Any], str] = {int: "INT", float: "FLOAT", bool: "true|false"}
        groups[option.group].add_argument(
            f"--{option.name}",
            metavar=kinds.get(option.type, "TEXT"),
            help=f"{option.help} ({'; '.join(notes)})".strip().replace("%", "%%"),
        )
    parser.print_help()
