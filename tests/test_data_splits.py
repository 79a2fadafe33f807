from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.splits import Split, around_validation, load_split, make_split, save_split
from semilearn_bbam.engine.pools import read_split
from semilearn_bbam.errors import UserError
from tests.conftest import naming
from tests.conftest import settings as options_of


def random_targets(n: int, k: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, k)) < rng.uniform(0.02, 0.4, size=k)).astype(np.float32)


class LengthOnly:
    """Targets of which only the length may be read."""

    def __len__(self) -> int:
        return 40


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 80),
    k=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    share=st.floats(0.01, 0.99),
    val_ratio=st.sampled_from([0.0, 0.1, 0.5]),
    method=st.sampled_from(["random", "stratified"]),
)
def test_a_split_is_a_partition_of_exact_sizes(
    n: int, k: int, seed: int, share: float, val_ratio: float, method: str
) -> None:
    targets = random_targets(n, k, seed)
    count = min(max(1 if val_ratio == 0 else 2, round(share * n)), n)
    settings_ = {"num_labels": count, "method": method, "val_ratio": val_ratio}
    split = make_split(targets, seed=seed, **settings_)  # type: ignore[arg-type]
    parts = [split.labeled, split.unlabeled, split.validation]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert len(split.unlabeled) == n - count
    assert len(split.labeled) >= 1
    assert len(split.validation) == (max(1, round(val_ratio * count)) if val_ratio else 0)
    assert all(part.dtype == np.int64 for part in parts)
    assert split.unlabeled.tolist() == sorted(split.unlabeled.tolist())
    again = make_split(targets, seed=seed, **settings_)  # type: ignore[arg-type]
    for rows, rows_again in zip(parts, [again.labeled, again.unlabeled, again.validation], strict=True):
        assert rows.tolist() == rows_again.tolist()


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_seeds_differ_and_the_ratio_sets_the_size(method: str) -> None:
    targets = random_targets(200, 5)
    splits = [make_split(targets, seed=seed, label_ratio=0.15, method=method) for seed in range(4)]
    assert all(len(split.labeled) == 30 for split in splits)
    assert len({tuple(sorted(split.labeled.tolist())) for split in splits}) == 4


def test_random_split_never_looks_at_targets() -> None:
    blind = make_split(LengthOnly(), seed=3, label_ratio=0.25)
    poisoned = np.full((40, 4), np.nan)
    for targets in (random_targets(40, 4), poisoned):
        split = make_split(targets, seed=3, label_ratio=0.25)
        assert split.labeled.tolist() == blind.labeled.tolist()
        assert split.unlabeled.tolist() == blind.unlabeled.tolist()


def test_stratified_split_keeps_label_shares() -> None:
    targets = random_targets(2000, 12, seed=5)
    worst = {}
    for method in ("random", "stratified"):
        split = make_split(targets, seed=1, num_labels=203, method=method)
        assert len(split.labeled) == 203
        gap = targets[split.labeled].sum(0) - targets.sum(0) * 203 / 2000
        worst[method] = np.abs(gap).max()
    assert worst["stratified"] < 3 < worst["random"]


def test_stratified_copes_with_empty_and_single_labels() -> None:
    targets = np.zeros((30, 3), dtype=np.float32)
    targets[4, 1] = 1
    targets[:20, 2] = 1
    split = make_split(targets, seed=0, num_labels=6, method="stratified")
    assert len(split.labeled) == 6
    assert 3 <= targets[split.labeled, 2].sum() <= 5
    assert len(make_split(targets[:, :1], seed=0, num_labels=6, method="stratified").labeled) == 6


