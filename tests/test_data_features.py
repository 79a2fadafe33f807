from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError, Source
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.mapped import MappedArray
from tests.conftest import naming, settings


def load(folder: Path, file: str = "f.npz", min_positives: int = 0) -> Source:
    return load_source(settings(dataset="features", data_dir=folder, feature_file=file, min_positives=min_positives))


NOT_IN_FILE = ("not finite", "not 0 or 1", "is nan")  # messages about items, which name the item, not the file


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.normal(size=(4, 3)).astype(np.float16),
        "train_y": np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]], dtype=np.uint8),
        "test_x": rng.normal(size=(2, 3)).astype(np.float16),
        "test_y": np.array([[1, 0, 1], [0, 0, 1]], dtype=np.uint8),
        "label_names": np.array(["sky", "sea", "sun"]),
        "train_id": np.array(["a", "b", "c", "d"]),
    }


def test_reads_and_keeps_half_precision(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays())
    source = load(tmp_path)
    assert isinstance(source.train, np.ndarray)
    assert source.train.dtype == np.float16
    assert np.array_equal(source.train, arrays()["train_x"])
    assert np.array_equal(source.targets, arrays()["train_y"])
    assert np.array_equal(source.test_targets, arrays()["test_y"])
    assert source.kind == "features"
    assert source.label_names == ("sky", "sea", "sun")


def test_names_are_optional_and_wide_numbers_become_float32(tmp_path: Path) -> None:
    content = arrays()
    del content["label_names"]
    np.savez_compressed(
        tmp_path / "f.npz",
        **{
            **content,
            "train_x": np.ones((4, 3)),
            "test_x": np.ones((2, 3), np.int8),
            "train_y": np.ones((4, 3)),
        },
    )
    source = load(tmp_path)
    assert isinstance(source.train, np.ndarray)
    assert source.train.dtype == np.float32
    assert isinstance(source.test, np.ndarray)
    assert source.test.dtype == np.float32
    assert source.label_names == ("label 0", "label 1", "label 2")


def test_min_positives_drops_rare_labels_and_those_never_tested(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays())
    assert load(tmp_path, min_positives=1).label_names == ("sky", "sun")
    frequent = load(tmp_path, min_positives=2)
    assert frequent.label_names == ("sky",)
    assert frequent.targets.tolist() == [[1], [1], [0], [1]]
    assert frequent.test_targets.tolist() == [[1], [0]]
    assert frequent.fingerprint != load(tmp_path).fingerprint
    with pytest.raises(DataError, match=naming("min_positives = 4")):
        load(tmp_path, min_positives=4)


def test_min_test_positives_drops_labels_that_are_hardly_tested(tmp_path: Path) -> None:
    data = arrays()
    data["test_y"] = np.array([[1, 0, 1], [1, 0, 0]], dtype=data["test_y"].dtype)
    np.savez(tmp_path / "f.npz", **data)
    named = {"dataset": "features", "data_dir": tmp_path, "feature_file": "f.npz"}
    assert len(load_source(settings(**named, min_positives=1)).label_names) == 2
    assert len(load_source(settings(**named, min_positives=1, min_test_positives=2)).label_names) == 1
    assert len(load_source(settings(**named, min_test_positives=2)).label_names) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": None}, ("lacks train_y",)),
        ({"train_x": None, "test_y": None}, ("lacks", "train_x, test_y")),
        ({"train_x": np.ones((5, 3))}, ("train_x has 5", "train_y has 4")),
        ({"test_x": np.ones((2, 4))}, ("test_x has 4 columns", "train_x has 3")),
        ({"test_y": np.ones((2, 2))}, ("test_y has 2 columns", "train_y has 3")),
        ({"train_x": np.ones(4)}, ("train_x", "non-empty table")),
        ({"train_y": np.ones((4, 3, 1))}, ("train_y", "non-empty table")),
        ({"test_x": np.ones((0, 3)), "test_y": np.ones((0, 3))}, ("test_x", "non-empty table")),
        (
            {"train_x": np.array([[1, 2, 3]] * 3 + [[1, np.nan, 3]])},
            ("1 vector(s)", "not finite", "training d"),
        ),
        (
            {"test_x": np.full((2, 3), 1e300)},
            ("2 vector(s)", "not finite", "test row 0", "test row 1", "counted from 0"),
        ),
        (
            {"train_y": np.array([[0, 1, 1]] * 3 + [[1, 2, 0]])},
            ("training d", "train_y[3, 1] is 2"),
        ),
        ({"train_x": np.full((4, 3), "a")}, ("train_x", "numbers")),
        ({"train_x": np.full((4, 3), None, dtype=object)}, ("train_x", "unreadable")),
        ({"label_names": np.array(["sky"])}, ("label_names", "3 strings")),
        ({"label_names": np.arange(3)}, ("label_names", "3 strings")),
    ],
)
def test_unusable_files_are_named_with_the_key(
    tmp_path: Path, change: dict[str, Any], message: tuple[object, ...]
) -> None:
    content = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "f.npz", **content)
    with pytest.raises(DataError, match=naming(*message)) as caught:
        load(tmp_path)
    assert str(tmp_path / "f.npz") in str(caught.value) or any(words in str(caught.value) for words in NOT_IN_FILE)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("f.npz", "exist", "data_dir", "feature_file")):
        load(tmp_path)
    (tmp_path / "text.npz").write_text("not numpy")
    (tmp_path / "empty.npz").touch()
    for name in ("text.npz", "empty.npz"):
        with pytest.raises(DataError, match=naming(name, ".npz file")):
            load(tmp_path, name)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match=naming("one.npy", "single array")):
        load(tmp_path, "one.npy")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **{**arrays(), "train_x": np.ones((400, 3), np.float16)})
    data = bytearray((tmp_path / "f.npz").read_bytes())
    data[1000:1010] = b"\x00" * 10
    (tmp_path / "f.npz").write_bytes(bytes(data))
    with pytest.raises(DataError, match=naming("f.npz", "train_x", "unreadable")):
        load(tmp_path)


