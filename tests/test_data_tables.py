from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.tables import LONGEST_FIELD, Table, brief, read_table, read_text
from tests.conftest import has_line, naming


def table(folder: Path, name: str, content: str | bytes) -> Table:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path)


def fields(result: Table) -> list[dict[str, object]]:
    return [row for _, row in result.rows]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "by"), [("a.csv", ","), ("a.csv", ";"), ("a.CSV", "\t")])
def test_separated_values(tmp_path: Path, mark: bytes, end: str, name: str, by: str) -> None:
    lines = [f"path{by} labels ", f"sea.jpg{by}cat", "", f'"a ""b"" {by} c"{by}', f'"two{end}lines"{by}dog']
    result = table(tmp_path, name, mark + end.join([*lines, f"x{by}y", ""]).encode())
    assert result.bad == []
    assert result.rows == [
        (f"{name}, line 2", {"path": "sea.jpg", "labels": "cat"}),
        (f"{name}, line 4", {"path": f'a "b" {by} c', "labels": ""}),
        (f"{name}, line 5", {"path": "two\nlines", "labels": "dog"}),
        (f"{name}, line 7", {"path": "x", "labels": "y"}),
    ]


def test_quotes_are_ordinary_in_a_tab_separated_file(tmp_path: Path) -> None:
    content = 'text\tlabels\n"open\tx\n"two" words\ty\nplain\tz\n"all ""of"" it"\tx\n'
    result = table(tmp_path, "a.TSV", content.replace("\n", "\r\n"))
    assert [row["text"] for row in fields(result)] == ['"open', '"two" words', "plain", '"all ""of"" it"']
    assert has_line(result.notes[0], "a.TSV", 1, "line 5")  # it may be meant without its quotes
    broken = table(tmp_path, "b.tsv", 'text\tlabels\n"two\nlines"\tx\ny\tz\n')
    assert [name for name, _ in broken.bad] == ["b.tsv, line 2"]
    assert has_line(broken.notes[0], "b.tsv", "line break")


def test_a_line_for_excel_names_the_delimiter(tmp_path: Path) -> None:
    result = table(tmp_path, "a.csv", "sep=;\npath;labels\na, b.jpg;x\n")
    assert result.rows == [("a.csv, line 3", {"path": "a, b.jpg", "labels": "x"})]


def test_json_lines_named_json(tmp_path: Path) -> None:
    result = table(tmp_path, "a.json", '{"text": "a"}\n{"text": "b"}\n')
    assert fields(result) == [{"text": "a"}, {"text": "b"}]
    assert has_line(result.notes[0], "a.json", ".jsonl")


def test_an_index_without_a_name_is_a_column(tmp_path: Path) -> None:
    assert fields(table(tmp_path, "a.csv", ",path\n0,x\n")) == [{"": "0", "path": "x"}]


@pytest.mark.parametrize(("encoding", "word"), [("utf-16", "UTF-16"), ("cp1252", "cp1252")])
def test_the_likely_encoding_is_named(tmp_path: Path, encoding: str, word: str) -> None:
    with pytest.raises(DataError, match=naming("a.csv", "UTF-8", word)):
        table(tmp_path, "a.csv", "path,labels\nü.jpg,Vögel\n".encode(encoding))


def test_a_tab_separated_file_keeps_its_commas(tmp_path: Path) -> None:
    assert fields(table(tmp_path, "a.tsv", "text\tlabels\na, b; c\tx\n")) == [{"text": "a, b; c", "labels": "x"}]


def test_names_of_columns_may_hold_any_mark(tmp_path: Path) -> None:
    result = table(tmp_path, "a.csv", 'text,"a; b; c","d\n;;;"\nx,1,0\n')
    assert fields(result) == [{"text": "x", "a; b; c": "1", "d\n;;;": "0"}]


def test_bad_rows_of_csv_are_named_and_the_others_read(tmp_path: Path) -> None:
    result = table(tmp_path, "a.csv", 'path,labels\na,b,c\nd\ne,f\n"g"h,i\nj,k\n"l,m\nn,o\n')
    assert result.rows == [
        ("a.csv, line 4", {"path": "e", "labels": "f"}),
        ("a.csv, line 6", {"path": "j", "labels": "k"}),
    ]
    assert result.bad[:2] == [
        ("a.csv, line 2", "3 fields for 2 columns"),
        ("a.csv, line 3", "1 fields for 2 columns"),
    ]
    # A stray quote costs its own row; one that is never closed swallows the rest, and is named where it opens.
    assert [name for name, _ in result.bad[2:]] == ["a.csv, line 5", "a.csv, line 7"]


def test_an_old_line_end_is_a_line_end(tmp_path: Path) -> None:
    assert fields(table(tmp_path, "a.csv", "path,labels\ra,b\rc,d\r"))[1] == {"path": "c", "labels": "d"}


def test_a_long_text_is_no_error_and_pythons_limit_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "word " * 40_000
    assert len(long) > before
    assert fields(table(tmp_path, "a.csv", f"text,labels\n{long},x\n"))[0]["text"] == long
    with pytest.raises(DataError):
        table(tmp_path, "a.csv", "")
    assert csv.field_size_limit() == before < LONGEST_FIELD


