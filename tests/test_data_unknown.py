from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.config import OPTIONS
from semilearn_bbam.data import Pool, make_split
from semilearn_bbam.data import dataset as source_module
from semilearn_bbam.data.dataset import DataError, Part, Source, check_source, frequent_labels, known_cells
from semilearn_bbam.data.loading import inspect_source, load_source, screen_source
from semilearn_bbam.data.unknown import never_denied, settle_unknown, unknown_summary
from semilearn_bbam.report.data_check import describe_source, suspicious_items
from tests.conftest import has_line, naming, settings

ROWS = [[1, 0, -1], [-1, -1, -1], [0, 0, 0], [0, -1, 0], [-1, -1, -1], [0, 1, 1]]
NAMES = ["a", "b", "c", "d", "e", "f", "pool"]


def partly(targets: Any = ROWS, test: Any = ((1, 0, 1), (-1, -1, -1), (0, -1, 1))) -> Source:
    train = Part(list(NAMES), np.array(targets, np.float32), [name.upper() for name in NAMES])
    tested = Part([f"test {i}" for i in range(len(test))], np.array(test, np.float32))
    return Source.of("tiny", "text", train, tested, ("x", "y", "z"), strong_texts=[(name,) for name in NAMES])


def test_rows_without_a_known_cell_go_to_the_pool_with_all_that_is_theirs() -> None:
    source = partly()
    check_source(source)
    settled = settle_unknown(source)
    check_source(settled)
    assert settled.train == ["a", "c", "d", "f", "b", "e", "pool"]
    assert list(settled.train_ids) == [name.upper() for name in settled.train]
    assert settled.strong_texts == [(name,) for name in settled.train]
    assert settled.targets.tolist() == [ROWS[0], ROWS[2], ROWS[3], ROWS[5]]
    assert settled.test == ["test 0", "test 2"]
    assert known_cells(settled.test_targets).any(axis=1).all()
    assert settled.fingerprint != source.fingerprint
    assert has_line("\n".join(settled.notes), "2 training item(s)", "pool")
    assert has_line("\n".join(settled.notes), "1 test item(s)", "left out")
    assert settle_unknown(settled) is settled


def test_known_targets_pass_unchanged() -> None:
    source = partly([[1, 0, 1]] * 6, [[0, 0, 0]])
    assert settle_unknown(source) is source
    assert screen_source(source, settings()) is source


@pytest.mark.parametrize(
    ("choice", "labeled", "pool", "problems"),
    [
        ("auto", "acdf", ["b", "e", "pool"], 0),
        ("negative", "acdf", ["b", "e", "pool"], 0),
        ("pool", "adf", ["c", "pool", "b", "e"], 0),  # a row of zeros too, where the user says so
        ("bad", "adf", ["pool"], 4),
        ("drop", "adf", ["pool"], 0),
    ],
)
def test_empty_labels_decides_about_rows_of_zeros_and_of_unknown(
    choice: str, labeled: str, pool: list[str], problems: int
) -> None:
    screened = screen_source(partly(), settings(empty_labels=choice))
    count = len(screened.targets)
    assert list(screened.train[:count]) == list(labeled)
    assert sorted(screened.train[count:]) == sorted(pool)
    assert len(screened.problems) == problems


def test_a_manifest_marks_its_empty_rows_itself() -> None:
    screened = screen_source(replace(partly(), name="manifest"), settings(empty_labels="pool"))
    assert list(screened.train[: len(screened.targets)]) == list("acdf")


def test_keep_is_refused_with_the_new_words() -> None:
    (option,) = (option for option in OPTIONS if option.name == "empty_labels")
    with pytest.raises(ValueError, match=r"negative.*pool"):
        option.parse("keep")


@pytest.mark.parametrize(
    ("targets", "test", "message"),
    [
        ([[-1, -1, -1]] * 6, [[1, 0, 0]], ("training part", "known")),
        ([[1, 0, 0]] * 6, [[-1, -1, -1]], ("test part", "known")),
        ([[1, 0, 0]] * 6, [[1, -1, -1]], ("test targets", "no 0")),
    ],
)
def test_a_part_that_says_nothing_is_refused(targets: Any, test: Any, message: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=naming("'tiny'", *message)):
        settle_unknown(partly(targets, test))