@pytest.mark.parametrize("method", ["random", "stratified"])
def test_everything_labelled(method: str) -> None:
    split = make_split(random_targets(20, 3), seed=0, label_ratio=1.0, method=method, val_ratio=0.2)
    assert (len(split.labeled), len(split.unlabeled), len(split.validation)) == (16, 0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, ("one of label_ratio and num_labels", "0.0 and 0")),
        ({"label_ratio": 0.1, "num_labels": 5}, ("one of label_ratio and num_labels", "got 0.1 and 5")),
        ({"label_ratio": -0.1, "num_labels": 5}, ("one of label_ratio and num_labels", "got -0.1 and 5")),
        ({"label_ratio": 0.01}, ("label_ratio 0.01", "20 rows", "one labelled row")),
        ({"label_ratio": 0.99}, ("label_ratio 0.99", "20 rows", "no unlabelled row")),
        ({"label_ratio": 1.5}, ("label_ratio 1.5", "more labelled rows", 20)),
        ({"num_labels": 21}, ("num_labels 21", "more labelled rows", 20)),
        ({"num_labels": 5, "val_ratio": 1.0}, ("val_ratio", "[0, 1)", "1.0")),
        ({"num_labels": 1, "val_ratio": 0.1}, ("val_ratio 0.1", "none of 1 labelled rows")),
        ({"num_labels": 5, "method": "sorted"}, ("'sorted'", "'random'", "'stratified'")),
    ],
)
def test_impossible_splits_are_refused(arguments: dict[str, Any], message: tuple[object, ...]) -> None:
    with pytest.raises(DataError, match=naming(*message)):
        make_split(random_targets(20, 3), seed=0, **arguments)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split = make_split(random_targets(20, 3), seed=0, num_labels=8, val_ratio=0.25, fingerprint="abc")
    save_split(split, path)
    assert set(json.loads(path.read_text())) == {"labeled", "unlabeled", "validation", "fingerprint"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = load_split(path, 20, "abc")
    assert back.fingerprint == "abc"
    for name in ("labeled", "unlabeled", "validation"):
        assert getattr(back, name).tolist() == getattr(split, name).tolist()
        assert getattr(back, name).dtype == np.int64


def test_round_trip_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    plain = make_split(random_targets(20, 3), seed=0, num_labels=4, fingerprint="abc")
    assert load_split_of(plain, path).weights is None
    split = replace(plain, weights=np.array([1.0, 1 / 3, 7e9, 2.5]))
    back = load_split_of(split, path)
    assert back.weights is not None
    assert back.weights.tolist() == [1.0, 1 / 3, 7e9, 2.5]
    assert back.digest == split.digest


def load_split_of(split: Split, path: Path) -> Split:
    save_split(split, path)
    return load_split(path, 20, "abc")


def test_the_digest_of_a_split_without_weights_is_that_of_older_versions() -> None:
    rows = (np.array([4, 1]), np.array([0, 2]), np.array([3]))
    assert Split(*rows, "abc").digest == compute_fingerprint(*rows)


def test_fingerprint_of_other_data_is_an_error_and_none_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"labeled": [1], "unlabeled": [0], "fingerprint": "abc"}))
    with pytest.raises(DataError, match="belongs to other data"):
        load_split(path, 2, "xyz")
    path.write_text(json.dumps({"labeled": [1], "unlabeled": [0]}))
    with pytest.warns(UserWarning, match="has no fingerprint"):
        split = load_split(path, 2, "xyz")
    assert split.validation.tolist() == []
    assert split.fingerprint == "xyz"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ("JSON",)),
        ("[1]", ("object", "labeled, unlabeled", "fingerprint")),
        ({"unlabeled": [0]}, ("labeled", "list")),
        ({"labeled": [0], "unlabeled": 3}, ("unlabeled", "list")),
        ({"labeled": [], "unlabeled": [0]}, ("labeled", "empty")),
        ({"labeled": [0, 5], "unlabeled": []}, ("row 5", "0..4")),
        ({"labeled": [-1], "unlabeled": []}, ("row -1", "0..4")),
        ({"labeled": [0, 0], "unlabeled": []}, ("row 0", "once")),
        ({"labeled": [0], "unlabeled": [1, 2], "validation": [2]}, ("row 2", "once")),
        ({"labeled": [0.0], "unlabeled": []}, ("labeled", "0.0", "whole number")),
        ({"labeled": [True], "unlabeled": []}, ("labeled", True, "whole number")),
        ({"labeled": ["1"], "unlabeled": []}, ("labeled", "'1'", "whole number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": 3}, ("weights", 2, "list")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [1.0]}, ("weights", 2, "not 1")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [1.0, 0.0]}, ("weights", "0.0", "positive number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [-1, 2]}, ("weights", "-1", "positive number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [1, float("inf")]}, ("weights", "inf", "positive number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [float("nan"), 2]}, ("weights", "nan", "positive number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": [True, 2]}, ("weights", True, "positive number")),
        ({"labeled": [0, 1], "unlabeled": [], "weights": ["1", 2]}, ("weights", "'1'", "positive number")),
    ],
)
def test_bad_split_files_are_named(tmp_path: Path, content: Any, message: tuple[object, ...]) -> None:
    path = tmp_path / "split.json"
    text = content if isinstance(content, str) else json.dumps({**content, "fingerprint": "abc"})
    path.write_text(text)
    with pytest.raises(DataError, match=naming(path, *message)):
        load_split(path, 5, "abc")


