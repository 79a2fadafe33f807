"""`dataset: digits`: small multi-label images composed of scikit-learn's real handwritten digits."""

from __future__ import annotations

import argparse
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Part, Source, register_source

CANVAS = 32
CELLS = 3  # canvases are laid out on a CELLS x CELLS grid
TRAIN_SIZE, TEST_SIZE = 4000, 1500
TRAIN_SHARE = 0.7  # of the handwritten digits of each class
CARDINALITY = (0.83, 0.13, 0.03, 0.01)  # probabilities of 1, 2, 3, 4 digits on a canvas
TAIL = 0.8  # each label is drawn about this much less often than the one before it
NOISE = 25.0  # standard deviation, in grey levels of 255
SEED = 20241210


@register_source("digits", "image")
def load_digits_source(args: argparse.Namespace) -> Source:
    """4,000 training and 1,500 test canvases uint8 [1,32,32]; label k says that the digit k occurs.

    The data are the same in every run: they depend neither on `args.seed` nor on a global random state.
    """
    del args
    parts = (compose(part) for part in ("train", "test"))
    train, test = (Part(canvases.copy(), targets.copy()) for canvases, targets, _ in parts)
    return Source.of("digits", "image", train, test, [f"digit {k}" for k in range(10)])


@lru_cache(maxsize=2)
def compose(part: str) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Canvases [N,1,32,32], targets [N,10] and rows of the handwritten digits used for `part` (train, test).

    A canvas holds 1 to 4 different digits, of 8 to 10 pixels each, in different cells of a jittered 3x3 grid.
    The arrays are read-only, because they are shared within the process. Train and test use different
    handwritten digits.
    """
    from sklearn.datasets import load_digits  # not needed by the other sources, and slow to import

    handwritten = load_digits()
    images, classes = handwritten.images.astype(np.int64), handwritten.target
    rows_of = _source_rows(classes, part)
    rng = np.random.default_rng((SEED, int(part == "test")))
    size = TRAIN_SIZE if part == "train" else TEST_SIZE
    enlarged = {side: _enlarge(images, side) for side in (8, 9, 10)}

    # The largest keys of log weight + Gumbel noise: a draw without replacement in proportion to the weights.
    keys = np.log(TAIL) * np.arange(10) + rng.gumbel(size=(size, 10))
    drawn = np.argsort(-keys, axis=1)
    counts = rng.choice(np.arange(1, 5), size=size, p=CARDINALITY)
    cells = np.argsort(rng.random((size, CELLS * CELLS)), axis=1)

    canvases = np.zeros((size, CANVAS, CANVAS), dtype=np.int64)
    targets = np.zeros((size, 10), dtype=np.float32)
    used = set()
    for i in range(size):
        for digit, cell in zip(drawn[i, : counts[i]], cells[i, : counts[i]], strict=True):
            row = rng.choice(rows_of[digit])
            side = int(rng.integers(8, 11))
            jitter = rng.integers(-1, 2, size=2)
            corner = np.array(divmod(cell, CELLS)) * (CANVAS // CELLS + 1) + (10 - side) // 2 + jitter
            top, left = corner.clip(0, CANVAS - side)
            strength = int(rng.integers(60, 101))
            patch = canvases[i, top : top + side, left : left + side]
            np.maximum(patch, enlarged[side][row] * strength // 100, out=patch)
            targets[i, digit] = 1.0
            used.add(int(row))
    noisy = canvases + np.rint(NOISE * rng.standard_normal(canvases.shape)).astype(np.int64)
    pixels = noisy.clip(0, 255).astype(np.uint8)[:, None]
    pixels.setflags(write=False)
    targets.setflags(write=False)
    return pixels, targets, np.array(sorted(used), dtype=np.int64)


def _source_rows(classes: NDArray[np.int64], part: str) -> list[NDArray[np.int64]]:
    """Rows of the handwritten digits of `part`, one array per class; train and test are disjoint."""
    rng = np.random.default_rng(SEED)
    rows_of = []
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(classes == digit))
        cut = int(TRAIN_SHARE * len(rows))
        rows_of.append(rows[:cut] if part == "train" else rows[cut:])
    return rows_of


def _enlarge(images: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Bilinear resize of 0..16 images [N,8,8] to 0..255 [N,side,side], in exact integer arithmetic."""
    # Output pixel i looks at input position ((2i+1)*8 - side) / (2*side): whole in units of 1/(2*side).
    weights = np.zeros((side, 8), dtype=np.int64)
    for i in range(side):
        position = min(max((2 * i + 1) * 8 - side, 0), 7 * 2 * side)
        low, fraction = divmod(position, 2 * side)
        weights[i, low] += 2 * side - fraction
        weights[i, min(low + 1, 7)] += fraction
    resized: NDArray[np.int64] = (weights @ images @ weights.T) * 255 // (16 * (2 * side) ** 2)
    return resized