def test_bad_rows_are_left_out_on_request(tmp_path: Path) -> None:
    content = arrays()
    content["train_x"][1, 0] = np.inf
    content["test_y"] = np.array([[1, 0, 5], [0, 0, 1]])
    np.savez(tmp_path / "f.npz", **content)
    source = load_source(settings(dataset="features", data_dir=tmp_path, feature_file="f.npz", bad_data="skip"))
    assert np.array_equal(source.train, content["train_x"][[0, 2, 3]])
    assert source.targets.tolist() == content["train_y"][[0, 2, 3]].tolist()
    assert list(source.train_ids) == ["a", "c", "d"]
    assert source.test_targets.tolist() == [[0, 0, 1]]
    assert [(p.part, p.item, p.kind) for p in source.problems] == [
        ("test", "row 0 (counted from 0)", "label"),
        ("training", "b", "not_finite"),
    ]
    assert len(source.notes) == 2


def write_folder(folder: Path, content: dict[str, Any]) -> None:
    folder.mkdir()
    for key, value in content.items():
        np.save(folder / f"{key}.npy", value)


def test_a_folder_of_arrays_stays_on_disk(tmp_path: Path) -> None:
    content = arrays() | {
        "unlabeled_x": np.arange(6, dtype=np.float16).reshape(2, 3),
        "train_id": np.array([*"abcdef"]),
    }
    write_folder(tmp_path / "set", content)
    source = load(tmp_path, "set")
    assert isinstance(source.train, MappedArray)
    assert isinstance(source.test, MappedArray)
    assert np.array_equal(source.train[:], np.concatenate([content["train_x"], content["unlabeled_x"]]))
    assert source.targets.shape == (4, 3)
    assert source.label_names == ("sky", "sea", "sun")
    np.savez(tmp_path / "f.npz", **content)
    packed = load(tmp_path)
    assert np.array_equal(packed.train, source.train[:])
    assert np.array_equal(packed.targets, source.targets)


def test_bad_vectors_of_a_folder_are_found_once_and_left_out_without_copying(tmp_path: Path) -> None:
    content = arrays()
    content["train_x"][2] = np.nan
    write_folder(tmp_path / "set", content)
    args = settings(dataset="features", data_dir=tmp_path, feature_file="set", cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match="training c"):
        load_source(args)
    cached = list((tmp_path / "cache").iterdir())
    source = load_source(args.having(bad_data="skip"))
    assert isinstance(source.train, MappedArray)
    assert np.array_equal(source.train[:], content["train_x"][[0, 1, 3]])
    assert cached == list((tmp_path / "cache").iterdir())


def test_a_folder_trains_like_its_archive(tmp_path: Path, features_dir: Path, train: Any) -> None:
    with np.load(features_dir / "ohsumed_minilm.npz") as archive:
        write_folder(tmp_path / "set", dict(archive))
    config = "bbam_ohsumed_features.yaml"
    packed, _ = train(config, data_dir=features_dir, label_ratio=0.2, save_name="packed")
    mapped, folder = train(
        config, data_dir=tmp_path, feature_file="set", label_ratio=0.2, save_name="mapped", num_workers=2
    )
    assert mapped["num_labels"] == packed["num_labels"]
    assert (folder / "labels.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": None}, ("lacks train_x",)),
        ({"unlabeled_x": np.ones((2, 4), np.float16)}, ("unlabeled_x has 4 columns", "train_x has 3")),
        ({"unlabeled_x": np.ones((2, 3), np.float32)}, ("unlabeled_x", "fit train_x")),
        ({"train_id": np.array(["a"])}, ("train_id", "4 names")),
    ],
)
def test_unusable_folders(tmp_path: Path, change: dict[str, Any], message: tuple[object, ...]) -> None:
    content = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    write_folder(tmp_path / "set", content)
    with pytest.raises(DataError, match=naming(tmp_path / "set", *message)):
        load(tmp_path, "set")


def test_a_file_of_a_folder_that_is_no_array(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", arrays())
    (tmp_path / "set" / "test_x.npy").write_text("no array")
    with pytest.raises(DataError, match=naming("test_x.npy", "numpy.save")):
        load(tmp_path, "set")
