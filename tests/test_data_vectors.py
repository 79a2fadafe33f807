"""LibSVM, ARFF and sparse matrices as `dataset: features`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, save_npz

from semilearn_bbam.data.dataset import SOURCES, DataError, Source
from semilearn_bbam.data.readers.vectors import table
from tests.conftest import has_line, naming, settings
from tests.forms import write


def load(root: Path, file: str, **options: Any) -> Source:
    return SOURCES["features"](settings(dataset="features", data_dir=root, feature_file=file, **options))


def pairs(source: Source) -> dict[tuple[float, ...], tuple[float, ...]]:
    """Vector -> targets over both parts."""
    x, y = (
        np.concatenate([source.train, source.test]).astype(float),
        np.concatenate([source.targets, source.test_targets]),
    )
    return {tuple(map(float, np.round(row, 3))): tuple(map(float, cells)) for row, cells in zip(x, y, strict=True)}


# ---------------------------------------------------------------------- LibSVM

LIBSVM = "0,2 1:0.5 3:1.2\n1 2:0.1\n2 1:7 # a comment\n1:3\n"
READ = {(0.5, 0, 1.2): (1, 0, 1), (0, 0.1, 0): (0, 1, 0), (7, 0, 0): (0, 0, 1), (3, 0, 0): (0, 0, 0)}


@pytest.mark.parametrize("suffix", ["libsvm", "svm", "txt"])
def test_libsvm_with_a_held_out_part(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", LIBSVM)
    source = load(tmp_path, f"a.{suffix}")
    assert source.label_names == ("0", "1", "2")
    assert pairs(source) == READ
    assert (len(source.targets), len(source.test_targets)) == (3, 1)
    notes = "\n".join(source.notes)
    assert has_line(notes, "held out 1", "test_ratio")
    assert has_line(notes, "sparse", "dense")
    assert has_line(notes, "1 lines", "no label")
    assert np.array_equal(load(tmp_path, f"a.{suffix}").test, source.test)


def test_libsvm_with_a_test_file_a_first_line_of_counts_and_features_from_0(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "2 4 12\n3,11 0:1 2:1\n3 3:1\n")
    write(tmp_path / "b.txt", "7 1:1\n")
    source = load(tmp_path, "a.txt", test="b.txt")
    assert source.label_names == ("3", "7", "11")
    assert np.asarray(source.train).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]
    assert source.targets.tolist() == [[1, 0, 1], [1, 0, 0]]
    assert np.asarray(source.test).tolist() == [[0, 1, 0, 0]]
    assert source.test_targets.tolist() == [[0, 1, 0]]
    assert has_line("\n".join(source.notes), "2 4 12", "counts")


@pytest.mark.parametrize(("lines", "first"), [("0 1:1\n2 1:2\n", 0), ("1 1:1\n3 1:2\n", 1), ("1 1:1\n2 1:2\n", 0)])
def test_a_label_file_names_the_numbers_of_libsvm(tmp_path: Path, lines: str, first: int) -> None:
    write(tmp_path / "a.libsvm", lines)
    write(tmp_path / "names.txt", "cat\ndog\nfox\n")
    source = load(tmp_path, "a.libsvm", label_file="names.txt")
    assert source.label_names == ("cat", "dog", "fox")
    numbers = [int(line[0]) - first for line in lines.splitlines()]
    assert pairs(source) == {(k + 1.0,): tuple(np.eye(3)[n]) for k, n in enumerate(numbers)}
    assert has_line("\n".join(source.notes), "names.txt", f"from {first}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,dog 1:0.5\n", ("line 1", "'cat,dog 1:0.5'")),
        ("1 1:1\n\n1, 2 1:1\n", ("line 3",)),
        ("1 1:a\n", ("cannot be read",)),
        ("1 3:1 2:1\n", ("sorted",)),
        ("+1 1:1\n-1 1:2\n", ("-1", "one label")),
        ("1:1\n", ("label",)),
        ("1\n", ("value",)),
        ("", ("empty",)),
    ],
)
def test_unusable_libsvm_files_are_named(tmp_path: Path, text: str, message: tuple[str, ...]) -> None:
    write(tmp_path / "a.libsvm", text)
    with pytest.raises(DataError, match=naming("a.libsvm", *message)):
        load(tmp_path, "a.libsvm")


def test_a_number_that_the_label_file_does_not_name(tmp_path: Path) -> None:
    write(tmp_path / "a.libsvm", "0 1:1\n9 1:2\n")
    write(tmp_path / "names.txt", "cat\ndog\n")
    with pytest.raises(DataError, match=naming("names.txt", 9, 2)):
        load(tmp_path, "a.libsvm", label_file="names.txt")


# ---------------------------------------------------------------------- ARFF

LABELS = "@attribute 'amazed surprised' {0,1}\n@attribute sad {0,1}\n"
FEATURES = "@attribute size numeric\n@attribute colour {red,blue,'dark red'}\n"
ROWS = "1,0,0.5,red\n0,?,2,'dark red'\n% a comment\n\n0,1,3e1,blue\n"
ARFF = {(0.5, 1, 0, 0): (1, 0), (2, 0, 0, 1): (0, -1), (30, 0, 1, 0): (0, 1)}


def known(source: Source) -> dict[tuple[float, ...], tuple[float, ...]]:
    return {x: tuple(-1 if np.isnan(cell) else cell for cell in cells) for x, cells in pairs(source).items()}


def test_arff_of_meka(tmp_path: Path) -> None:
    write(tmp_path / "first.arff", f"@relation 'mine: -C 2'\n{LABELS}{FEATURES}@data\n{ROWS}")
    source = load(tmp_path, "first.arff")
    assert source.label_names == ("amazed surprised", "sad")
    assert known(source) == ARFF
    notes = "\n".join(source.notes)
    assert has_line(notes, "2 labels", "-C 2")
    assert has_line(notes, 1, "colour")
    rows = "0.5,red,1,0\n2,'dark red',0,?\n30,blue,0,1\n"
    write(tmp_path / "last.arff", f"@RELATION 'mine: -C -2 -split 2'\n{FEATURES}{LABELS}@DATA\n{rows}")
    assert known(load(tmp_path, "last.arff")) == ARFF


def test_arff_of_mulan_with_a_test_file(tmp_path: Path) -> None:
    xml = '<labels xmlns="http://mulan.sourceforge.net/labels"><label name="sad"></label>'
    write(tmp_path / "mine.xml", f'{xml}<label name="amazed surprised"><label name="x"/></label></labels>')
    header = f"@relation mine\n{LABELS}{FEATURES}@attribute x {{false,true}}\n@data\n"
    write(tmp_path / "mine-train.arff", header + "1,0,0.5,red,true\n0,0,2,blue,false\n")
    write(tmp_path / "mine-test.arff", header + "0,1,3,blue,false\n")
    source = load(tmp_path, "mine-train.arff", test="mine-test.arff")
    assert source.label_names == ("sad", "amazed surprised", "x")
    assert source.targets.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert source.test_targets.tolist() == [[1, 0, 0]]
    assert np.asarray(source.test).tolist() == [[3, 0, 1, 0]]


def test_sparse_arff_and_a_label_file(tmp_path: Path) -> None:
    rows = "{0 1, 2 0.5}\n{2 2, 3 'dark red', 1 ?}\n{1 1,2 30,3 blue}\n"
    write(tmp_path / "a.arff", f"@relation mine\n{LABELS}{FEATURES}@data\n{rows}")
    write(tmp_path / "names.txt", "amazed surprised\nsad\n")
    source = load(tmp_path, "a.arff", label_file="names.txt")
    assert known(source) == ARFF
    assert has_line("\n".join(source.notes), "sparse", "dense")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "1,0,0.5\n", ("line 7", "3 values", "4 attributes")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "1,0,0.5,red,7\n", ("line 7", "5 values")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "1,0,much,red\n", ("line 7", "'size'", "'much'")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "1,0,1,green\n", ("line 7", "'colour'", "'green'")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "1,2,1,red\n", ("line 7", "'sad'", "'2'")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "{9 1}\n", ("line 7", "'9 1'")),
        ("@relation 'x: -C 2'\n" + LABELS + FEATURES, "", ("no line after",)),
        ("@relation 'x: -C 9'\n" + LABELS + FEATURES, "1,0,1,red\n", ("-C 9", 4)),
        ("@relation 'x: -C 4'\n" + LABELS + FEATURES, "1,0,1,red\n", ("'colour'", "'red'", "not 0 or 1")),
        ("@relation x\n" + LABELS + FEATURES, "1,0,1,red\n", ("label_file", "-C n", "a.xml")),
        ("@relation 'x: -C 1'\n@attribute t string\n", "a\n", ("texts",)),
        ("nonsense\n", "1\n", ("before @data",)),
    ],
)
def test_unusable_arff_files_are_named(tmp_path: Path, header: str, rows: str, message: tuple[object, ...]) -> None:
    write(tmp_path / "a.arff", f"{header}@data\n{rows}")
    with pytest.raises(DataError, match=naming("a.arff", *message)):
        load(tmp_path, "a.arff")


def test_labels_of_a_file_that_are_no_attributes(tmp_path: Path) -> None:
    write(tmp_path / "a.arff", f"@relation x\n{LABELS}{FEATURES}@data\n1,0,1,red\n")
    write(tmp_path / "names.txt", "saad\n")
    with pytest.raises(DataError, match=naming("names.txt", "'saad'", "sad")):
        load(tmp_path, "a.arff", label_file="names.txt")
    write(tmp_path / "a.xml", "<labels>")
    with pytest.raises(DataError, match=naming("a.xml", "no XML")):
        load(tmp_path, "a.arff")
    write(tmp_path / "b.arff", "no data\n")
    with pytest.raises(DataError, match=naming("b.arff", "@data")):
        load(tmp_path, "b.arff")


# ---------------------------------------------------------------------- sparse matrices

X = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 3], [4, 0, 0], [0, 5, 0]], dtype=np.float32)
Y = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1]], dtype=np.int8)


@pytest.mark.parametrize(("x", "y"), [("x.npz", "y.npz"), ("train_X.npz", "train_Y.npy"), ("bow.npz", "bow_y.npy")])
def test_a_sparse_matrix_with_its_labels_beside_it(tmp_path: Path, x: str, y: str) -> None:
    save_npz(tmp_path / x, csr_matrix(X))
    np.save(tmp_path / y, Y) if y.endswith(".npy") else save_npz(tmp_path / y, csr_matrix(Y))
    source = load(tmp_path, x)
    assert pairs(source) == {tuple(map(float, row)): tuple(map(float, cells)) for row, cells in zip(X, Y, strict=True)}
    assert np.asarray(source.train).dtype == np.float32
    assert has_line("\n".join(source.notes), y)


def test_a_folder_may_hold_sparse_matrices(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        save_npz(tmp_path / "all" / f"{part}_x.npz", csr_matrix(X[rows]))
        np.save(tmp_path / "all" / f"{part}_y.npy", Y[rows])
    source = load(tmp_path, "all")
    assert np.array_equal(source.train, X[:3])
    assert np.array_equal(source.test, X[3:])
    assert np.array_equal(source.test_targets, Y[3:])


def test_a_sparse_matrix_without_labels_or_with_others_is_named(tmp_path: Path) -> None:
    save_npz(tmp_path / "bow.npz", csr_matrix(X))
    with pytest.raises(DataError, match=naming("bow.npz", "5 x 3", "bow_y.npz", "train_x.npz")):
        load(tmp_path, "bow.npz")
    np.save(tmp_path / "bow_y.npy", Y[:3])
    with pytest.raises(DataError, match=naming("bow_y.npy", 5)):
        load(tmp_path, "bow.npz")
    (tmp_path / "bow_y.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=naming("bow_y.npy", "cannot be read")):
        load(tmp_path, "bow.npz")
    np.savez(tmp_path / "cut.npz", format=b"csr", shape=[3, 3], data=[1.0])
    np.save(tmp_path / "cut_y.npy", Y)
    with pytest.raises(DataError, match=naming("cut.npz", "sparse")):
        load(tmp_path, "cut.npz")


def test_vectors_that_do_not_fit_into_memory_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.libsvm", "1 1:1\n2 3000000:1\n")
    monkeypatch.setattr(table, "free_memory", lambda: 2_000_000)
    with pytest.raises(DataError, match=naming("a.libsvm", "2 x 3000000", "24 MB", "2 MB")):
        load(tmp_path, "a.libsvm")


def test_arrays_without_a_test_part_hold_one_out(tmp_path: Path) -> None:
    names = np.array([f"item {k}" for k in range(7)])
    np.savez(tmp_path / "a.npz", train_x=X, train_y=Y, unlabeled_x=X[:2], train_id=names)
    source = load(tmp_path, "a.npz", test_ratio=0.4)
    assert (len(source.targets), len(source.train), len(source.test)) == (3, 5, 2)
    assert sorted([*source.train_ids, *source.test_ids]) == sorted(names)
    for ids, items, targets in (
        (source.train_ids, source.train, source.targets),
        (source.test_ids, source.test, source.test_targets),
    ):
        for name, x, y in zip(ids, items, targets, strict=False):
            assert np.array_equal(x, X[int(name[-1])])
            assert np.array_equal(y, Y[int(name[-1])])
    np.savez(tmp_path / "a.npz", train_x=X, train_y=Y[:3])
    with pytest.raises(DataError, match=naming("a.npz", "train_x", 5, 3)):
        load(tmp_path, "a.npz")
