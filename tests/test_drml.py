"""DRML's four phases against its equations in plain loops, and its growing set of labelled rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from semilearn.core.hooks import ParamUpdateHook
from torch import Tensor

from semilearn_bbam.algorithms.drml import DRML
from semilearn_bbam.config import ConfigError
from semilearn_bbam.errors import UserError
from semilearn_bbam.nets import relation
from tests.conftest import batches, naming
from tests.drml_steps import CONFIG, GROUPS, PLAIN_STEPS, group, same, small_drml, step, update, weights


@pytest.fixture
def make(build: Callable[..., Any]) -> Callable[..., DRML]:
    """`make(**overrides)`: a DRML instance on the small vectors, narrow, and at the defaults that the YAML changes."""
    return small_drml(build)


def element(logit: Tensor, target: Tensor, loss: str) -> Tensor:
    probability = 1 / (1 + torch.exp(-logit))
    if loss == "squared":
        return (probability - target) ** 2
    return -torch.log(probability) if target else -torch.log(1 - probability)


def fitted(logits: Tensor, rows: list[tuple[Tensor, float]], loss: str = "squared") -> Tensor:
    """Weighted mean over rows of the mean over labels; `rows` holds each row's target and weight."""
    total, size = torch.zeros(()), 0.0
    for row, (target, weight) in zip(logits, rows, strict=True):
        total = total + weight * sum(element(z, y, loss) for z, y in zip(row, target, strict=True)) / len(target)
        size += weight
    return total / size


def apart(first: Tensor, second: Tensor, unlabeled: list[bool]) -> Tensor:
    rows = [
        sum(abs(1 / (1 + torch.exp(-a)) - 1 / (1 + torch.exp(-b))) for a, b in zip(*pair, strict=True)) / len(pair[0])
        for pair, counts in zip(zip(first, second, strict=True), unlabeled, strict=True)
        if counts
    ]
    return sum(rows) / len(rows)


def descend(loss: Tensor, parameters: list[Tensor], rate: float) -> None:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * 1.5 * gradient


def some_added(algorithm: DRML, batch: dict[str, Any]) -> None:
    rows = batch["idx_ulb"][[1, 4, 9]]
    algorithm.added[rows] = True
    algorithm.pseudo_targets[rows] = (torch.rand(3, 7) < 0.4).float()


