"""Manifests that are any bytes, nearly right or right: a Source or a UserError, and what is written is what is read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.readers.columns import INDEX, STRONG, folded
from semilearn_bbam.data.readers.fields import EMPTY_WORDS
from semilearn_bbam.data.readers.header import KNOWN
from semilearn_bbam.data.readers.manifest import load_manifest
from semilearn_bbam.data.readers.parted import NAMES as PART_COLUMNS
from semilearn_bbam.errors import UserError
from tests.conftest import settings

EXAMPLES = int(os.environ.get("SEMILEARN_BBAM_FUZZ", "80"))  # of each test
few = budget(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
SUFFIXES = ("csv", "tsv", "jsonl", "json")
ROLES = ("manifest", "test", "unlabeled", "label_file")
WORDS = ["path", "text", "ori", "labels", "label", "strong", "aug_0", "aug_1", "aug_2", "aug_3", "id", "x", "y", ""]
RESERVED = {*KNOWN, *INDEX, *STRONG, *PART_COLUMNS, ""}  # columns that are something else than a label
GOOD = {
    "csv": b'text,labels,strong\n"a, b\nc",x;y,z\nd,x,\n',
    "tsv": b"path\tx\ty\na.png\t0\t1\nb.png\t1\t0\n",
    "jsonl": b'{"text": "a\\u00e9", "labels": ["x", 2]}\n{"text": "b", "labels": "x;y"}\n',
    "json": b'{"0": {"ori": "a", "aug_0": "b", "label": [1, 2]}, "1": {"ori": "c", "label": 3}}',
}

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r;|"), min_size=1, max_size=6).map(
    str.strip
)
names = names.filter(lambda name: name.lower() not in ("", *EMPTY_WORDS))
label_lists = st.lists(names, min_size=1, max_size=4, unique=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three good files, for a fuzzed one to be added."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "good_manifest.csv").write_text("text,labels\na,x;y\nb,y\nc,x\n")
    (folder / "good_test.csv").write_text("text,labels\nheld out,x\n")
    return folder


def attempt(folder: Path, suffix: str, role: str, content: bytes) -> None:
    """Read `content` in this role under both policies; anything but a Source or one line of UserError escapes."""
    (folder / f"fuzzed.{suffix}").write_bytes(content)
    files = {"manifest": "good_manifest.csv", "test": "good_test.csv"} | {role: f"fuzzed.{suffix}"}
    if role == "manifest":
        files["test"] = ""
    for policy in ("fail", "skip"):
        args = settings(dataset="manifest", data_dir=folder, bad_data=policy, cache_dir=folder / "cache", **files)
        message = "read"
        try:
            assert isinstance(load_source(args), Source)
        except UserError as error:
            message = str(error)
        assert message
        assert "\n" not in message
        assert len(message) < 30_000


@pytest.mark.parametrize("role", ROLES)
@few
@given(suffix=st.sampled_from(SUFFIXES), content=st.binary(max_size=200))
def test_any_bytes(folder: Path, role: str, suffix: str, content: bytes) -> None:
    attempt(folder, suffix, role, content)


@few
@given(suffix=st.sampled_from(SUFFIXES), role=st.sampled_from(ROLES), data=st.data())
def test_good_files_with_damage(folder: Path, suffix: str, role: str, data: st.DataObject) -> None:
    content = GOOD[suffix]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 9)))
        damage = st.binary(max_size=4) | st.sampled_from(
            [b'"', b"\n", b"\r", b",", b"{", b"]", b"\0", content[start:end]]
        )
        content = content[:start] + data.draw(damage) + content[end:]
    attempt(folder, suffix, role, content)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["x", "y;x", "0", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), values, max_size=4) | values
likely = st.fixed_dictionaries(
    {"text": st.text(max_size=4)}, optional={"labels": values, "x": values, "strong": values}
)


@few
@given(
    role=st.sampled_from(ROLES[:3]), content=st.lists(likely | rows, max_size=6) | st.dictionaries(texts, rows) | rows
)
@example(role="manifest", content=[{"path": "\ud800", "labels": ["x"]}, {"path": "a", "labels": ["x"]}])
@example(role="manifest", content=[{"text": "a", "labels": "9" * 5000}, {"text": "b", "labels": "7"}])
def test_any_json(folder: Path, role: str, content: Any) -> None:
    attempt(folder, "json", role, json.dumps(content).encode())
    if isinstance(content, list):
        attempt(folder, "jsonl", role, "\n".join(map(json.dumps, content)).encode())


@few
@given(
    role=st.sampled_from(ROLES[:3]), cells=st.lists(st.lists(st.sampled_from(WORDS) | texts, max_size=4), max_size=5)
)
def test_any_table(folder: Path, role: str, cells: list[list[str]]) -> None:
    attempt(folder, "csv", role, separated(cells, ","))


def separated(cells: list[list[str]], delimiter: str) -> bytes:
    if delimiter == "\t":  # in which nothing can be quoted
        return "\n".join("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in row) for row in cells).encode()
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(cells)
    return out.getvalue().encode()


Writer = Callable[[str, list[str], list[list[str]]], tuple[str, bytes]]


def with_field(delimiter: str) -> Writer:
    def write(key: str, items: list[str], labels: list[list[str]]) -> tuple[str, bytes]:
        cells = [[item, ";".join(row)] for item, row in zip(items, labels, strict=True)]
        return "tsv" if delimiter == "\t" else "csv", separated([[key, "labels"], *cells], delimiter)

    return write


def as_lines(key: str, items: list[str], labels: list[list[str]]) -> tuple[str, bytes]:
    lines = [json.dumps({key: item, "labels": row}) for item, row in zip(items, labels, strict=True)]
    return "jsonl", "\n".join(lines).encode()


def as_list(key: str, items: list[str], labels: list[list[str]]) -> tuple[str, bytes]:
    content = [{"labels": "|".join(row), key: item} for item, row in zip(items, labels, strict=True)]
    return "json", json.dumps(content, ensure_ascii=False).encode()


def as_usb(key: str, items: list[str], labels: list[list[str]]) -> tuple[str, bytes]:
    name = "ori" if key == "text" else key
    content = {str(i): {name: item, "label": row} for i, (item, row) in enumerate(zip(items, labels, strict=True))}
    return "json", json.dumps(content).encode()


def as_read(text: str, write: Writer) -> str:
    """A text as it is after writing and reading."""
    if "with" not in write.__qualname__:
        return text
    suffix, _ = write("text", [], [])
    return re.sub(r"[\t\r\n]", " ", text) if suffix == "tsv" else text.replace("\r\n", "\n")


def read_back(folder: Path, key: str, suffix: str, content: bytes, separator: str) -> Source:
    (folder / f"written.{suffix}").write_bytes(content)
    (folder / "nothing.json").write_text(json.dumps([{key: "never listed above", "labels": []}]))
    options = {"label_separator": separator, "label_form": "names", "empty_labels": "negative"}
    return load_manifest(settings(data_dir=folder, manifest=f"written.{suffix}", test="nothing.json", **options))


@pytest.mark.parametrize("write", [with_field(","), with_field(";"), with_field("\t"), as_lines, as_list, as_usb])
@few
@given(labels=label_lists, data=st.data())
def test_what_is_written_is_what_is_read(folder: Path, write: Writer, labels: list[str], data: st.DataObject) -> None:
    label_sets = data.draw(st.lists(st.lists(st.sampled_from(labels), unique=True), min_size=1, max_size=5))
    label_sets[0] = labels
    items = [data.draw(texts) for _ in label_sets]
    separator = "none" if max(map(len, label_sets)) < 2 else "|" if write is as_list else ";"
    source = read_back(folder, "text", *write("text", items, label_sets), separator)
    whole = all(set(label) <= set("0123456789") for label in labels)
    order = sorted(sorted(labels), key=int) if whole else sorted(labels)
    assert source.label_names == tuple(order)
    assert source.train == [as_read(item, write) for item in items]
    assert source.targets.tolist() == [[float(label in row) for label in order] for row in label_sets]
    assert source.problems == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", None])
@few
@given(labels=label_lists, data=st.data())
def test_columns_keep_their_order(folder: Path, delimiter: str | None, labels: list[str], data: st.DataObject) -> None:
    labels = [label for label in labels if label not in WORDS and folded(label) not in RESERVED] or ["fox"]
    bits = data.draw(
        st.lists(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)), min_size=1, max_size=4)
    )
    items = [data.draw(texts) for _ in bits]
    if delimiter:
        cells = [[*(str(int(bit)) for bit in row), item] for item, row in zip(items, bits, strict=True)]
        suffix, content = "tsv" if delimiter == "\t" else "csv", separated([[*labels, "text"], *cells], delimiter)
        items = [re.sub(r"[\t\r\n]", " ", item) if delimiter == "\t" else item.replace("\r\n", "\n") for item in items]
    else:
        objects = [dict(zip(labels, row, strict=True)) | {"text": item} for item, row in zip(items, bits, strict=True)]
        suffix, content = "json", json.dumps(objects).encode()
    (folder / f"written.{suffix}").write_bytes(content)
    test = [{"text": "never listed above"} | dict.fromkeys(labels, 0)]
    (folder / "nothing.json").write_text(json.dumps(test))
    source = load_manifest(settings(data_dir=folder, manifest=f"written.{suffix}", test="nothing.json"))
    assert source.label_names == tuple(labels)
    assert source.train == items
    assert source.targets.tolist() == [[float(bit) for bit in row] for row in bits]


parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/\r"), min_size=1, max_size=5)


@pytest.mark.parametrize("write", [with_field(","), as_lines, as_usb])
@few
@given(data=st.data())
def test_paths_come_out_below_the_root(folder: Path, write: Writer, data: st.DataObject) -> None:
    paths = data.draw(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), min_size=1, max_size=4))
    nonblank = [path for path in paths if path.strip()]
    root = os.path.abspath(folder)
    joined = [os.path.normpath(f"{root}/{path}") for path in nonblank]
    inside = [path for path in joined if os.path.relpath(path, root).split("/")[0] not in ("..", ".")]
    suffix, content = write("path", [*paths, "good_test.csv"], [["x"]] * (len(paths) + 1))
    source = read_back(folder, "path", suffix, content, "none")
    images: Any = source.train
    assert images.paths == [*inside, f"{root}/good_test.csv"]
    assert len(source.problems) == len(paths) - len(inside)
