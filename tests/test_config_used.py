"""No key of a shipped config is without effect: each is read somewhere in the package or in USB."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import semilearn
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.config import OPTIONS, load_yaml
from semilearn_bbam.run import algorithm_names
from tests.conftest import METHOD_CONFIGS

PACKAGE = Path(__file__).parents[1] / "semilearn_bbam"


def words_read(folder: Path) -> set[str]:
    """Attributes that are read, and texts, in the sources of a folder, but for those that only declare options."""
    words: set[str] = set()
    for path in folder.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Option"]
        declared = {id(argument) for call in calls for argument in call.args}
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in declared:
                words.add(node.value)
    return words


@pytest.fixture(scope="module")
def read() -> set[str]:
    return words_read(PACKAGE) | words_read(Path(semilearn.__file__).parent)


def test_a_key_that_nobody_reads_is_found(read: set[str]) -> None:
    assert "no_such_key" not in read


@pytest.mark.parametrize("name", [option.name for option in OPTIONS])
def test_every_shared_option_is_read(name: str, read: set[str]) -> None:
    assert name in read


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_option_of_an_algorithm_is_read(algorithm: str, read: set[str]) -> None:
    names = {option.name for option in ALGORITHMS[algorithm].own_options()}
    assert names <= read, names - read


@pytest.mark.parametrize("path", METHOD_CONFIGS, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_config_is_known_to_its_algorithm(path: Path) -> None:
    settings = load_yaml(path)
    own = {option.name for option in ALGORITHMS[str(settings["algorithm"].value)].own_options()}
    assert set(settings) <= own | {option.name for option in OPTIONS} | {"algorithm"}
