"""From a dataset and its split to the pools that a run reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from semilearn_bbam.data import Pool, Source, Split, View, load_split, make_split
from semilearn_bbam.data.dataset import take
from semilearn_bbam.data.splits import NO_VECTORS, around_validation
from semilearn_bbam.data.unknown import never_denied
from semilearn_bbam.errors import UserError


def read_split(
    args: argparse.Namespace,
    source: Source,
    *,
    saved: Path | None = None,
    log: Callable[[str], object] = lambda line: None,
) -> Split:
    """The split of the training part: from `split_file`, or drawn according to `split`, `seed` and the size.

    Rows that the data mark for validation are that part. UserError where the settings ask for another, and for clusters
    of data without vectors. saved: the split of the run that goes on, which is taken where it was made from clusters,
    since another machine may round them differently; log: takes a line on clusters.
    """
    file = args.split_file or (saved if args.split == "clusters" and saved is not None and saved.is_file() else "")
    if file:
        return load_split(Path(file), len(source.train), source.fingerprint, len(source.targets))
    if args.split == "clusters" and source.kind != "features":
        raise UserError(NO_VECTORS)
    unlabeled_only = len(source.train) - len(source.targets)
    all_labeled = unlabeled_only > 0 and not args.label_ratio and not args.num_labels
    marked = np.flatnonzero(source.validation)
    if len(marked) and args.val_ratio:
        raise UserError(
            f"'{args.dataset}' marks {len(marked)} items for validation, and val_ratio is {args.val_ratio}; set "
            "val_ratio: 0 to use those, or split_column: none"
        )
    if args.select_on == "validation" and not len(marked) and not args.val_ratio:
        raise UserError(f"select_on is validation, but '{args.dataset}' marks no item for validation; set val_ratio")
    if not (unlabeled_only or args.label_ratio or args.num_labels):
        raise UserError(
            f"'{args.dataset}' has labels for every item, and neither label_ratio nor num_labels says how many to use; "
            "set one of them, or name unlabelled items in unlabeled"
        )
    vectors = None
    if args.split == "clusters":
        vectors = (
            take(source.train, np.setdiff1d(np.arange(len(source.train)), marked)) if len(marked) else source.train
        )
    split = make_split(
        np.delete(source.targets, marked, axis=0),
        seed=args.seed,
        label_ratio=1.0 if all_labeled else args.label_ratio,
        num_labels=args.num_labels,
        method=args.split,
        val_ratio=args.val_ratio,
        unlabeled_only=unlabeled_only,
        fingerprint=source.fingerprint,
        vectors=vectors,
        random_share=args.cluster_random_share,
        log=log,
    )
    return around_validation(split, marked, len(source.targets)) if len(marked) else split


def build_pools(
    source: Source,
    split: Split,
    views: Mapping[str, View],
    labeled_views: Mapping[str, str],
    unlabeled_views: Mapping[str, str],
    include_labeled: bool,
) -> dict[str, Pool]:
    """The pools of a run.

    `train_lb` and `train_ulb` have the views of the algorithm (key of the batch -> name of the view); `pool_lb` and
    `pool_ulb` the weak view only, for the refresh; `prior`, `validation` and `test` the plain view.
    The unlabelled pools are built without any targets. In the labelled ones an unknown cell of a label that no labelled
    row denies counts as negative: a loss over its positives alone would predict it everywhere.
    """
    unlabeled = np.concatenate([split.labeled, split.unlabeled]) if include_labeled else split.unlabeled

    weak, plain = {"x_lb": views["weak"]}, {"x_lb": views["eval"]}
    lb_targets = _assumed(_labels(source.targets, split.labeled))
    test_rows = np.arange(len(source.test))
    pools = {
        "train_lb": labeled_pool(source, split, views, labeled_views),
        "train_ulb": Pool(source.train, unlabeled, _select(views, unlabeled_views), suffix="ulb"),
        "pool_lb": Pool(source.train, split.labeled, weak, lb_targets),
        "pool_ulb": Pool(source.train, unlabeled, weak),
        "prior": Pool(source.train, unlabeled if len(unlabeled) else split.labeled, plain),
        "test": Pool(source.test, test_rows, plain, _labels(source.test_targets, test_rows)),
    }
    if len(split.validation):
        targets = _labels(source.targets, split.validation)
        pools["validation"] = Pool(source.train, split.validation, plain, targets)
    return pools


def labeled_pool(source: Source, split: Split, views: Mapping[str, View], labeled_views: Mapping[str, str]) -> Pool:
    """The labelled rows of a split with their labels, as training batches have them."""
    targets = _assumed(_labels(source.targets, split.labeled))
    return Pool(source.train, split.labeled, _select(views, labeled_views), targets, suffix="lb")


def _select(views: Mapping[str, View], keys: Mapping[str, str]) -> dict[str, View]:
    return {key: views[view] for key, view in keys.items()}


def _labels(targets: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(targets[rows], np.float32))


def _assumed(targets: torch.Tensor) -> torch.Tensor:
    """Targets [N,K] with 0 in the unknown cells of labels that have no known negative."""
    assumed = torch.from_numpy(never_denied(targets.numpy()))
    return torch.where((targets < 0) & assumed, 0.0, targets)
