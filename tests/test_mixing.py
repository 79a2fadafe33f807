"""Mixup of rows, and of a step's two batches, against plain sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.engine.mixed_pass import mixed_pass
from semilearn_bbam.mixing import mix_rows
from tests.conftest import batches, naming


def test_each_row_is_mixed_with_one_other_and_stays_nearer_to_itself() -> None:
    torch.manual_seed(0)
    rows, values = torch.eye(200).view(200, 10, 20), torch.arange(200.0).unsqueeze(1)
    mixed, carried = mix_rows(rows, values, 0.7)
    shares = mixed.view(200, 200)  # row i of the identity: what each row has of every other
    own = shares.diagonal().clone()
    shares.fill_diagonal_(0)
    assert mixed.shape == rows.shape
    assert ((shares > 0).sum(1) <= 1).all(), "more than one partner"
    assert (own >= 0.5).all()
    assert len(own.unique()) > 150, "every row has a share of its own"
    partner = shares.argmax(1)
    expected = own * values[:, 0] + shares.max(1).values * values[partner, 0]
    assert torch.allclose(carried[:, 0], expected, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_shares_follow_the_folded_beta(alpha: float) -> None:
    torch.manual_seed(1)
    rows = torch.zeros(20000, 1)
    rows[::2] = 1
    mixed, _ = mix_rows(rows, rows, alpha)
    share = mixed[::2][mixed[::2] < 1]  # of the ones whose partner is a zero
    drawn = torch.distributions.Beta(alpha, alpha).sample((20000,))
    assert float(share.mean()) == pytest.approx(float(torch.maximum(drawn, 1 - drawn).mean()), abs=0.01)


@pytest.mark.parametrize(
    ("sizes", "alpha", "message"),
    [
        ((3, 3), 0.0, ("alpha", "positive", "0.0")),
        ((3, 3), -1.0, ("alpha", "positive", "-1.0")),
        ((3, 2), 1.0, ("3 rows", "2 rows of values")),
    ],
)
def test_bad_values_are_refused(sizes: tuple[int, int], alpha: float, message: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*message)):
        mix_rows(torch.zeros(sizes[0], 2), torch.zeros(sizes[1], 2), alpha)


@pytest.mark.parametrize("use_cat", ["true", "false"])
@pytest.mark.parametrize("name", ["bbam", "cap"])
def test_a_pass_mixes_both_batches_as_one(name: str, use_cat: str, build: Callable[..., MultiLabelAlgorithm]) -> None:
    algorithm = build(refresh=True, mixup=1.0, use_cat=use_cat, algorithm=name, batch_size=6, ulb_batch_size=6)
    x_lb, x_ulb = torch.randn(6, 12), torch.randn(6, 12)
    lone, both = torch.arange(6.0).unsqueeze(1), torch.ones(6, 1)
    torch.manual_seed(3)
    (out_lb, (own_lb, ones)), (out_ulb, (own_ulb, _)) = mixed_pass(
        algorithm, x_lb, (lone, both), x_ulb, (lone + 6, both)
    )
    torch.manual_seed(3)
    rows, numbers = mix_rows(torch.cat([x_lb, x_ulb]), torch.arange(12.0).unsqueeze(1), 1.0)
    assert torch.equal(torch.cat([own_lb, own_ulb]), numbers)
    assert torch.allclose(ones, both)
    found = torch.cat([out_lb["logits"], out_ulb["logits"]])
    assert torch.allclose(found, algorithm.model(rows)["logits"], atol=1e-5)
    assert not torch.allclose(found, algorithm.model(torch.cat([x_lb, x_ulb]))["logits"], atol=1e-2)


def test_without_mixup_nothing_is_mixed(build: Callable[..., MultiLabelAlgorithm]) -> None:
    algorithm = build(refresh=True)
    values, others = (torch.rand(4, 7),), (torch.rand(3, 7),)
    before = torch.get_rng_state()
    (out, kept), _ = mixed_pass(algorithm, torch.ones(4, 12), values, torch.ones(3, 12), others)
    assert kept is values
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(out["logits"], algorithm.model(torch.ones(4, 12))["logits"])


def test_the_loss_of_mixed_rows_is_that_of_their_mixed_targets(build: Callable[..., MultiLabelAlgorithm]) -> None:
    """BAM's loss is linear in the targets, so that a mixed row costs lam l(x, y_i) + (1 - lam) l(x, y_j)."""
    algorithm = build(refresh=True, mixup=1.0, balance="false", negatives="all")
    batch: dict[str, Any] = batches(algorithm)
    torch.manual_seed(5)
    _, logged = algorithm.train_step(**batch)
    torch.manual_seed(5)
    rows = torch.cat([batch["x_lb_s"], batch["x_ulb_s"]])
    targets = torch.cat([batch["y_lb"], algorithm.pseudo_targets[batch["idx_ulb"]]])
    mixed, soft = mix_rows(rows, targets, 1.0)
    logits = 20 * (algorithm.model(mixed)["cosine"].detach() - 0.4)
    element = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    size = len(batch["x_lb_s"])
    assert float(logged["train/sup_loss"]) == pytest.approx(float(element[:size].mean()), rel=1e-4)
    assert float(logged["train/unsup_loss"]) == pytest.approx(float(element[size:].mean()), rel=1e-4)


def test_texts_are_mixed_at_the_backbones_feature(
    build: Callable[..., MultiLabelAlgorithm], ohsumed_dir: Any, bert_dir: Any
) -> None:
    options = {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.25}
    algorithm = build(config="bbam_ohsumed.yaml", refresh=True, mixup=1.0, **options)
    algorithm.model.eval()
    batch: dict[str, Any] = batches(algorithm)
    (y_lb, y_ulb) = (torch.arange(len(batch[key])).float().unsqueeze(1) for key in ("idx_lb", "idx_ulb"))
    torch.manual_seed(2)
    (out, _), _ = mixed_pass(algorithm, batch["x_lb_s"], (y_lb,), batch["x_ulb_s"], (y_ulb,))
    torch.manual_seed(2)
    shared = [algorithm.model(batch[key], only_backbone=True) for key in ("x_lb_s", "x_ulb_s")]
    rows, _ = mix_rows(torch.cat(shared), torch.cat([y_lb, y_ulb]), 1.0)
    expected = algorithm.model.head(algorithm.model.projection(rows[: len(y_lb)]))["logits"]
    assert torch.allclose(out["logits"], expected, atol=1e-5)
