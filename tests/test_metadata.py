"""What pyproject.toml declares is what the package imports, and goes with the tested set of versions."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Imported where a user has the extra of pyproject.toml, by the name of the module.
EXTRAS = {"pyarrow": "pyarrow", "pillow_heif": "pillow-heif", "optuna": "optuna", "pynndescent": "pynndescent"}
EXTRAS |= {"cleanlab": "cleanlab", "ray": "ray", "submitit": "submitit"}
EXTRAS |= {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Top-level names of what the package imports, wherever it does."""
    names: set[str] = set()
    for path in (ROOT / "semilearn_bbam").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"semilearn_bbam"}


DECLARED = {normal(item.name): item for item in map(Requirement, PROJECT["dependencies"])}


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    distributions = packages_distributions()
    needed = {normal(name) for module in imported() - EXTRAS.keys() for name in distributions[module]}
    assert "wandb" in needed
    assert needed == set(DECLARED)
    extras = {Requirement(item).name for items in PROJECT["optional-dependencies"].values() for item in items}
    assert imported() >= EXTRAS.keys()
    assert extras >= set(EXTRAS.values())


@pytest.mark.parametrize("python", ["3.10", "3.13"])
def test_the_tested_set_is_within_the_bounds(python: str) -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line]
    pinned = {
        normal(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate({"python_version": python})
    }
    for name, requirement in DECLARED.items():
        assert requirement.specifier.contains(pinned[name]), requirement
    for extra in PROJECT["optional-dependencies"]["test"]:
        assert normal(Requirement(extra).name) in pinned, extra


def test_every_dependency_has_a_lower_bound() -> None:
    assert not [name for name, item in DECLARED.items() if not any(s.operator in (">=", "==") for s in item.specifier)]
