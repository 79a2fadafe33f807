"""A check of keys and method names that answers at once, before USB and torch are imported.

Which names could be valid is read off the source texts of the methods, here and in USB, without importing them. It
reports only what the full resolution would report too, and leaves all else to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .option import Option
from .options import OPTIONS
from .resolve import Findings, read_command_line, resolve
from .usb_names import USB_ONLY, refused_names
from .yaml_loader import load_yaml

_PACKAGE = Path(__file__).parents[1]
_DECLARES = ("Option", "SSL_Argument")  # calls whose first argument is an option's name
_WORDS = (*_DECLARES, "ALGORITHMS")


@dataclass(frozen=True)
class SourceNames:
    """What source texts declare: names of methods' options, of the methods here and of USB's."""

    options: frozenset[str]
    methods: frozenset[str]
    usb_methods: frozenset[str]


def check_quickly(argv: Sequence[str]) -> None:
    """ConfigError where a command line or its YAML file has an unknown key, or names no method that there is.

    The error names all other problems too that can be seen without the methods. `--help` without a method prints the
    options that all methods share and raises SystemExit(0). Returns where nothing of this is found, and where USB is
    not installed.
    """
    names = source_names()
    if names is None:
        return
    typed = read_command_line(argv, Findings())
    file = typed.pop("c", None)
    from_file = load_yaml(str(file.value), []) if file else {}
    asks_for_help = typed.pop("help", None) is not None
    method = typed.get("algorithm", from_file.get("algorithm"))
    shared = {option.name for option in OPTIONS}
    known_method = method is not None and method.value in names.methods
    known_keys = {"algorithm", *shared, *names.options}.issuperset([*from_file, *typed])
    if known_method and (known_keys or asks_for_help):
        return
    own = [_OptionByName(name, str, None, "") for name in sorted(names.options - shared)]
    refused = refused_names(sorted(names.usb_methods), names.methods)
    resolve(argv, lambda name: own, sorted(names.methods), USB_ONLY, refused)


class _OptionByName(Option):
    """An option of a method of which only the name is known, so that any value passes."""

    def parse(self, value: Any) -> Any:
        return value


@cache
def source_names() -> SourceNames | None:
    """The names in the sources of this package's methods and USB's; None where USB is not installed."""
    usb = find_spec("semilearn")  # finds a package without importing it
    if usb is None or not usb.submodule_search_locations:
        return None
    own_options, own_methods = _declared([*_PACKAGE.glob("algorithms/*.py"), *_PACKAGE.glob("engine/**/*.py")])
    roots = [Path(folder) for folder in usb.submodule_search_locations]
    usb_options, usb_methods = _declared(path for root in roots for path in root.glob("algorithms/**/*.py"))
    return SourceNames(frozenset(own_options | usb_options), frozenset(own_methods), frozenset(usb_methods))


def _declared(paths: Iterable[Path]) -> tuple[set[str], set[str]]:
    """Names of options and of registered methods in these files."""
    options: set[str] = set()
    methods: set[str] = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in _WORDS):
            continue
        for called, name in _named(ast.parse(text, str(path))):
            if called in _DECLARES:
                options.add(name.lstrip("-").replace("-", "_"))
            elif called == "ALGORITHMS":
                methods.add(name)
    return options, methods


def _named(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What declares a name, and the name: Option("x", ..), Option(name="x", ..) and SSL_Argument("--x", ..), and
    ALGORITHMS of ALGORITHMS.register("x") and ALGORITHMS["x"] = .."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts = ast.unparse(node.func).split(".")
            called = parts[-2] if parts[-1] == "register" and len(parts) > 1 else parts[-1]
            texts = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            called, texts = ast.unparse(node.value), [node.slice]
        else:
            continue
        for text in texts:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield called, text.value
