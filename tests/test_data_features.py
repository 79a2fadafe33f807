from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.source import DataError, Source, load_source

SHARED = Path(os.environ.get("SEMILEARN_BBAM_SHARED", Path(__file__).parents[2] / "shared"))
COREL = SHARED / "data" / "corel5k"


def load(folder: Path, file: str = "f.npz", min_positives: int = 0) -> Source:
    return load_source(
        argparse.Namespace(dataset="features", data_dir=str(folder), feature_file=file, min_positives=min_positives)
    )


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
    kept = load(tmp_path, min_positives=2)
    assert kept.label_names == ("sky",)
    assert kept.targets.tolist() == [[1], [1], [0], [1]]
    assert kept.test_targets.tolist() == [[1], [0]]
    assert kept.fingerprint != load(tmp_path).fingerprint
    with pytest.raises(DataError, match="no label has min_positives = 4"):
        load(tmp_path, min_positives=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": None}, "lacks train_y"),
        ({"train_x": None, "test_y": None}, "lacks train_x, test_y"),
        ({"train_x": np.ones((5, 3))}, "train_x has 5 rows but train_y has 4"),
        ({"test_x": np.ones((2, 4))}, "test_x has 4 columns but train_x has 3"),
        ({"test_y": np.ones((2, 2))}, "test_y has 2 columns but train_y has 3"),
        ({"train_x": np.ones(4)}, "train_x must be a non-empty table"),
        ({"train_y": np.ones((4, 3, 1))}, "train_y must be a non-empty table"),
        ({"test_x": np.ones((0, 3)), "test_y": np.ones((0, 3))}, "test_x must be a non-empty table"),
        ({"train_x": np.array([[1, 2, 3]] * 3 + [[1, np.nan, 3]])}, "train_x .* not finite, first in row 3"),
        ({"test_x": np.full((2, 3), 1e300)}, "test_x .* not finite, first in row 0"),
        (
            {"train_y": np.array([[0, 1, 1]] * 3 + [[1, 2, 0]])},
            r"train_y\[3, 1\] is 2; targets must be 0 or 1",
        ),
        ({"test_y": np.full((2, 3), np.nan)}, r"test_y\[0, 0\] is nan"),
        ({"train_x": np.full((4, 3), "a")}, "train_x must hold numbers"),
        ({"train_x": np.full((4, 3), None, dtype=object)}, "train_x is unreadable"),
        ({"label_names": np.array(["sky"])}, "label_names must be 3 strings"),
        ({"label_names": np.arange(3)}, "label_names must be 3 strings"),
    ],
)
def test_unusable_files_are_named_with_the_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "f.npz", **content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path / "f.npz") in str(caught.value)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="f.npz does not exist; set data_dir and feature_file"):
        load(tmp_path)
    (tmp_path / "text.npz").write_text("not numpy")
    (tmp_path / "empty.npz").touch()
    for name in ("text.npz", "empty.npz"):
        with pytest.raises(DataError, match=f"{name} is not an .npz file"):
            load(tmp_path, name)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match="one.npy holds a single array"):
        load(tmp_path, "one.npy")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **{**arrays(), "train_x": np.ones((400, 3), np.float16)})
    data = bytearray((tmp_path / "f.npz").read_bytes())
    data[1000:1010] = b"\x00" * 10
    (tmp_path / "f.npz").write_bytes(bytes(data))
    with pytest.raises(DataError, match="train_x is unreadable"):
        load(tmp_path)


if COREL.is_dir():

    def test_counts_of_the_real_data() -> None:
        source = load(COREL, "corel5k_lite0.npz")
        assert np.shape(source.train) == (4500, 1280)
        assert source.targets.shape == (4500, 374)
        assert len(source.test) == 499
        assert source.targets.sum(1).mean() == pytest.approx(3.52, abs=0.005)
        frequent = load(COREL, "corel5k_lite0.npz", min_positives=10)
        assert frequent.targets.sum(0).min() >= 10
        assert frequent.test_targets.sum(0).min() >= 1
        assert source.label_names[:2] == ("city", "mountain")
