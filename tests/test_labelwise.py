"""A label-wise step is the mean over labels of K two-class runs of USB's class, with USB's hooks and losses."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from semilearn.algorithms.hooks import DistAlignEMAHook
from semilearn.core.criterions import CELoss, ConsistencyLoss
from semilearn.core.utils import ALGORITHMS
from torch import nn

from semilearn_bbam.config import ConfigError, load_yaml
from semilearn_bbam.engine.labelwise import Labelwise
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import algorithm_names, read_settings
from tests.conftest import arguments, batches, has_line, naming

# Options with which every term of a step is non-zero from the first step on.
EXACT: dict[str, dict[str, Any]] = {
    "fixmatch": {"p_cutoff": 0.55},
    "defixmatch": {"p_cutoff": 0.55},
    "pseudolabel": {"p_cutoff": 0.55},
    "pimodel": {},
    "meanteacher": {},
    "uda": {"p_cutoff": 0.55, "tsa_schedule": "linear"},
    "mixmatch": {},
    "dash": {"rho_min": 0.01},
    "fullysupervised": {},
    "supervised": {},
    # One state per label: equal to K separate runs.
    "adamatch": {"p_cutoff": 0.98},
    "softmatch": {},
    "flexmatch": {"p_cutoff": 0.55},
    "freematch": {"ent_loss_ratio": 0.5},
    "remixmatch": {"rot_loss_ratio": 0.0},
}
NUM_LABELS = 7


class OneLabel(nn.Module):
    """The shared net as USB would see it for label k alone: two-way logits [B,2]."""

    def __init__(self, net: nn.Module, k: int) -> None:
        super().__init__()
        self.net, self.k = net, k

    def forward(self, x: Any, only_fc: bool = False, **kwargs: Any) -> Any:
        out = self.net(x, only_fc=only_fc, **kwargs)
        return out[:, self.k] if only_fc else {**out, "logits": out["logits"][:, self.k]}


def two_class_run(algorithm: Labelwise, name: str, k: int) -> Any:
    """USB's algorithm on label k only, with the net and settings of the label-wise one."""
    usb_class = ALGORITHMS[name]
    run = object.__new__(usb_class)
    run.__dict__.update(algorithm.__dict__)
    run.model, run.num_classes = OneLabel(algorithm.model, k), 2
    run.ce_loss, run.consistency_loss = CELoss(), ConsistencyLoss()
    labels = algorithm.dataset_dict["train_lb"].targets[:, k].long().tolist()
    run.dataset_dict = {"train_lb": argparse.Namespace(targets=labels)}
    run._hooks, run.hooks_dict = [], OrderedDict()
    run.set_hooks()
    if run.registered_hook("DistAlignHook"):
        rate = float(algorithm.positive_rate[k])
        momentum = getattr(algorithm.args, "ema_p", 0.999)
        aligned = DistAlignEMAHook(2, momentum, "gt", torch.tensor([1 - rate, rate]))
        run.register_hook(aligned, "DistAlignHook")
    run.ema = argparse.Namespace(apply_shadow=algorithm.ema.apply_shadow, restore=algorithm.ema.restore)
    return run


def seeded(step: Callable[..., Any], **batch: Any) -> Any:
    """The step with the same draws (of mixup) each time."""
    torch.manual_seed(0)
    np.random.seed(0)
    return step(**batch)


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("use_cat", ["true", "false"])
@pytest.mark.parametrize("name", EXACT)
def test_step_is_the_mean_of_k_two_class_runs(name: str, use_cat: str, head: str, build: Any) -> None:
    sizes = {"batch_size": 5, "warmup_batch_size": 5, "ulb_batch_size": 11, "num_train_iter": 12}
    options = {"use_cat": use_cat, "head": head, "scale": 8, "margin": 0.1, "lr": 0.05, "ulb_loss_ratio": 0.7}
    algorithm = build(algorithm=f"ml_{name}", **sizes, **options, **EXACT[name])
    algorithm.call_hook("before_run", "EMAHook")
    algorithm.it = 5
    if name == "dash":
        algorithm.refresh()
    runs = [two_class_run(algorithm, name, k) for k in range(NUM_LABELS)]
    if name == "dash":
        for run in runs:
            hook = run.hooks_dict["MaskingHook"]
            hook.rho_init = hook.rho = algorithm.rho_init
    loader = zip(algorithm.loader_dict["train_lb"], algorithm.loader_dict.get("train_ulb", [{}] * 9), strict=False)
    losses = []
    for labeled, unlabeled in list(loader)[:4]:
        batch = algorithm.process_batch(None, **labeled, **unlabeled)
        assert len(batch["y_lb"]) == 5
        out, _ = seeded(algorithm.train_step, **batch)
        expected = []
        for k, run in enumerate(runs):
            run.it = algorithm.it
            label_batch = {key: value[:, k] if key == "y_lb" else value for key, value in batch.items()}
            expected.append(float(seeded(run.train_step, **label_batch)[0]["loss"].detach()))
        losses.append(float(out["loss"].detach()))
        assert losses[-1] == pytest.approx(np.mean(expected), rel=2e-5, abs=1e-6)
        assert np.std(expected) > 1e-4  # the labels are different problems
        out["loss"].backward()
        algorithm.optimizer.step()
        algorithm.model.zero_grad()
        algorithm.ema.update()
        algorithm.it += 1
    assert len(set(losses)) == 4


