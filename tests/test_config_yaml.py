"""The strict YAML reader and its writer."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import semilearn_bbam.config as config
from semilearn_bbam.config import ConfigError, format_yaml, load_yaml, plain_value
from tests.conftest import has_line

Write = Callable[..., Path]


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    return str(caught.value).split("\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5), ("1e3", 1000.0), (".5", 0.5), ("-1.", -1.0), ("+.5E+2", 50.0), ("12", 12),
        ("-7", -7), ("0", 0), ("true", True), ("False", False), ("~", None), ("", None), ("1_000", "1_000"),
        ("1:30", "1:30"), ("0x10", "0x10"), ("0o17", "0o17"), ("yes", "yes"), ("off", "off"),
        (".inf", ".inf"),
        ("2024-01-01", "2024-01-01"), ("'5'", "5"), ("[1, two]", [1, "two"]), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_plain_values_follow_yaml_1_2(write: Write, text: str, value: Any) -> None:
    read = load_yaml(write(f"# first line\nkey: {text}\n"))["key"]
    assert read.value == value
    assert type(read.value) is type(value)
    assert read.line == 2
    assert read.file.endswith("a.yaml")
    assert read.where.endswith("a.yaml:2")
    if not isinstance(value, (list, type(None))) and "'" not in text:
        assert plain_value(text) == value


@pytest.mark.parametrize(("text", "cure"), [("010", "10"), ("-007", "-7"), ("00.5", "0.5"), ("[1, 08]", "8")])
def test_leading_zero_is_an_error_with_its_line(write: Write, text: str, cure: str) -> None:
    path = write(f"a: 1\nb: {text}\n")
    (problem,) = faults(path)
    assert problem.startswith(f"{path}:2: ")
    assert f"write {cure} for the number" in problem


def test_repeated_keys_are_all_reported(write: Write) -> None:
    path = write("lr: 1\nseed: 2\nlr: 3\ninner:\n  x: 1\n  x: 2\n")
    outer, inner = faults(path)
    assert has_line(outer, f"{path}:3", "'lr' is set twice", "line 1")
    assert has_line(inner, f"{path}:6", "'x' is set twice", "line 5")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!int", "!own"])
def test_tags_are_refused_and_nothing_is_executed(write: Write, tmp_path: Path, tag: str) -> None:
    marker = tmp_path / "marker"
    path = write(f"seed: 1\nnet: {tag} ['touch {marker}']\n")
    (problem,) = faults(path)
    assert has_line(problem, f"{path}:2", f"tag {tag} is refused")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: 1\nb: 'open\n", 3), ("a: 1\n\tb: 2\n", 2), ("a: *nowhere\n", 1),
        ("a: 1\n---\nb: 2\n", 2), ("a: 1\nb: \x07\n", 2), ("- 1\n- 2\n", 1), ("just text\n", 1),
        ("5: x\n", 1),
        ("? [a]\n: 1\n", 1),
    ],
)  # fmt: skip
def test_malformed_files_give_one_sentence_with_the_line(write: Write, text: str, line: int) -> None:
    path = write(text)
    (problem,) = faults(path)
    assert problem.startswith(f"{path}:{line}: ")


def test_unreadable_files(write: Write, tmp_path: Path) -> None:
    assert "there is no file" in faults(tmp_path / "none.yaml")[0]
    assert "cannot be read" in faults(tmp_path)[0]
    assert "cannot be read" in faults(Path("a\0b"))[0]
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"net: caf\xe9\n")
    assert "UTF-8" in faults(path)[0]
    for text in ('a: "\\UFFFFFFFF"', f"%YAML {'9' * 5000}.1\n---\n"):
        assert "not valid YAML" in faults(write(text))[0]
    assert "nested too deeply" in faults(write("a: " + "[" * 20000))[0]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_empty_files_are_fine(write: Write, text: str) -> None:
    assert load_yaml(write(text)) == {}


def test_child_wins_over_parents_and_later_parents_over_earlier_ones(write: Write) -> None:
    write("a: 1\nb: 1\nc: 1\nd: 1\n", "shared/root.yaml")
    write("inherits: root.yaml\nb: 2\nc: 2\n", "shared/first.yaml")
    write("c: 3\n", "shared/second.yaml")
    child = write("inherits: [shared/first.yaml, shared/second.yaml]\n\nd: 4\n", "child.yaml")
    read = load_yaml(child)
    assert {key: item.value for key, item in read.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert read["a"].where == f"{child.parent}/shared/root.yaml:1"
    assert read["d"].where == f"{child}:3"


def test_a_common_ancestor_is_no_circle(write: Write) -> None:
    write("a: 1\n", "root.yaml")
    write("inherits: root.yaml\n", "left.yaml")
    write("inherits: root.yaml\n", "right.yaml")
    assert load_yaml(write("inherits: [left.yaml, right.yaml]\n"))["a"].value == 1


def test_inheritance_faults_name_the_file_that_inherits(write: Write) -> None:
    path = write("seed: 1\ninherits: [gone.yaml, 3]\n")
    missing, wrong = faults(path)
    assert has_line(missing, f"{path}:2", "inherits", "no file", "gone.yaml")
    assert has_line(wrong, f"{path}:2", "inherits", "name")
    assert "gone.yaml" not in wrong
    write("inherits: y.yaml\n", "x.yaml")
    (circle,) = faults(write("a: 1\ninherits: x.yaml\n", "y.yaml"))
    assert has_line(circle, "x.yaml:1", "inherits", "(y.yaml -> x.yaml -> y.yaml)")


KEYS = st.sampled_from(["a", "lr", "yes", "010", "null", "x y", "é", "1e3", "true", "~", "<<", "="])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.integers(-(10**99), 10**99) | FLOATS | st.booleans() | st.text() | st.none()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(KEYS, VALUES))
def test_what_is_written_is_read_back_exactly(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(format_yaml(values), encoding="utf-8")
    read = {key: item.value for key, item in load_yaml(path).items()}
    assert list(read) == list(values)
    for key, value in values.items():
        assert type(read[key]) is type(value)
        assert read[key] == value
        if isinstance(value, float):
            assert math.copysign(1, read[key]) == math.copysign(1, value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab:\n -[]{}'\"&*!|>%#,?~010e.\t", max_size=40))
def test_no_file_makes_the_reader_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "noise.yaml"
    path.write_text(text, encoding="utf-8")
    found: list[str] = []
    load_yaml(path, found)
    assert all(str(path) in line for line in found)


def test_the_package_imports_neither_torch_nor_semilearn() -> None:
    roots: set[str] = set()
    for file in Path(str(config.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                roots.add(str(node.module).split(".")[0] if node.level == 0 else ".")
                assert node.level < 2, f"{file} imports upwards"
    assert "yaml" in roots
    assert not roots & {"torch", "semilearn", "numpy"}