def test_a_row_that_loses_its_known_labels_goes_to_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [[1, 0, -1], [1, -1, 0], [-1, -1, 1], [0, 1, 0], [1, 1, 0], [1, 0, 0]]
    monkeypatch.setattr(source_module, "SOURCES", {"tiny": lambda args: partly(targets, [[1, 1, 0], [0, 0, 1]])})
    source = load_source(settings(dataset="tiny", min_positives=2))
    assert source.label_names == ("x", "y")
    assert len(source.targets) == 5
    assert sorted(source.train[5:]) == ["c", "pool"]


def test_unknown_cells_are_no_positives() -> None:
    targets = np.array([[1, -1, -1], [1, -1, 1], [0, 1, 1]])
    assert frequent_labels(targets, np.ones((1, 3)), 2).tolist() == [True, False, True]
    rng = np.random.default_rng(0)
    full = (rng.random((200, 4)) < 0.3).astype(np.float32)
    hidden = np.where((rng.random(full.shape) < 0.5) & (full == 0), -1, full)
    splits = [make_split(t, seed=0, label_ratio=0.2, method="stratified") for t in (full, hidden)]
    assert np.array_equal(splits[0].labeled, splits[1].labeled)


def test_labels_that_no_row_denies() -> None:
    targets = np.array([[1, 1, 1, -1], [-1, 1, 0, -1], [-1, 1, -1, -1]])
    assert never_denied(targets).tolist() == [True, False, False, True]
    share, warning = unknown_summary(targets, ["u", "v", "w", "none"])
    assert has_line(share, "50.0 %")
    assert has_line(warning, "WARNING", "2 label(s)", "u, none")
    assert unknown_summary(targets[:, 1:2], ["v"]) == []


def test_a_batch_says_what_is_known_only_where_something_is_not() -> None:
    vectors, targets = np.zeros((3, 2), np.float32), np.array([[1, -1], [0, 1], [1, 0]])
    pool = Pool(vectors, range(3), {}, targets)
    batch = pool.__getitems__([0, 2])
    assert batch["y_lb"].tolist() == [[1, 0], [1, 0]]
    assert batch["known_lb"].tolist() == [[True, False], [True, True]]
    assert pool.part([0]).known is not None
    assert pool.partly_known_targets().tolist() == targets.tolist()
    assert "known_lb" not in pool.part([1, 2]).__getitems__([0])
    assert "known_lb" not in Pool(vectors, range(3), {}, np.abs(targets)).__getitems__([0])


def test_data_check_counts_known_cells() -> None:
    source = settle_unknown(partly())
    text = describe_source(source)
    assert has_line(text, "unknown cells", "16.67 %")  # 2 of 12, and 1 of 6
    assert has_line(text, "labels per item", "0.900")  # 3 positives in 10 known cells, times 3 labels
    assert has_line(text, "x", "1 (25.00 %)", "1 (50.00 %)")
    assert has_line(text, "z", "1 (33.33 %)", "2 (100.00 %)")
    assert not has_line(describe_source(partly([[1, 0, 1]] * 6, [[0, 0, 0]])), "unknown")
    equal = partly([[1, 0, -1], [1, -1, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]], [[0, 1, 0]])
    same = replace(equal, train=["a", "a", "c", "d", "e", "f", "pool"])
    assert not has_line("\n".join(suspicious_items(same)), "different labels")  # both may be true
    other = replace(equal, train=["a", "b", "a", "d", "e", "f", "pool"])
    assert has_line("\n".join(suspicious_items(other)), "1", "different labels", "A = C")


def test_vectors_read_nan_and_minus_one_as_unknown(tmp_path: Path) -> None:
    y = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan], [-1, 1, 0], [0, 0, 1]])
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "f.npz", train_x=x, train_y=y, test_x=x, test_y=np.nan_to_num(y).astype(int))
    source = inspect_source(settings(dataset="features", data_dir=tmp_path, feature_file="f.npz"))
    assert source.targets.tolist() == [[1, -1, 0], [-1, 1, 0], [0, 0, 1]]
    assert np.asarray(source.train)[3].tolist() == x[1].tolist()
    assert not source.problems
