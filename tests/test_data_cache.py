from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.data import cache as cache_module
from semilearn_bbam.data.cache import cache_images
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.views import build_views
from tests.conftest import naming, settings


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(30, 20, 3), (16, 16, 3), (5, 40, 3)]):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{i}.png")
    return ImageFiles([tmp_path / f"{i}.png" for i in range(3)])


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_views_of_cached_images_are_bit_equal(files: ImageFiles, where: str, tmp_path: Path) -> None:
    cached = cache_images(files, 16, where, str(tmp_path / "cache"))
    assert cached.shape == (3, 3, 16, 16)
    assert cached.dtype == np.uint8
    view = build_views("image", settings(img_size=16))["eval"]
    assert (view(cached[np.arange(3)]) == view([files[i] for i in range(3)])).all()


def test_a_file_serves_again_until_an_image_changes(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    first = cache_images(files, 16, "disk", str(folder))[np.arange(3)]
    assert len(list(folder.iterdir())) == 1
    decode = cache_module.decode_image
    monkeypatch.setattr(cache_module, "decode_image", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(cache_images(files, 16, "disk", str(folder))[np.arange(3)], first)
    monkeypatch.setattr(cache_module, "decode_image", decode)
    Image.new("RGB", (9, 9), "red").save(files.paths[1])
    changed = cache_images(files, 16, "disk", str(folder))[np.arange(3)]
    assert np.array_equal(changed[[0, 2]], first[[0, 2]])
    assert changed[1, 0].min() == 255
    assert cache_images(files, 8, "disk", str(folder)).shape == (3, 3, 8, 8)
    assert len(list(folder.iterdir())) == 3


def test_a_cut_file_is_made_again(files: ImageFiles, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = cache_images(files, 16, "disk", str(folder))[np.arange(3)]
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert np.array_equal(cache_images(files, 16, "disk", str(folder))[np.arange(3)], first)


def test_an_error_leaves_no_file_behind(files: ImageFiles, tmp_path: Path) -> None:
    Path(files.paths[2]).write_bytes(b"no image")
    with pytest.raises(DataError, match=naming("2.png", "decoded")):
        cache_images(files, 16, "disk", str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_too_little_space_is_an_error_before_the_work(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "free_memory", lambda: 10)
    with pytest.raises(DataError, match=naming("memory", "0.0", "cache: disk")):
        cache_images(files, 16, "ram", "")
    with pytest.raises(DataError, match=naming(tmp_path / "cache", "cache_dir")):
        cache_images(files, 10**9, "disk", str(tmp_path / "cache"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=naming(tmp_path / "file", "cannot be written", "cache_dir")):
        cache_images(files, 16, "disk", str(tmp_path / "file"))


def test_workers_get_the_name_of_the_file(files: ImageFiles, tmp_path: Path) -> None:
    cached = cache_images(files, 64, "disk", str(tmp_path / "cache"))
    packed = pickle.dumps(cached)
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed)[np.arange(3)], cached[np.arange(3)])