def test_states_differ_between_labels(build: Any) -> None:
    """The point of a state per label: pooled over labels, these would be one number."""
    attributes = {
        "softmatch": "prob_max_mu_t",
        "freematch": "time_p",
        "flexmatch": "classwise_acc",
        "adamatch": "p_model",
    }
    for name, attribute in attributes.items():
        algorithm = build(algorithm=f"ml_{name}", save_name=name, **EXACT[name])
        for _ in range(3):
            algorithm.train_step(**algorithm.process_batch(None, **batches(algorithm)))
        hook = algorithm.hooks_dict["DistAlignHook" if name == "adamatch" else "MaskingHook"]
        value = getattr(hook, attribute)
        assert value.shape[0] == NUM_LABELS
        assert value.float().std(dim=0).max() > 0


@pytest.mark.parametrize("per_class", ["true", "false"])
def test_softmatch_weights_in_plain_loops(per_class: str, build: Any) -> None:
    algorithm = build(algorithm="ml_softmatch", per_class=per_class, ema_p=0.5, n_sigma=3)
    hook = algorithm.hooks_dict["MaskingHook"]
    torch.manual_seed(0)
    positive = torch.rand(9, NUM_LABELS)
    positive[:, 2] = 0.9  # never predicted off
    weights = hook.masking(algorithm, torch.stack([1 - positive, positive], -1))
    for k in range(NUM_LABELS):
        confidence = [max(float(p), 1 - float(p)) for p in positive[:, k]]
        for i in range(9):
            alike = [c for c, p in zip(confidence, positive[:, k], strict=True)
                     if per_class == "false" or (p > 0.5) == (positive[i, k] > 0.5)]  # fmt: skip
            mean, variance = (np.mean(alike), np.var(alike, ddof=1)) if len(alike) > 1 else (0.0, 1.0)
            mu, var = 0.5 * 0.5 + 0.5 * mean, 0.5 * 1.0 + 0.5 * variance
            expected = np.exp(-(min(confidence[i] - mu, 0) ** 2) / (2 * var / 9))
            assert float(weights[i, k]) == pytest.approx(expected, rel=1e-5)


def test_softmatch_learns_no_spread_from_one_row(build: Any) -> None:
    algorithm = build(algorithm="ml_softmatch")
    hook = algorithm.hooks_dict["MaskingHook"]
    positive = torch.full((1, NUM_LABELS), 0.7)
    assert torch.isfinite(hook.masking(algorithm, torch.stack([1 - positive, positive], -1))).all()
    assert torch.equal(hook.prob_max_var_t, torch.ones(NUM_LABELS))


def test_alignment_goes_to_the_labelled_rate(build: Any) -> None:
    algorithm = build(algorithm="ml_softmatch")
    hook = algorithm.hooks_dict["DistAlignHook"]
    positive = torch.full((6, NUM_LABELS), 0.5)
    aligned = hook.dist_align(algorithm, torch.stack([1 - positive, positive], -1))[..., 1]
    torch.testing.assert_close(aligned.mean(0), algorithm.positive_rate, atol=1e-5, rtol=1e-4)


def test_vat_divergences_are_means_over_labels(build: Any) -> None:
    algorithm = build(algorithm="ml_vat")
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, NUM_LABELS, 2)
    two_class = object.__new__(ALGORITHMS["vat"])
    for method in ("kl_div_with_logit", "entropy_loss"):
        pairs = [(first[:, k], second[:, k]) if method.startswith("kl") else (first[:, k],) for k in range(NUM_LABELS)]
        expected = np.mean([float(getattr(two_class, method)(*pair)) for pair in pairs])
        value = (
            getattr(algorithm, method)(first, second) if method.startswith("kl") else getattr(algorithm, method)(first)
        )
        assert float(value) == pytest.approx(expected, rel=1e-5)


