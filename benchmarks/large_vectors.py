#!/usr/bin/env python
"""Write a folder of random vectors for `dataset: features`: python benchmarks/large_vectors.py <folder>.

By default 20,000 labelled, 1,000,000 unlabelled and 5,000 test vectors of 256 float16 with 1,000 labels, of rates
between 3 % and 0.1 %: the sum of a direction for each label of a row, and noise. It takes a minute and 550 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from semilearn_bbam.util.progress import progress_bar

WIDTH, NOISE, STRENGTH, AT_ONCE = 256, 0.35, 1.5, 20_000


def main() -> None:
    """Write `train_x`, `train_y`, `test_x`, `test_y` and `unlabeled_x`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unlabeled", type=int, default=1_000_000)
    parser.add_argument("--labeled", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--labels", type=int, default=1000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(args.labels, WIDTH)).astype(np.float32) / WIDTH**0.5
    rates = np.geomspace(0.03, 0.001, args.labels)

    def part(size: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        targets = (rng.random((size, args.labels), dtype=np.float32) < rates).astype(np.uint8)
        noise = rng.normal(size=(size, WIDTH)).astype(np.float32)
        return (STRENGTH * targets.astype(np.float32) @ directions + NOISE * noise).astype(np.float16), targets

    args.folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("train", args.labeled), ("test", args.test)):
        for key, array in zip("xy", part(size), strict=True):
            np.save(args.folder / f"{name}_{key}.npy", array)
    pool = open_memmap(args.folder / "unlabeled_x.npy", "w+", np.float16, (args.unlabeled, WIDTH))
    for start in progress_bar(range(0, args.unlabeled, AT_ONCE), "vectors"):
        pool[start : start + AT_ONCE] = part(min(AT_ONCE, args.unlabeled - start))[0]


if __name__ == "__main__":
    main()