@pytest.mark.parametrize(("loss", "use_cat"), [("squared", "true"), ("bce", "false")])
def test_a_step_is_the_four_phases(loss: str, use_cat: str, make: Any) -> None:
    options = {"alpha": 0.3, "discrepancy_lambda": 2.0, "ulb_loss_ratio": 0.7, "use_cat": use_cat}
    ratios = {"classifier_lr_ratio": 0.2, "projection_lr_ratio": 0.4, "relation_lr_ratio": 3.0}
    algorithm = make(element_loss=loss, **options, **ratios, **PLAIN_STEPS)
    batch = batches(algorithm)
    some_added(algorithm, batch)
    added = [bool(algorithm.added[i]) for i in batch["idx_ulb"]]
    rows = [(target, 1.0) for target in batch["y_lb"]]
    rows += [(algorithm.pseudo_targets[i], 0.7 * a) for i, a in zip(batch["idx_ulb"], added, strict=True)]
    inputs = torch.cat([batch["x_lb_s"], batch["x_ulb_s"]])
    assert inputs.shape == (16, 12)

    # By hand, on a copy of the net.
    net = copy.deepcopy(algorithm.model)
    outputs = net(inputs)
    first, second = outputs["logits_1"], outputs["logits_2"]
    loss_c = (fitted(first, rows, loss) + fitted(second, rows, loss)) / 2
    loss_da = apart(first[5:], second[5:], [not a for a in added])
    descend(2.0 * loss_c - loss_da, group(net, "C1", "C2"), 0.5 * 0.2)
    outputs = net(inputs[5:])
    loss_da = apart(outputs["logits_1"], outputs["logits_2"], [not a for a in added])
    descend(loss_da, group(net, "P"), 0.5 * 0.4)
    descend(fitted(net(inputs)["logits"], rows, loss), group(net, "CR"), 0.5 * 3.0)
    outputs = net(inputs)
    loss_c = (fitted(outputs["logits_1"], rows, loss) + fitted(outputs["logits_2"], rows, loss)) / 2
    loss_r = fitted(outputs["logits"], rows, loss)
    total = 0.3 / 2 * loss_c + 0.7 * loss_r

    before = {name: weights(algorithm.model, name) for name in GROUPS}
    out, logged = step(algorithm, batch)
    for name in GROUPS:
        assert same(weights(algorithm.model, name), weights(net, name), atol=1e-6), name
        assert not same(weights(algorithm.model, name), before[name], atol=1e-5), name
    values = {key: float(value) for key, value in logged.items()}
    assert float(out["loss"].detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    assert values["train/classifier_loss"] == pytest.approx(float(loss_c.detach()), rel=1e-5)
    assert values["train/relation_loss"] == pytest.approx(float(loss_r.detach()), rel=1e-5)
    assert values["train/discrepancy"] == pytest.approx(float(loss_da.detach()), rel=1e-5)

    # Phase A, by USB's hook, over all four groups.
    descend(total, group(net, *GROUPS), 0.5)
    algorithm.out_dict, algorithm.log_dict = out, logged
    ParamUpdateHook().after_train_step(algorithm)
    for name in GROUPS:
        assert same(weights(algorithm.model, name), weights(net, name), atol=1e-6), name


def test_the_projections_group_is_all_below_the_classifiers(make: Any) -> None:
    algorithm = make(net="mlp")
    parameters = {name: {id(p) for p in phase.parameters} for name, phase in algorithm.phases.items()}
    backbone = {id(p) for p in algorithm.model.backbone.parameters()}
    assert backbone
    assert parameters["projection"] == backbone | {id(p) for p in group(algorithm.model, "P")}
    assert sum(map(len, parameters.values())) == len(list(algorithm.model.parameters()))


def test_warm_up_is_the_joint_objective_on_labelled_rows(make: Any) -> None:
    algorithm = make(alpha=0.3, relation_lr_ratio=3.0, **PLAIN_STEPS)
    batch = batches(algorithm)
    net, rows = copy.deepcopy(algorithm.model), [(target, 1.0) for target in batch["y_lb"]]
    before = weights(algorithm.model, "P", "C1", "C2")
    descend(fitted(net(batch["x_lb_s"])["logits"], rows), group(net, "CR"), 0.5 * 3.0)
    outputs = net(batch["x_lb_s"])
    expected = 0.15 * (fitted(outputs["logits_1"], rows) + fitted(outputs["logits_2"], rows)) / 2
    expected = expected + 0.7 * fitted(outputs["logits"], rows)
    out, _ = algorithm.warmup_step(batch["x_lb_s"], batch["y_lb"])
    assert float(out["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert same(weights(algorithm.model, "CR"), weights(net, "CR"), atol=1e-6)
    assert same(weights(algorithm.model, "P", "C1", "C2"), before)


def test_the_game_pushes_the_classifiers_apart_and_the_projection_together(make: Any) -> None:
    algorithm = make(discrepancy_lambda=0, relation_lr_ratio=0, optim="SGD", scheduler="cosine", lr=0.5)
    batch = batches(algorithm)

    def distance() -> float:
        with torch.no_grad():
            outputs = algorithm.model(batch["x_ulb_s"])
        return float(apart(outputs["logits_1"], outputs["logits_2"], [True] * 11))

    start = distance()
    _, logged = step(algorithm, batch)
    between = float(logged["train/discrepancy"])
    assert between > start
    assert distance() < between


def test_only_rows_that_were_added_have_targets(make: Any) -> None:
    losses = []
    for change in ("none", "other", "added", "all", "weight"):
        algorithm = make(ulb_loss_ratio=0.1 if change == "weight" else 1.0)
        batch = batches(algorithm)
        torch.manual_seed(3)
        some_added(algorithm, batch)
        if change == "other":
            algorithm.pseudo_targets[~algorithm.added] = 1
        if change == "added":
            algorithm.pseudo_targets[algorithm.added] = 1
        if change == "all":
            algorithm.added[:] = True
        losses.append(update(algorithm, batch))
        assert (float(algorithm.log_dict["train/discrepancy"]) == 0) == (change == "all")
    assert losses[0] == losses[1]
    assert len(set(losses)) == 4


def test_loss_falls_on_a_fixed_batch(make: Any) -> None:
    algorithm = make(lr=0.01, num_train_iter=60)
    batch = batches(algorithm)
    losses = [update(algorithm, batch) for _ in range(20)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(("choice", "expected"), [("hard", [0, 1]), ("soft", [0.3, 0.6])])
def test_the_most_agreed_rows_join_for_good(
    choice: str, expected: list[float], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(added_rows=2, added_targets=choice)
    size = len(algorithm.added)
    scores = torch.full((size, 7), 0.3)
    scores[:, 2] = 0.6
    first = torch.full((size, 7), 2.0)  # against 0: all rows disagree, but for these
    first[[3, 5, 7]] = torch.tensor([[0.2], [0.3], [0.1]])
    outputs = {"logits": scores.logit(), "logits_1": first, "logits_2": torch.zeros(size, 7)}
    monkeypatch.setattr(algorithm, "read", lambda name, model=None: outputs)
    assert algorithm.refresh()["added_rate"] == pytest.approx(2 / size)
    assert algorithm.added.nonzero().flatten().tolist() == [3, 7]
    outputs["logits"] = torch.full((size, 7), 5.0)
    algorithm.refresh()
    assert algorithm.added.nonzero().flatten().tolist() == [0, 3, 5, 7]  # 0 is the first of equal rows
    assert algorithm.pseudo_targets[3, 1:3].tolist() == pytest.approx(expected, abs=1e-6)  # never revised
    assert (algorithm.pseudo_targets[5] > 0.9).all()


@pytest.mark.parametrize(("settings", "count"), [({"added_share": 0.25}, 0.25), ({"added_share": 0}, 0), ({}, 0.01)])
def test_a_share_of_the_pool_joins_each_time(settings: dict[str, Any], count: float, make: Any) -> None:
    algorithm = make(**settings)
    size = len(algorithm.added)
    for i in range(1, 6):
        algorithm.refresh()
        assert int(algorithm.added.sum()) == min(size, i * round(count * size))


@pytest.mark.parametrize("choice", ["student", "ema"])
def test_the_named_net_adds_the_rows(choice: str, make: Any) -> None:
    algorithm = make(refresh_model=choice, added_rows=4)
    for model in (algorithm.model, algorithm.ema_model):
        with torch.no_grad():
            model.head.relation.weight.zero_()
            model.head.relation.bias.fill_(-5.0)
    with torch.no_grad():
        (algorithm.model if choice == "student" else algorithm.ema_model).head.relation.bias.fill_(5.0)
    algorithm.refresh()
    assert algorithm.pseudo_targets[algorithm.added].all()


@pytest.mark.parametrize(("loss", "amp"), [("squared", "true"), ("bce", "true"), ("bce", "false")])
def test_half_precision_and_labels_without_or_with_one_positive_are_harmless(loss: str, amp: str, make: Any) -> None:
    algorithm = make(element_loss=loss, amp=amp)
    batch = batches(algorithm)
    batch["y_lb"][:, 5:] = 0
    batch["y_lb"][0, 6] = 1
    algorithm.refresh()
    for _ in range(2):
        update(algorithm, batch)
    assert algorithm.out_dict["loss"].dtype == torch.float32
    assert all(parameter.isfinite().all() for parameter in algorithm.model.parameters())


def test_state_survives_a_round_trip(make: Any, tmp_path: Path) -> None:
    algorithm, other = make(), make()
    batch = batches(algorithm)
    algorithm.refresh()
    update(algorithm, batch)
    torch.save(algorithm.get_state(), tmp_path / "state.pth")
    other.set_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(other.added, algorithm.added)
    assert torch.equal(other.pseudo_targets, algorithm.pseudo_targets)
    # With the same weights and moments, the next step is the same; without the moments it is not.
    fresh = make()
    for target in (other, fresh):
        target.model.load_state_dict(algorithm.model.state_dict())
        target.optimizer.load_state_dict(copy.deepcopy(algorithm.optimizer.state_dict()))
        target.scheduler.load_state_dict(algorithm.scheduler.state_dict())
    fresh.added, fresh.pseudo_targets = algorithm.added, algorithm.pseudo_targets
    for trained in (algorithm, other, fresh):
        update(trained, batch)
    assert same(weights(other.model, *GROUPS), weights(algorithm.model, *GROUPS))
    assert not same(weights(fresh.model, "C1"), weights(algorithm.model, "C1"))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_another_head_is_one_sentence(head: str, make: Any) -> None:
    with pytest.raises(UserError, match=naming("head", head, "drml", "auto")):
        make(head=head)


def test_too_many_labels_stop_before_training(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relation, "MAX_LABELS", 6)
    with pytest.raises(UserError, match=naming("drml", "at most 6", "have 7", "leave out")):
        make()


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", 1.2), ("discrepancy_lambda", -1), ("relation_lr_ratio", "inf"), ("added_share", 2), ("added_rows", -1)]
    + [("added_targets", "medium"), ("element_loss", "l1"), ("projector_dim", 0), ("relation_dim", -1)],
)
def test_settings_out_of_range_are_named(option: str, value: Any, make: Any) -> None:
    with pytest.raises(ConfigError, match=naming("command line", f"{option} must")):
        make(**{option: value})


def test_a_run_logs_how_many_rows_were_added(train: Any, features_dir: Path) -> None:
    results, folder = train(CONFIG, data_dir=features_dir, label_ratio=0.2, added_rows=10)
    assert 0 < results["test"]["mAP"] <= 1
    assert (folder / "metrics.jsonl").read_text().count("disagreement_added") == 2
    state = torch.load(folder / "latest_model.pth", weights_only=True)["state"]
    assert int(state["added"].sum()) == 20
    assert set(state["optimizers"]) == {"classifiers", "projection", "relation"}


def test_texts_train(train: Any, ohsumed_dir: Path, bert_dir: Path) -> None:
    settings = {"algorithm": "drml", "net": f"hf:{bert_dir}", "label_ratio": 0.3, "max_length": 8}
    results, _ = train("bbam_ohsumed.yaml", data_dir=ohsumed_dir, **settings)
    assert 0 < results["test"]["mAP"] <= 1
