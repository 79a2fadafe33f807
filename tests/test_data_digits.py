from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits

from semilearn_bbam.data.dataset import read_source
from semilearn_bbam.data.readers.digits import _enlarge, compose


def test_shapes_types_and_names() -> None:
    source = read_source(argparse.Namespace(dataset="digits", seed=1))
    assert source.kind == "image"
    assert len(source.label_names) == 10
    assert np.shape(source.train) == (4000, 1, 32, 32)
    assert np.shape(source.test) == (1500, 1, 32, 32)
    assert source.train[7].shape == (1, 32, 32)
    assert source.train[7].dtype == np.uint8


def test_same_data_whatever_the_seed_and_the_global_state() -> None:
    first = read_source(argparse.Namespace(dataset="digits", seed=1))
    compose.cache_clear()
    np.random.seed(99)
    again = read_source(argparse.Namespace(dataset="digits", seed=2))
    assert again.fingerprint == first.fingerprint
    assert again.train is not first.train
    assert np.array_equal(again.train, first.train)


def test_train_and_test_are_made_of_different_handwriting() -> None:
    train, test = compose("train")[2], compose("test")[2]
    assert not set(train.tolist()) & set(test.tolist())
    assert len(train) > 1000
    assert len(test) > 400
    images = load_digits().images.reshape(1797, -1)
    train_images = {image.tobytes() for image in images[train]}
    assert not any(image.tobytes() in train_images for image in images[test])


def test_label_frequencies_are_long_tailed() -> None:
    for part in ("train", "test"):
        targets = compose(part)[1]
        cardinality = targets.sum(1)
        assert cardinality.min() == 1
        assert cardinality.max() == 4
        assert 1.15 < cardinality.mean() < 1.3
        rates = targets.mean(0)
        assert 0.2 < rates[0] < 0.3
        assert 0.025 < rates[9] < 0.05
        assert (np.diff(rates) < 0.005).all()


def test_every_label_leaves_its_ink() -> None:
    canvases, targets, _ = compose("train")
    ink = (canvases > 80).sum(axis=(1, 2, 3))
    means = [ink[targets.sum(1) == count].mean() for count in (1, 2, 3, 4)]
    assert (ink[targets.sum(1) == 1] >= 5).all()
    for count, mean in enumerate(means, start=1):
        assert abs(mean / means[0] - count) < 0.15 * count


def test_noise_is_light_and_covers_the_background() -> None:
    canvases = compose("train")[0]
    assert 0 < np.median(canvases.std(axis=(1, 2, 3))) < 60
    assert np.percentile(canvases, 50) < 5
    assert np.percentile(canvases, 90) < 40
    assert len(np.unique(canvases[:500, 0].reshape(500, -1), axis=0)) == 500


def test_enlarging_is_bilinear() -> None:
    image = np.random.default_rng(0).integers(0, 17, size=(1, 8, 8))
    assert np.array_equal(_enlarge(image, 8), image * 255 // 16)
    for side in (9, 10):
        enlarged = _enlarge(image, side)
        assert enlarged.shape == (1, side, side)
        for i in range(side):
            for j in range(side):
                y = min(max((i + 0.5) * 8 / side - 0.5, 0), 7)
                x = min(max((j + 0.5) * 8 / side - 0.5, 0), 7)
                top, left = int(y), int(x)
                bottom, right = min(top + 1, 7), min(left + 1, 7)
                upper = image[0, top, left] * (1 - x + left) + image[0, top, right] * (x - left)
                lower = image[0, bottom, left] * (1 - x + left) + image[0, bottom, right] * (x - left)
                expected = (upper * (1 - y + top) + lower * (y - top)) * 255 / 16
                assert abs(enlarged[0, i, j] - expected) <= 1