def test_a_nul_does_not_hide_other_rows(tmp_path: Path) -> None:
    result = table(tmp_path, "a.csv", "text,labels\na\0b,x\nc,d\n")
    assert result.rows[-1] == ("a.csv, line 3", {"text": "c", "labels": "d"})
    assert len(result.rows) + len(result.bad) == 2  # Python 3.10 refuses the row, later ones read it


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ("first line", "name the columns", "path,labels")),
        ("\npath,labels\na,b\n", ("first line", "name the columns", "path,labels")),
        ('"path,labels\na,b\n', ("first line", "name the columns", "path,labels")),
        ("path,path\na,b\n", ("'path' twice", "own name")),
        ("path, path \na,b\n", ("'path' twice", "own name")),
        ("path,labels,\na,b,c\n", ("column without a name", "own name")),
        ("path,labels,,\na,b,c,d\n", ("column without a name", "own name")),
    ],
)
def test_a_first_line_that_names_no_columns(tmp_path: Path, content: str, message: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "a.csv", *message)):
        table(tmp_path, "a.csv", content)


def test_only_a_first_line_is_a_table_of_nothing(tmp_path: Path) -> None:
    assert table(tmp_path, "a.csv", "path,labels\n") == Table()
    assert table(tmp_path, "a.jsonl", "\n") == Table()
    assert table(tmp_path, "a.json", "[]") == Table()


def test_lines_of_json(tmp_path: Path) -> None:
    lines = ['{"text": "a\\nb", "labels": ["x"]}', "", "{broken", "[1]", '"text"', '{"text": NaN}', '{"text": "é"}']
    result = table(tmp_path, "a.jsonl", "\ufeff" + "\r\n".join(lines))
    assert result.rows == [
        ("a.jsonl, line 1", {"text": "a\nb", "labels": ["x"]}),
        ("a.jsonl, line 7", {"text": "é"}),
    ]
    names, reasons = zip(*result.bad, strict=True)
    assert names == tuple(f"a.jsonl, line {line}" for line in (3, 4, 5, 6))
    assert reasons[0].startswith("no JSON: ")
    assert reasons[0].endswith(", column 2")
    assert reasons[1:3] == ("not a JSON object", "not a JSON object")
    assert has_line(reasons[3], "no JSON", "NaN")


def test_half_a_character_and_endless_nesting_are_bad_rows(tmp_path: Path) -> None:
    lines = ['{"text": "\\ud83d"}', '{"text": ' + "[" * 100_000, '{"labels": ' + "9" * 5000 + "}"]
    result = table(tmp_path, "a.jsonl", "\n".join([*lines, '{"text": "\\ud83d\\ude00"}']))
    assert fields(result) == [{"text": "😀"}]
    assert [name for name, _ in result.bad] == [f"a.jsonl, line {line}" for line in (1, 2, 3)]
    assert "half of a surrogate pair" in result.bad[0][1]


def test_a_list_and_an_object_of_objects(tmp_path: Path) -> None:
    assert table(tmp_path, "a.json", '[{"text": "a"}, 3]') == Table(
        [("a.json, item 0", {"text": "a"})], [("a.json, item 1", "not a JSON object")]
    )
    usb = {"0": {"ori": "a", "label": 3}, "1": {"ori": "b", "label": [1, 2]}, "2": "c"}
    assert table(tmp_path, "b.json", json.dumps(usb)) == Table(
        [("b.json, item '0'", usb["0"]), ("b.json, item '1'", usb["1"])],
        [("b.json, item '2'", "not a JSON object")],
    )


@pytest.mark.parametrize("content", ["", "{", "3", "null", '[{"a": 1}] []', "[" * 100_000, "[NaN]"])
def test_json_that_is_no_list_of_objects(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=naming("a.json", "cannot be read", "fix the file")):
        table(tmp_path, "a.json", content)


def test_files_that_cannot_be_read_are_named_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("none.csv", "exist", "data_dir")):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=naming("folder.csv", "Is a directory")):
        read_table(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=naming("a\\x00.csv", "NUL")):
        read_table(tmp_path / "a\0.csv")
    with pytest.raises(DataError, match=naming("a.xlsx", ".csv", ".tsv", ".jsonl", ".json")):
        table(tmp_path, "a.xlsx", "path,labels\n")
    with pytest.raises(DataError, match=naming("a.csv", "line 3", "UTF-8")):
        table(tmp_path, "a.csv", "text,labels\na,b\ncafé,c\n".encode("latin-1"))
    with pytest.raises(DataError, match=naming("a.csv", "line 1", "UTF-8")):
        table(tmp_path, "a.csv", "text,labels\na,b\n".encode("utf-16"))


def test_text_loses_mark_and_returns_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\n b\xe2\x80\xa8c ")
    assert read_text(tmp_path / "a.txt") == "a\n\n b\u2028c "


def test_brief_values_fit_a_line() -> None:
    deep: object = 0
    for _ in range(5000):
        deep = [deep]
    assert brief("a\nb") == r"'a\nb'"
    assert len(brief("x" * 10**6)) <= 80
    assert len(brief(deep)) < 50
