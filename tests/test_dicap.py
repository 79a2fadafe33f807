"""DiCaP's estimation split, steps and options, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semilearn_bbam.algorithms.dicap import DiCaP
from semilearn_bbam.correctness import WeightedLabels
from semilearn_bbam.errors import UserError
from tests.conftest import batches, naming
from tests.plain_loops import asymmetric

CONFIG = "data/ohsumed_features.yaml"  # the method at its defaults


@pytest.fixture
def make(build: Callable[..., Any]) -> Callable[..., DiCaP]:
    """`make(**overrides)`: a DiCaP instance on the small vectors, its refresh of epoch 1 done."""
    return partial(build, CONFIG, algorithm="dicap", refresh=True, batch_size=5, ulb_batch_size=11)


def mixed(algorithm: DiCaP) -> WeightedLabels:
    """Pseudo-labels of all three kinds, independent of the small net's scores."""
    torch.manual_seed(1)
    kind = torch.randint(3, algorithm.labels.weights.shape)
    algorithm.labels = WeightedLabels((kind == 1).float(), torch.rand(kind.shape) * (kind < 2), kind == 2)
    return algorithm.labels


def step(algorithm: DiCaP, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A training step on the parts of this batch that are its arguments, as in the loop."""
    return algorithm.train_step(**{key: value for key, value in batch.items() if key != "idx_lb"})


def contrast(
    weak: list[list[float]], strong: list[list[float]], zone: Tensor, head: Tensor, temperature: float
) -> float:
    """The printed InfoNCE in loops: within a label, over both views of its ambiguous entries, and their mean."""
    terms = []
    for k in range(zone.shape[1]):
        vectors = []
        for view in (weak, strong):
            for i, z in enumerate(view):
                product = [a * float(w) for a, w in zip(z, head[k], strict=True)]
                norm = math.sqrt(sum(a * a for a in product))
                vectors.append((bool(zone[i, k]), [a / norm for a in product]))
        for u, (inside, vector) in enumerate(vectors):
            if inside:
                weight = [
                    math.exp(sum(a * b for a, b in zip(vector, v, strict=True)) / temperature) for _, v in vectors
                ]
                others = sum(w for j, w in enumerate(weight) if j != u and vectors[j][0])
                terms.append(-math.log(weight[(u + len(weak)) % len(vectors)] / others))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("use_cat", ["true", "false"])
def test_step_loss_is_the_stated_objective(reduction: str, use_cat: str, make: Any) -> None:
    options = {"ulb_loss_ratio": 0.7, "contrastive_weight": 0.3, "temperature": 0.5, "projection": "6 gelu"}
    algorithm = make(loss_reduction=reduction, use_cat=use_cat, **options)
    state, batch = mixed(algorithm), batches(algorithm)
    out, logged = step(algorithm, batch)
    with torch.no_grad():
        labeled, weak, strong = (algorithm.model(batch[key]) for key in ("x_lb_s", "x_ulb_w", "x_ulb_s"))
    rows = batch["idx_ulb"]
    sup = [
        asymmetric(float(a), float(b))
        for a, b in zip(labeled["logits"].flatten(), batch["y_lb"].flatten(), strict=True)
    ]
    entries = (strong["logits"], state.pseudo_targets[rows], state.weights[rows])
    unsup = [float(w) * asymmetric(float(a), float(b)) for a, b, w in zip(*(e.flatten() for e in entries), strict=True)]
    head = algorithm.model.head.linear.weight.detach()
    term = contrast(weak["feat"].tolist(), strong["feat"].tolist(), state.ambiguous[rows], head, 0.5)
    assert (len(sup), len(unsup), head.shape) == (5 * 7, 11 * 7, (7, 6))
    parts = [sum(x) / (len(x) if reduction == "mean" else 1) for x in (sup, unsup)]
    assert float(out["loss"].detach()) == pytest.approx(parts[0] + 0.7 * parts[1] + 0.3 * term, rel=1e-3)
    assert float(logged["train/contrastive_loss"]) == pytest.approx(term, rel=1e-3)
    assert float(logged["train/unsup_loss"]) == pytest.approx(parts[1], rel=1e-3)


def test_estimation_rows_are_unlabelled_rows_and_nothing_else(make: Any, features_dir: Path) -> None:
    algorithm = make(seed=3, estimation_ratio=0.2)
    pools, split = algorithm.dataset_dict, algorithm.split
    estimation_rows = set(pools["pool_est"].rows.tolist())
    assert len(split.labeled) == 32
    assert len(estimation_rows) == round(0.2 * 32)
    for name in ("train_lb", "pool_lb"):
        assert set(pools[name].rows.tolist()) == set(split.labeled.tolist()) - estimation_rows
    targets = np.load(features_dir / "ohsumed_minilm.npz")["train_y"]
    for name in ("train_lb", "pool_lb", "train_est", "pool_est"):
        assert np.array_equal(pools[name].targets.numpy(), targets[pools[name].rows])
    for name in ("train_ulb", "pool_ulb"):
        assert set(pools[name].rows.tolist()) == set(split.unlabeled.tolist()) | estimation_rows
        assert pools[name].targets is None
    assert np.array_equal(pools["prior"].rows, split.unlabeled)
    assert np.array_equal(pools["pool_ulb"].rows, pools["train_ulb"].rows)
    assert np.array_equal(pools["train_est"].rows, pools["pool_est"].rows)
    labeled_targets = torch.cat([pools["pool_lb"].targets, pools["pool_est"].targets])
    assert torch.allclose(algorithm.positive_rate, labeled_targets.mean(0))
    assert len(algorithm.pseudo_targets) == len(split.unlabeled)
    again, other = make(seed=3, save_name="y"), make(seed=4, save_name="z")
    assert np.array_equal(again.dataset_dict["pool_est"].rows, pools["pool_est"].rows)
    assert set(other.dataset_dict["pool_est"].rows.tolist()) != estimation_rows


def test_a_pool_with_the_labelled_rows_holds_the_estimation_rows_once(make: Any) -> None:
    algorithm = make(include_lb_to_ulb="true")
    rows = algorithm.dataset_dict["pool_ulb"].rows.tolist()
    assert len(rows) == len(set(rows)) == 160
    assert len(algorithm.pseudo_targets) == 160


def test_refresh_weighs_by_the_ema_model(make: Any) -> None:
    algorithm = make(correctness_bins=4, bin_knots="center")
    with torch.no_grad():
        for parameter in algorithm.model.parameters():
            parameter.normal_()  # the student must have no effect
    row = algorithm.refresh()
    pools = algorithm.dataset_dict

    def scores(name: str) -> Tensor:
        pool = pools[name]
        return (
            algorithm.ema_model(torch.tensor(pool.items[pool.rows], dtype=torch.float32))["logits"].detach().sigmoid()
        )

    pairs = {name: (scores(name), pools[name].targets) for name in ("pool_lb", "pool_est")}
    expected = WeightedLabels.estimate(
        scores("pool_ulb"), labeled=pairs["pool_lb"], estimation=pairs["pool_est"], bins=4, knots="center"
    )
    for name in ("pseudo_targets", "weights", "ambiguous"):
        assert torch.allclose(getattr(algorithm.labels, name).float(), getattr(expected, name).float(), atol=1e-4), name
    assert row["ambiguous_rate"] == pytest.approx(float(expected.ambiguous.float().mean()))


@pytest.mark.parametrize("term", ["pseudo", "contrastive"])
def test_unlabelled_terms_have_a_gradient(term: str, make: Any) -> None:
    algorithm = make(ulb_loss_ratio=float(term == "pseudo"), contrastive_weight=float(term == "contrastive"))
    mixed(algorithm)
    batch = batches(algorithm)
    step(algorithm, batch)[0]["loss"].backward()
    gradient = {name: p.grad.clone() for name, p in algorithm.model.named_parameters()}
    algorithm.model.zero_grad()
    algorithm.args, algorithm.lambda_u = algorithm.args.having(contrastive_weight=0.0), 0.0
    step(algorithm, batch)[0]["loss"].backward()
    plain = {name: p.grad for name, p in algorithm.model.named_parameters()}
    changed = {name for name in plain if not torch.equal(gradient[name], plain[name])}
    assert any(name.startswith("projection") for name in changed)
    assert any(name.startswith("head") for name in changed) == (term == "pseudo")


def test_loss_falls_on_a_fixed_batch(make: Any) -> None:
    algorithm = make()
    mixed(algorithm)
    batch = batches(algorithm)
    optimizer = torch.optim.Adam(algorithm.model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = step(algorithm, batch)[0]["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_finetuning_moves_the_head_alone_at_its_own_rate(make: Any) -> None:
    algorithm = make(finetune_lr=0.03)
    assert [algorithm.in_finetuning(epoch) for epoch in range(3)] == [False, False, True]
    assert len(list(algorithm.batches(2))) == len(list(algorithm.batches(1))) == algorithm.plan.steps
    before = {name: value.clone() for name, value in algorithm.model.state_dict().items()}
    for batch in algorithm.batches(2):
        assert set(algorithm.dataset_dict["train_lb"].rows).isdisjoint(
            algorithm.dataset_dict["train_est"].rows[batch["idx_lb"].numpy()]
        )
        algorithm.out_dict, algorithm.log_dict = algorithm.train_step(batch["x_lb_s"], batch["y_lb"])
        assert {group["lr"] for group in algorithm.optimizer.param_groups} == {0.03}
        algorithm.hooks_dict["ParamUpdateHook"].after_train_step(algorithm)
    moved = {name for name, value in algorithm.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.linear.weight", "head.linear.bias"}
    assert algorithm.model.training
    labels = algorithm.labels
    algorithm.epoch = 2
    assert algorithm.refresh() == {}
    assert algorithm.labels is labels


def test_finetuning_loss_is_that_of_the_estimation_batch(make: Any) -> None:
    algorithm = make(finetune_lr=0)
    rates = [group["lr"] for group in algorithm.optimizer.param_groups]
    batch = next(iter(algorithm.batches(2)))
    loss = float(algorithm.train_step(batch["x_lb_s"], batch["y_lb"])[0]["loss"].detach())
    logits = algorithm.model(batch["x_lb_s"])["logits"].detach()
    terms = [asymmetric(float(a), float(b)) for a, b in zip(logits.flatten(), batch["y_lb"].flatten(), strict=True)]
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-3)
    assert [group["lr"] for group in algorithm.optimizer.param_groups] == rates


def test_asymmetric_options_reach_every_loss(make: Any) -> None:
    algorithm = make(gamma_negative=0, clip=0, contrastive_weight=0)
    state, batch = mixed(algorithm), batches(algorithm)
    for case, train_step in (("warm-up", algorithm.warmup_step), ("fine-tuning", algorithm.train_step)):
        logits = algorithm.model(batch["x_lb_s"])["logits"].detach()
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch["y_lb"])
        loss = train_step(batch["x_lb_s"], batch["y_lb"])[0]["loss"].detach()
        assert float(loss) == pytest.approx(float(expected), rel=1e-4), case
    rows, logits = batch["idx_ulb"], algorithm.model(batch["x_ulb_s"])["logits"].detach()
    unsup = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, state.pseudo_targets[rows], weight=state.weights[rows]
    )
    logged = step(algorithm, batch)[1]
    assert float(logged["train/unsup_loss"]) == pytest.approx(float(unsup), rel=1e-4)


def test_without_finetuning_every_epoch_has_unlabelled_batches(make: Any) -> None:
    algorithm = make(finetune_epochs=0)
    assert "train_est" not in algorithm.loader_dict
    assert all("idx_ulb" in batch for epoch in (1, 2) for batch in algorithm.batches(epoch))
    assert all("idx_ulb" not in batch for batch in algorithm.batches(0))


def test_state_survives_a_round_trip(make: Any) -> None:
    algorithm = make()
    state, before = algorithm.get_state(), algorithm.labels
    algorithm.set_state({})
    assert algorithm.get_state() == {}
    algorithm.set_state(state)
    for name in ("pseudo_targets", "weights", "ambiguous"):
        assert torch.equal(getattr(algorithm.labels, name), getattr(before, name))


def test_rare_labels_and_one_held_out_row_keep_working(make: Any) -> None:
    """Labels with no labelled positive, or one, get no or few pseudo-positives and no NaN."""
    algorithm = make(estimation_ratio=0)
    assert len(algorithm.dataset_dict["pool_est"]) == 1
    for name in ("pool_lb", "train_lb", "pool_est", "train_est"):
        algorithm.dataset_dict[name].targets[:, 5:] = 0
    for name in ("pool_lb", "train_lb"):
        algorithm.dataset_dict[name].targets[0, 6] = 1
    algorithm.refresh()
    assert not algorithm.labels.pseudo_targets[:, 5].any()
    assert algorithm.labels.weights.isfinite().all()
    out, _ = step(algorithm, batches(algorithm))
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())


@pytest.mark.parametrize("change", [{"amp": "true"}, {"head": "cosine"}])
def test_half_precision_and_the_cosine_head_train(change: dict[str, str], make: Any) -> None:
    algorithm = make(**change)
    mixed(algorithm)
    out, logged = step(algorithm, batches(algorithm))
    out["loss"].backward()
    assert out["loss"].dtype == torch.float32
    assert float(logged["train/contrastive_loss"]) > 0
    assert all(p.grad.isfinite().all() for p in algorithm.model.parameters())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"estimation_ratio": 1}, ("estimation_ratio: 1.0", "32 labelled rows")),
        ({"label_ratio": 0.0, "num_labels": 1}, ("estimation_ratio: 0.2", "1 labelled rows")),
        ({"finetune_epochs": 3}, ("finetune_epochs (3)", "2 epochs", "warm-up")),
        ({"estimation_ratio": 1.5}, ("estimation_ratio", "0 and 1", 1.5)),
        ({"correctness_bins": 0}, ("correctness_bins", "at least 1", "not 0")),
        ({"finetune_epochs": -1}, ("finetune_epochs", "at least 0", "-1")),
        ({"bin_knots": "middle"}, ("bin_knots", "edge, center", "'middle'")),
        ({"temperature": 0}, ("temperature", "above 0", "0.0")),
    ],
)
def test_mistakes_are_one_sentence(overrides: dict[str, Any], message: tuple[object, ...], make: Any) -> None:
    with pytest.raises(UserError, match=naming(*message)):
        make(**overrides)


def test_a_run_takes_as_many_steps_as_any_other(train: Any, features_dir: Path) -> None:
    results, folder = train(
        CONFIG, algorithm="dicap", data_dir=features_dir, label_ratio=0.2, report_pseudo_label_quality="true"
    )
    assert results["steps"] == 2 + 2 * 3
    assert results["num_labels"] == 32
    assert "pseudo_micro_f1" in (folder / "metrics.jsonl").read_text()