def test_missing_split_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("none.json", "exist", "split_file")):
        load_split(tmp_path / "none.json", 5, "abc")


def test_rows_without_targets_are_always_unlabelled() -> None:
    targets = np.ones((10, 2))
    split = make_split(targets, seed=0, label_ratio=1.0, unlabeled_only=5)
    assert sorted(split.labeled) == list(range(10))
    assert split.unlabeled.tolist() == [10, 11, 12, 13, 14]
    some = make_split(targets, seed=0, num_labels=4, unlabeled_only=5)
    assert some.labeled.tolist() == make_split(targets, seed=0, num_labels=4).labeled.tolist()
    assert sorted([*some.labeled, *some.unlabeled]) == list(range(15))
    rounded_up = make_split(targets, seed=0, label_ratio=0.99, unlabeled_only=5)
    assert len(rounded_up.labeled) == 10


def test_a_split_file_cannot_label_rows_without_targets(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    save_split(make_split(np.ones((10, 2)), seed=0, num_labels=4, unlabeled_only=5, fingerprint="a"), path)
    assert len(load_split(path, 15, "a", 10).labeled) == 4
    content = json.loads(path.read_text())
    content["labeled"], content["unlabeled"] = [12], []
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=naming(path, "row 12", "first 10")):
        load_split(path, 15, "a", 10)


def test_a_marked_validation_part_is_left_out_of_the_draw() -> None:
    marked = np.array([1, 4])
    drawn = make_split(np.zeros((4, 1)), seed=0, num_labels=2, unlabeled_only=3)
    split = around_validation(drawn, marked, 6)
    assert split.validation.tolist() == [1, 4]
    assert set(split.labeled) <= {0, 2, 3, 5}
    assert sorted([*split.labeled, *split.unlabeled]) == [0, 2, 3, 5, 6, 7, 8]
    assert len(split.labeled) == 2


def test_a_run_keeps_the_validation_part_that_the_data_mark(tmp_path: Path) -> None:
    rows = "".join(f"text {i},{'x' if i % 2 else 'y'},{'val' if i % 5 == 0 else 'train'}\n" for i in range(20))
    (tmp_path / "train.csv").write_text(f"text,labels,split\n{rows}t,x,test\n")
    options: dict[str, Any] = {"dataset": "manifest", "data_dir": tmp_path, "manifest": "train.csv"}
    source = load_source(options_of(**options))
    split = read_split(options_of(**options, num_labels=4, select_on="validation"), source)
    assert split.validation.tolist() == [0, 5, 10, 15]
    assert (len(split.labeled), len(split.unlabeled)) == (4, 12)
    with pytest.raises(UserError, match=naming("manifest", 4, "val_ratio: 0")):
        read_split(options_of(**options, num_labels=4, val_ratio=0.5), source)
    with pytest.raises(UserError, match=naming("manifest", "label_ratio", "num_labels", "unlabeled")):
        read_split(options_of(**options), source)
    unmarked = replace(source, validation=())
    with pytest.raises(UserError, match=naming("select_on", "val_ratio")):
        read_split(options_of(**options, num_labels=4, select_on="validation"), unmarked)
