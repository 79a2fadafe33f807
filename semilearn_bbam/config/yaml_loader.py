"""Strict YAML: plain values only, every value with its file and line, inheritance between files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from semilearn_bbam.errors import UserError

_INHERITS = "inherits"
_LEADING_ZERO = "!leading-zero"
# At most 100 digits, so that int() cannot meet Python's limit on long numbers; a longer one reads as a float.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})\Z")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_ZEROS = re.compile(r"[-+]?0[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")


class ConfigError(UserError):
    """Settings that cannot be used; the text is for the user, one problem per line."""


@dataclass(frozen=True)
class Located:
    """A value and where it was set: `line` counts from 1, and 0 is a place without lines."""

    value: Any
    file: str
    line: int

    @property
    def where(self) -> str:
        """`file:line`, or the file alone where there is no line."""
        return f"{self.file}:{self.line}" if self.line else self.file


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 numbers and booleans, unique keys and no tags at all."""

    # An own table: PyYAML's would read `010` as 8, `1:30` as 90, `yes` as true and `5e-5` as text.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: str, file: str, problems: list[str]) -> None:
        self.file = file
        self.problems = problems
        super().__init__(text)

    def place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        peek: Callable[[], Any] = self.peek_event
        event = peek()
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            line = event.start_mark.line + 1
            short = " ".join(tag.replace("tag:yaml.org,2002:", "!!").split())
            raise ConfigError(f"{self.file}:{line}: the tag {short} is refused; write a plain value without it")
        return super().compose_node(parent, index)

    def unique_pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                self.problems.append(f"{self.place(key_node)}: a key must be a name; put it in quotes")
            elif key in first:
                before = f"first on line {first[key]}"
                self.problems.append(f"{self.place(key_node)}: {key!r} is set twice ({before}); delete one")
            else:
                first[key] = key_node.start_mark.line + 1
                yield key, key_node, value_node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return {key: self.construct_object(value, deep=deep) for key, _, value in self.unique_pairs(node)}

    def refuse_leading_zero(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        number = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", text)
        cure = f"write {number} for the number or '{text}' for text"
        self.problems.append(f"{self.place(node)}: {text} has a leading zero; {cure}")
        return text


_STANDARD = "tag:yaml.org,2002:"
_RESOLVERS: tuple[tuple[str, re.Pattern[str], Sequence[str]], ...] = (
    (_STANDARD + "int", _INT, "-+0123456789"),
    (_STANDARD + "float", _FLOAT, "-+.0123456789"),
    (_LEADING_ZERO, _ZEROS, "-+0"),
    (_STANDARD + "bool", _BOOL, "tTfF"),
    (_STANDARD + "null", _NULL, ["~", "n", "N", ""]),
)
for _tag, _pattern, _first in _RESOLVERS:
    _StrictLoader.add_implicit_resolver(_tag, _pattern, list(_first))
_StrictLoader.add_constructor(_LEADING_ZERO, _StrictLoader.refuse_leading_zero)


class _Dumper(yaml.SafeDumper):
    """Writes by the loader's own rules, so that text is quoted exactly where the loader would misread it."""

    yaml_implicit_resolvers = _StrictLoader.yaml_implicit_resolvers


def plain_value(text: str) -> Any:
    """What the unquoted `text` means: an int, a float, a bool, or the text itself."""
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text.lower() == "true" if _BOOL.match(text) else text


def format_yaml(values: Mapping[str, Any]) -> str:
    """YAML text, one `key: value` per line in the given order, that `load_yaml` reads back to equal values.

    Raises ConfigError for a value that is not a number, a truth value, text, None or a list of these.
    """
    try:
        return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, width=10**9) if values else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"a setting cannot be written as YAML: {_one_line(error)}") from error


def load_yaml(path: str | Path, problems: list[str] | None = None) -> dict[str, Located]:
    """Read a YAML file and all it inherits from: a value with its file and line for each key.

    `inherits: other.yaml` (or a list, of which a later file wins over an earlier one) is taken relative to
    the file that names it; a file's own keys win over inherited ones, and `inherits` itself is not returned.
    An empty file gives an empty dictionary. Faults raise ConfigError, one per line; with `problems` they are
    appended to it instead, and what could be read is returned.
    """
    faults: list[str] = []
    values = _load(str(path), "", (), faults)
    if problems is not None:
        problems.extend(faults)
    elif faults:
        raise ConfigError("\n".join(faults))
    return values


def _load(file: str, origin: str, chain: tuple[str, ...], problems: list[str]) -> dict[str, Located]:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        chain = (*chain, os.path.realpath(file))
    except UnicodeDecodeError:
        problems.append(f"{origin}{file!r} is not a text file in UTF-8; save it as UTF-8")
        return {}
    except FileNotFoundError:
        problems.append(f"{origin}there is no file {file!r}; check the path")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{origin}{file!r} cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    if chain[-1] in chain[:-1]:
        circle = chain[chain.index(chain[-1]) :]
        names = " -> ".join(os.path.basename(name) for name in circle)
        problems.append(f"{origin}files inherit from each other in a circle ({names}); break it")
        return {}
    own = _parse(file, text, problems)
    values: dict[str, Located] = {}
    parents = own.pop(_INHERITS, None)
    if parents is not None:
        listed = parents.value if isinstance(parents.value, list) else [parents.value]
        for parent in listed:
            if isinstance(parent, str) and parent:
                path = os.path.join(os.path.dirname(file), parent)
                values.update(_load(path, f"{parents.where}: {_INHERITS}: ", chain, problems))
            else:
                problems.append(f"{parents.where}: {_INHERITS} must be the name of a YAML file or a list of names")
    values.update(own)
    return values


def _parse(file: str, text: str, problems: list[str]) -> dict[str, Located]:
    values: dict[str, Located] = {}
    try:
        loader = _StrictLoader(text, file, problems)
        root = loader.get_single_node()
        if isinstance(root, yaml.MappingNode):
            for key, key_node, value_node in loader.unique_pairs(root):
                before = len(problems)
                value = loader.construct_object(value_node, deep=True)
                if len(problems) == before:  # a value already complained about is not checked a second time
                    values[key] = Located(value, file, key_node.start_mark.line + 1)
        elif root is not None and root.tag != _STANDARD + "null":
            problems.append(f"{loader.place(root)}: the file must consist of 'key: value' lines")
    except ConfigError as error:
        problems.append(str(error))
    except yaml.YAMLError as error:
        problems.append(_syntax_sentence(file, text, error))
    except (ValueError, OverflowError) as error:  # an escape or a version number beyond all bounds
        problems.append(f"{file}: this is not valid YAML: {_one_line(error)}")
    except RecursionError:
        problems.append(f"{file}: the values are nested too deeply; settings are plain 'key: value' lines")
    return values


def _syntax_sentence(file: str, text: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        begun = error.context_mark.line + 1 if error.context_mark is not None else line
        since = f" in what began on line {begun}" if begun != line else ""
        return f"{file}:{line}: this is not valid YAML: {error.problem}{since}"
    position = getattr(error, "position", 0)
    line = text.count("\n", 0, position) + 1
    return f"{file}:{line}: this is not valid YAML: {getattr(error, 'reason', None) or _one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
