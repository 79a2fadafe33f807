"""Docstrings of the pure modules and of the heads: examples run, and arguments, results and errors are described."""

from __future__ import annotations

import ast
import doctest
import functools
import inspect
import re
import textwrap
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.test_syntax_trees import PURE

HEADS = ("nets.heads", "nets.relation", "nets.latent", "nets.twins", "nets.ensemble")
MODULES = [f"semilearn_bbam.{name}" for name in (*PURE, *HEADS)]
# The Python API, and what its messages are made with.
API = [f"semilearn_bbam.{name}" for name in ("errors", "config.settings", "run", "inference")]
SECTION = re.compile(r"^(Args|Shapes|Returns|Raises|Example):$", re.MULTILINE)
ARGUMENT = re.compile(r"^    (\w+): ", re.MULTILINE)
PROPERTIES = (property, functools.cached_property)

Public = type | Callable[..., Any]


def public(module: ModuleType) -> dict[str, Public]:
    """Functions and classes of a module that it defines itself and whose names have no leading underscore.

    A protocol is left out: it has no arguments, and its docstring says what its methods do.
    """
    members = {
        name: member
        for name, member in vars(module).items()
        if not name.startswith("_") and not getattr(member, "_is_protocol", False)
    }
    return {
        name: member
        for name, member in members.items()
        if (inspect.isfunction(member) or inspect.isclass(member)) and member.__module__ == module.__name__
    }


def sections(member: Public) -> dict[str, str]:
    """Header -> text of a docstring; what precedes the first header is under ""."""
    first, *rest = SECTION.split(inspect.cleandoc(member.__doc__ or ""))
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def parameters(member: Public) -> list[str]:
    return [name for name in inspect.signature(member).parameters if name not in ("self", "cls")]


def raises(function: Callable[..., Any]) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def problems(member: Public) -> list[str]:
    """What the docstring of a public function or class lacks."""
    text = sections(member)
    lacks = []
    if not text[""].strip():
        lacks.append("a sentence")
    if ARGUMENT.findall(text.get("Args", "")) != parameters(member):
        lacks.append(f"Args: {', '.join(parameters(member))}")
    if ">>> " not in text.get("Example", ""):
        lacks.append("Example")
    if inspect.isclass(member):
        if issubclass(member, torch.nn.Module) and "Shapes" not in text:
            lacks.append("Shapes")
        return lacks + [f"{name}: {lack}" for name in vars(member) for lack in method_problems(member, name)]
    if "Returns" not in text and inspect.signature(member).return_annotation != "None":
        lacks.append("Returns")
    if "Raises" not in text and raises(member):
        lacks.append("Raises")
    return lacks


def method_problems(owner: type, name: str) -> list[str]:
    """A public method needs a docstring that names its parameters; that of `forward` is the class's Shapes."""
    method = getattr(owner, name)
    if name.startswith("_") or name == "forward" or not callable(method) | isinstance(method, PROPERTIES):
        return []
    text = inspect.getdoc(method) or ""
    if not text:
        return ["a docstring"]
    return [key for key in parameters(method) if not re.search(rf"\b{key}\b", text)] if callable(method) else []


@pytest.mark.parametrize("name", [*MODULES, *API])
def test_examples_run(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        results = doctest.testmod(import_module(name))
    assert results.attempted
    assert not results.failed


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_are_complete(name: str) -> None:
    members = public(import_module(name))
    assert members
    assert {name: problems(member) for name, member in members.items() if problems(member)} == {}


@pytest.mark.parametrize("name", ["semilearn_bbam.errors", "semilearn_bbam.run", "semilearn_bbam.inference"])
def test_docstrings_of_the_api_are_complete(name: str) -> None:
    """Those of functions; one that needs a run, or makes one, has its example in `load_run`."""
    functions = {key: member for key, member in public(import_module(name)).items() if inspect.isfunction(member)}
    assert functions
    in_load_run = ("run", "build_algorithm")
    lacking = {key: [lack for lack in problems(member) if (key not in in_load_run or lack != "Example")]
               for key, member in functions.items()}  # fmt: skip
    assert {key: lacks for key, lacks in lacking.items() if lacks} == {}


def test_an_incomplete_docstring_is_reported() -> None:
    def undocumented(x: int, y: int) -> int:
        raise ValueError

    def swapped(x: int, y: int) -> int:
        """Give one of them.

        Args:
            y: a number.
            x: a number.

        Returns:
            x.

        Example:
            >>> 1
            1
        """
        return x

    class Bare(torch.nn.Module):
        """A net.

        Example:
            >>> 1
            1
        """

        def method(self, depth: int) -> None:
            """Do it."""

    assert problems(undocumented) == ["a sentence", "Args: x, y", "Example", "Returns", "Raises"]
    assert problems(swapped) == ["Args: x, y"]
    assert [lack for lack in problems(Bare) if "args" not in lack] == ["Shapes", "method: depth"]
