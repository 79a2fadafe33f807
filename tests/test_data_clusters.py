"""Rows to label by clusters of vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from semilearn_bbam.data.clusters import choose_rows
from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.pool import Pool
from semilearn_bbam.data.splits import Split, make_split, with_all_labels
from semilearn_bbam.engine.label_rates import label_rates
from semilearn_bbam.engine.pools import read_split
from semilearn_bbam.errors import UserError
from tests.conftest import has_line, naming
from tests.conftest import settings as options_of

Array = NDArray[Any]


def groups(*sizes: int, width: int = 16, spread: float = 0.02, seed: int = 0) -> tuple[Array, Array]:
    """Vectors around one direction per group, in a random order, and the group of each."""
    rng = np.random.default_rng(seed)
    of = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (np.eye(width)[of] + spread * rng.normal(size=(len(of), width))).astype(np.float32), of


def choice(vectors: Any, count: int, seed: int = 0, **options: Any) -> Any:
    return choose_rows(vectors, count, rng=np.random.default_rng(seed), **options)


def split_of(vectors: Any, count: int, seed: int = 0, targets: Any = None, **options: Any) -> Split:
    targets = np.zeros((len(vectors), 1)) if targets is None else targets
    return make_split(targets, seed=seed, num_labels=count, method="clusters", vectors=vectors, **options)


def test_one_row_of_each_cluster_is_chosen_and_stands_for_its_size() -> None:
    sizes = (5, 80, 20, 1, 40)
    vectors, of = groups(*sizes)
    chosen = choice(vectors, 5)
    assert sorted(of[chosen.rows]) == [0, 1, 2, 3, 4]
    assert chosen.weights.tolist() == [sizes[group] for group in of[chosen.rows]]
    assert (chosen.num_clusters, chosen.num_random) == (5, 0)
    for row in chosen.rows:  # the nearest to the centre of its group
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        members = np.flatnonzero(of == of[row])
        distances = np.linalg.norm(unit[members] - unit[members].mean(0), axis=1)
        assert distances[members == row] == pytest.approx(distances.min(), abs=1e-6)


def test_the_length_of_a_vector_means_nothing() -> None:
    vectors, _ = groups(5, 80, 20, 1, 40, spread=0.3)
    longer = vectors * np.random.default_rng(1).choice([2.0**-70, 1.0, 2.0**70], size=(len(vectors), 1))
    one, two = choice(vectors, 12), choice(longer.astype(np.float32), 12)
    assert one.rows.tolist() == two.rows.tolist()
    assert one.weights.tolist() == two.weights.tolist()


@pytest.mark.parametrize("random_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 37, 89, 90])
def test_exactly_as_many_rows_as_asked_for_each_once(count: int, random_share: float) -> None:
    vectors, _ = groups(50, 30, 10, spread=0.3)
    chosen = choice(vectors, count, random_share=random_share)
    assert len(set(chosen.rows.tolist())) == len(chosen.rows) == len(chosen.weights) == count
    assert chosen.num_random == min(round(random_share * count), count - 1)
    assert chosen.num_clusters == count - chosen.num_random
    assert chosen.weights.sum() == pytest.approx(90)
    assert (chosen.weights > 0).all()


@pytest.mark.parametrize("count", [0, 91])
def test_more_rows_than_there_are_cannot_be_chosen(count: int) -> None:
    with pytest.raises(ValueError, match=naming(count, 90)):
        choice(groups(50, 30, 10)[0], count)


def test_the_choice_depends_on_the_seed_and_not_on_threads() -> None:
    vectors, _ = groups(200, 100, 300, spread=0.5, width=32)
    one, same, other = (choice(vectors, 40, seed, random_share=0.2) for seed in (0, 0, 1))
    with threadpool_limits(limits=1):
        single = choice(vectors, 40, random_share=0.2)
    for again in (same, single):
        assert again.rows.tolist() == one.rows.tolist()
        assert again.weights.tolist() == one.weights.tolist()
    assert set(other.rows.tolist()) != set(one.rows.tolist())


def test_equal_rows_leave_clusters_empty_whose_place_random_rows_take() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    chosen = choice(vectors, 12)
    assert (chosen.num_clusters, chosen.num_random) == (4, 8)
    assert len(set(chosen.rows.tolist())) == 12
    of_group = [chosen.weights[chosen.rows // 10 == group] for group in range(4)]
    assert all(weights.sum() == pytest.approx(10) for weights in of_group)  # shared by the chosen rows of a group
    zeros = choice(np.zeros((9, 3), np.float32), 4)
    assert len(set(zeros.rows.tolist())) == 4
    assert zeros.weights.tolist() == [9 / 4] * 4


def test_vectors_of_every_form_give_the_same_rows(tmp_path: Path) -> None:
    vectors = groups(50, 30, 10, spread=0.3)[0].astype(np.float16)
    np.save(tmp_path / "x.npy", vectors)
    np.save(tmp_path / "first.npy", vectors[:40])
    np.save(tmp_path / "second.npy", vectors[40:])
    forms = {
        "float32": vectors.astype(np.float32),
        "mapped": MappedArray(tmp_path / "x.npy"),
        "two files": MappedArray(tmp_path / "first.npy", tmp_path / "second.npy"),
        "mirrored": np.stack([vectors, -vectors[::-1]], axis=1),
    }
    expected = choice(vectors, 20)
    for name, form in forms.items():
        chosen = choice(form, 20)
        assert chosen.rows.tolist() == expected.rows.tolist(), name
        assert chosen.weights.tolist() == expected.weights.tolist(), name


def test_large_data_are_fitted_by_batches_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (50, 300, 100, 50)
    vectors, of = groups(*sizes)
    for name, value in {"LARGE": 100, "FITTED": 400, "BLOCK": 640}.items():
        monkeypatch.setattr(f"semilearn_bbam.clustering.{name}", value)
    chosen = choice(vectors, 4)
    assert sorted(of[chosen.rows]) == [0, 1, 2, 3]
    assert chosen.weights.tolist() == [sizes[group] for group in of[chosen.rows]]


def test_only_rows_with_targets_are_chosen_and_all_form_clusters() -> None:
    vectors, of = groups(40, 40, 40, 40)
    order = np.argsort(of == 3, kind="stable")  # the last group has no targets
    vectors, of = vectors[order], of[order]
    chosen = choice(vectors, 4, with_targets=120)
    assert chosen.rows.max() < 120
    assert len(set(chosen.rows.tolist())) == 4
    assert chosen.weights.tolist() == [40] * 4  # one stands for the group without targets
    assert set(of[chosen.rows].tolist()) == {0, 1, 2}
    few = choice(vectors, 3, with_targets=3)
    assert sorted(few.rows.tolist()) == [0, 1, 2]
    assert few.weights.sum() == 160


def test_a_chosen_cluster_without_targets_takes_the_nearest_row_that_has_some() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    vectors[35:] += np.float32(0.4) * vectors[0]  # near the first group
    chosen = choice(vectors, 4, with_targets=30)
    assert sorted(chosen.rows // 10) == [0, 0, 1, 2]


# ---------------------------------------------------------------------- splits


def test_a_split_reads_no_label() -> None:
    vectors, _ = groups(50, 30, 10, spread=0.3)

    class LengthOnly:
        def __len__(self) -> int:
            return 90

    blind = split_of(vectors, 20, targets=LengthOnly(), val_ratio=0.2)
    seen = split_of(vectors, 20, targets=np.full((90, 3), np.nan), val_ratio=0.2)
    assert blind.digest == seen.digest


@pytest.mark.parametrize("val_ratio", [0.0, 0.25])
def test_a_split_is_a_partition_with_weights(val_ratio: float) -> None:
    vectors, _ = groups(50, 30, 10, spread=0.3)
    split = split_of(vectors, 20, seed=3, val_ratio=val_ratio, targets=np.zeros((70, 1)), unlabeled_only=20)
    parts = np.concatenate([split.labeled, split.unlabeled, split.validation])
    assert sorted(parts.tolist()) == list(range(90))
    assert max(*split.labeled, *split.validation, 0) < 70
    assert len(split.labeled) + len(split.validation) == 20
    assert split.weights is not None
    assert split.weights.sum() == pytest.approx(90 - len(split.validation))
    random = make_split(np.zeros((70, 1)), seed=3, num_labels=20, val_ratio=val_ratio, unlabeled_only=20)
    assert split.validation.tolist() == random.validation.tolist()  # both are judged by the same rows


def test_where_all_rows_are_labelled_none_is_chosen() -> None:
    vectors, _ = groups(50, 30, 10)
    split = split_of(vectors, 90, val_ratio=0.1)
    assert (len(split.labeled), len(split.unlabeled), len(split.validation)) == (81, 0, 9)
    assert split.weights is None
    some = split_of(vectors, 20)
    assert with_all_labels(some, 90).weights is None


def test_weights_are_part_of_the_digest_only_where_there_are_some() -> None:
    vectors, _ = groups(50, 30, 10)
    split = split_of(vectors, 20)
    assert split.weights is not None
    equal = replace(split, weights=None)
    assert equal.digest != split.digest != replace(split, weights=2 * split.weights).digest
    with pytest.raises(ValueError, match=naming(20, 19)):
        replace(split, weights=split.weights[1:])


def vector_source(train: Any, labeled: int, **options: Any) -> Source:
    targets = np.tile(np.eye(2, dtype=np.float32), (labeled // 2, 1))
    return Source("features", "features", train, targets, train[:4], targets[:4], ("a", "b"), "f", **options)


def test_rows_marked_for_validation_take_no_part() -> None:
    vectors, _ = groups(50, 30, 10, spread=0.3)
    marked = np.zeros(60, bool)
    marked[[3, 7, 50]] = True
    args = options_of(dataset="features", split="clusters", num_labels=20, select_on="last")
    split = read_split(args, vector_source(vectors, 60, validation=tuple(marked)))
    assert split.validation.tolist() == [3, 7, 50]
    assert sorted(np.concatenate([split.labeled, split.unlabeled, split.validation]).tolist()) == list(range(90))
    assert split.labeled.max() < 60
    assert split.weights is not None
    assert split.weights.sum() == pytest.approx(87)


def test_a_random_share_is_drawn_and_told() -> None:
    vectors, _ = groups(50, 30, 10, spread=0.3)
    args = options_of(dataset="features", split="clusters", num_labels=20, cluster_random_share=0.25)
    lines: list[str] = []
    split = read_split(args, vector_source(vectors, 60), log=lines.append)
    assert len(split.labeled) == 20
    (line,) = lines
    assert has_line(line, "split: clusters", "90 rows", "15 clusters", "5 rows", "25 %")


@pytest.fixture
def text_csv(tmp_path: Path) -> Path:
    rows = "".join(f"text {i},{'x' if i % 2 else 'y'}\n" for i in range(20))
    (tmp_path / "train.csv").write_text(f"text,labels\n{rows}")
    return tmp_path


def test_clusters_of_items_without_vectors_are_refused(text_csv: Path) -> None:
    args = options_of(dataset="manifest", data_dir=text_csv, manifest="train.csv", num_labels=4, split="clusters")
    with pytest.raises(UserError, match=naming("split: clusters", "encoder")):
        read_split(args, load_source(args))


# ---------------------------------------------------------------------- label rates


def rates_of(split: Split, targets: Array, cluster_rates: str = "weighted") -> list[float]:
    pool = Pool(np.zeros((len(targets), 1)), split.labeled, {}, targets[split.labeled])
    lines: list[str] = []
    rates = label_rates(pool, split.weights, cluster_rates, log=lines.append)
    assert has_line(*lines, f"cluster_rates: {cluster_rates}")
    assert str(rates.dtype) == "torch.float32"
    return rates.tolist()


@pytest.mark.parametrize("random_share", [0.0, 0.3])
def test_weighted_rates_are_those_of_all_rows_where_clusters_are_unequal(random_share: float) -> None:
    sizes = (900, 60, 20, 10, 10)
    vectors, of = groups(*sizes)
    targets = np.eye(5, dtype=np.float32)[of]
    split = split_of(vectors, 20, random_share=random_share)
    assert rates_of(split, targets) == pytest.approx(np.divide(sizes, 1000).tolist(), abs=1e-6)
    counted = rates_of(split, targets, "counted")
    assert counted == pytest.approx(targets[split.labeled].mean(0).tolist())


def test_weighted_rates_follow_the_clusters_also_of_unknown_cells() -> None:
    sizes = (80, 15, 5)
    vectors, of = groups(*sizes)
    targets = np.eye(3, dtype=np.float32)[of]
    targets[of == 1, 0] = -1  # of the first label nothing is known in the second group
    split = split_of(vectors, 3)
    assert rates_of(split, targets) == pytest.approx([80 / 85, 0.15, 0.05])
    assert rates_of(split, targets, "counted") == pytest.approx([1 / 2, 1 / 3, 1 / 3])


def test_rates_without_weights_are_counted() -> None:
    targets = np.array([[1, 0], [0, -1], [1, 1]], np.float32)
    lines: list[str] = []
    rates = label_rates(Pool(targets, [0, 1, 2], {}, targets), None, "weighted", log=lines.append)
    assert rates.tolist() == pytest.approx([2 / 3, 1 / 2])
    assert lines == []
