"""Hide cells of the training labels of an .npz of vectors at random: 1 and 0 become -1, unknown.

    python scripts/hide_labels.py ohsumed_minilm.npz ohsumed_minilm_hidden30.npz --share 0.3

The test labels stay. The same share and seed hide the same cells everywhere.
"""

from __future__ import annotations

import argparse

import numpy as np


def main() -> None:
    """Read the first file and write the second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help=".npz with train_y [N,K]")
    parser.add_argument("target", help=".npz to write")
    parser.add_argument("--share", type=float, default=0.3, help="share of the cells that is hidden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with np.load(args.source, allow_pickle=False) as archive:
        arrays = dict(archive)
    targets = arrays["train_y"].astype(np.int8)
    targets[np.random.default_rng(args.seed).random(targets.shape) < args.share] = -1
    np.savez_compressed(args.target, **{**arrays, "train_y": targets})
    print(f"{100 * (targets < 0).mean():.2f} % of {targets.size} cells are hidden")


if __name__ == "__main__":
    main()