def test_vat_direction_is_worse_than_a_random_one(build: Any) -> None:
    algorithm = build(algorithm="ml_vat", lr=0.05)
    x = batches(algorithm)["x_ulb_w"]
    for _ in range(20):
        out, _ = algorithm.train_step(**algorithm.process_batch(None, **batches(algorithm)))
        out["loss"].backward()
        algorithm.optimizer.step()
        algorithm.model.zero_grad()
    clean = algorithm.model(x)["logits"]
    worst = algorithm.vat_loss(algorithm.model, x, clean, eps=0.5, num_iters=3)
    assert all(p.grad is None for p in algorithm.model.parameters())  # the search leaves no gradient
    directions = torch.nn.functional.normalize(torch.randn(20, *x.shape), dim=-1)
    random = [algorithm.kl_div_with_logit(clean, algorithm.model(x + 0.5 * d)["logits"]) for d in directions]
    assert float(worst.detach()) > 2 * float(torch.stack(random).detach().max())
    worst.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in algorithm.model.parameters())


def test_text_is_perturbed_in_its_embeddings_and_mixed_as_features(train: Any, ohsumed_dir: Any, bert_dir: Any) -> None:
    text = {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.25, "num_train_iter": 6}
    options = {"ml_vat": "vat_embed", "ml_mixmatch": "mixup_manifold", "ml_remixmatch": "mixup_manifold"}
    for name, option in options.items():
        with pytest.raises(UserError, match=option):
            train("bbam_ohsumed.yaml", algorithm=name, **text, **{option: "false"})
        results, folder = train("bbam_ohsumed.yaml", algorithm=name, save_name=name, **text)
        assert load_yaml(folder / "config.yaml")[option].value is True
        assert np.isfinite(results["test"]["mAP"])


def test_rotation_needs_images(build: Any, train: Any) -> None:
    with pytest.raises(UserError, match=naming("features data", "set rot_loss_ratio: 0")):
        build(algorithm="ml_remixmatch", rot_loss_ratio=0.5)
    results, _ = train("bbam_digits.yaml", algorithm="ml_remixmatch", num_train_iter=6)
    assert np.isfinite(results["test"]["mAP"])


def test_rotations_are_turned_with_their_numbers(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = build(algorithm="ml_remixmatch", rot_loss_ratio=0.0)
    arguments: dict[str, Any] = {}
    parent = ALGORITHMS["remixmatch"]

    def record(self: Any, *args: Any) -> Any:
        arguments["turned"], arguments["turns"] = args[5:]
        return {}, {}

    monkeypatch.setattr(parent, "train_step", record)
    images = torch.rand(12, 3, 4, 4)
    algorithm.use_rot = True
    algorithm.train_step(None, torch.zeros(5, NUM_LABELS).long(), images, images, images)
    assert len(set(arguments["turns"].tolist())) > 1
    for image, turned, turns in zip(images, arguments["turned"], arguments["turns"], strict=True):
        assert torch.equal(turned, torch.rot90(image, int(turns), (1, 2)))


def test_fullysupervised_takes_all_labels_and_says_so_in_its_split(train: Any, features_dir: Any) -> None:
    config = "bbam_ohsumed_features.yaml"
    few, _ = train(config, data_dir=features_dir, label_ratio=0.2, algorithm="ml_supervised", save_name="few")
    everything, _ = train(config, data_dir=features_dir, label_ratio=0.2, algorithm="ml_fullysupervised")
    assert (few["num_labels"], everything["num_labels"]) == (32, 160)
    assert few["steps"] == everything["steps"]


def test_every_labelwise_method_is_tested() -> None:
    names = {name for name in algorithm_names() if issubclass(ALGORITHMS[name], Labelwise)}
    assert {name for name in names if name.startswith("ml_")} == {f"ml_{name}" for name in EXACT} | {"ml_vat"}


def test_usb_classes_are_not_changed(build: Any) -> None:
    before = {name: dict(vars(ALGORITHMS[name])) for name in EXACT}
    build(algorithm="ml_freematch")
    assert all(dict(vars(ALGORITHMS[name])) == before[name] for name in EXACT)


@pytest.mark.parametrize("name", ["comatch", "ml_comatch", "simmatch", "crmatch"])
def test_what_compares_whole_distributions_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(arguments("bbam_ohsumed_features.yaml", algorithm=name))
    (sentence,) = str(caught.value).splitlines()
    assert has_line(sentence, "command line", f"algorithm cannot be {name}")


def test_single_label_names_point_to_the_labelwise_ones() -> None:
    with pytest.raises(ConfigError, match=naming("algorithm", "fixmatch", "use ml_fixmatch")):
        read_settings(arguments("bbam_ohsumed_features.yaml", algorithm="fixmatch"))
