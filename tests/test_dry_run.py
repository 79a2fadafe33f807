"""The batch of each stage before the first epoch: what it finds, and that it leaves no trace."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import semilearn_bbam.run as run_module
import train as front_door
from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.engine.device import random_state
from semilearn_bbam.engine.dry_run import dry_run
from semilearn_bbam.errors import NetError
from tests.conftest import FEATURES, has_line, naming, short_run
from tests.methods import CASE_IDS, CASES, ON_IMAGES
from tests.test_resume import assert_same, assert_same_run

DIGITS = "bbam_digits.yaml"
# The last maps of this net have one pixel.
ONE_PIXEL = {"net": "timm:resnet18", "img_size": 32, "normalize": "symmetric", "label_ratio": 0.02}


def everything(algorithm: MultiLabelAlgorithm) -> dict[str, Any]:
    """Copies of all that a step may change."""
    hooks = {
        f"{name}.{key}": getattr(hook, key)
        for name, hook in algorithm.hooks_dict.items()
        for key in getattr(hook, "state_keys", ())
    }
    schedule = algorithm.scheduler.state_dict() if algorithm.scheduler else {}  # a fit has none
    states = {
        "model": algorithm.model.state_dict(),
        "ema_model": algorithm.ema_model.state_dict(),
        "modes": [module.training for net in (algorithm.model, algorithm.ema_model) for module in net.modules()],
        "gradients": [weight.grad is None for weight in algorithm.model.parameters()],
        "optimizer": algorithm.optimizer.state_dict(),
        "scheduler": {key: v for key, v in schedule.items() if not callable(v)},
        "state": algorithm.get_state(),
        "hooks": hooks,
        "sums": algorithm.sums.state_dict(),
        "random": random_state(),
        "it": algorithm.it,
    }
    return copy.deepcopy(states)


@pytest.mark.parametrize("config", [FEATURES, DIGITS])
@pytest.mark.parametrize(("algorithm", "options"), CASES, ids=CASE_IDS)
def test_nothing_is_changed(
    algorithm: str, options: dict[str, Any], config: str, build: Callable[..., MultiLabelAlgorithm], tmp_path: Path
) -> None:
    images = {"data_dir": tmp_path, "label_ratio": 0.02} | ON_IMAGES.get(algorithm, {})
    data = {} if config == FEATURES else images
    built = build(config, algorithm=algorithm, **data | options)
    before = everything(built)
    dry_run(built)
    assert_same(before, everything(built))


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_a_run_is_the_same_without_it(
    kind: str, train: Any, ohsumed_dir: Path, bert_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views, dropout and the statistics of batch norm depend on the random states and buffers."""
    texts = {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.4}
    config, settings = ("bbam_ohsumed.yaml", texts) if kind == "texts" else (DIGITS, {"algorithm": "ml_fixmatch"})
    _, first = train(config, save_name="with", **settings)
    with monkeypatch.context() as patch:
        calls: list[Any] = []
        patch.setattr(run_module, "dry_run", calls.append)
        _, second = train(config, save_name="without", **settings)
    assert len(calls) == 1
    assert_same_run(first, second)


class Failing(nn.Module):
    """Passes what it gets, and fails with a batch of `rows` in training or evaluation, forward or backward."""

    def __init__(self, inner: nn.Module, rows: int, *, training: bool, backward: bool = False) -> None:
        super().__init__()
        self.inner, self.rows, self.when, self.backward = inner, rows, training, backward

    def forward(self, x: Tensor, **options: Any) -> Any:
        outputs = self.inner(x, **options)
        if len(x) != self.rows or self.training is not self.when:
            return outputs
        if not self.backward:
            raise RuntimeError("too much\nof it")
        logits = outputs["logits"] * 1

        def fail(gradient: Tensor) -> None:
            raise RuntimeError("too much")

        logits.register_hook(fail)
        return {**outputs, "logits": logits}


@pytest.mark.parametrize(
    ("rows", "options", "stage"),
    [
        (5, {"training": True}, "warm-up"),
        (5, {"training": True, "backward": True}, "warm-up"),
        (6 + 3, {"training": True}, "semi-supervised stage"),
        (6 + 3, {"training": True, "backward": True}, "semi-supervised stage"),
        (4, {"training": False}, "evaluation"),
    ],
)
def test_an_error_names_stage_net_and_reason(
    rows: int, options: dict[str, Any], stage: str, build: Callable[..., MultiLabelAlgorithm]
) -> None:
    algorithm = build(warmup_batch_size=5, batch_size=3, ulb_batch_size=6)
    dry_run(algorithm)
    name = "model" if options["training"] else "ema_model"
    setattr(algorithm, name, Failing(getattr(algorithm, name), rows, **options))
    with pytest.raises(NetError, match=naming("net", algorithm.args.net, f"{rows} x 12", stage, "too much")):
        dry_run(algorithm)


@pytest.mark.parametrize(
    ("method", "sizes", "option"),
    [
        ("bbam", {"warmup_batch_size": 1}, "warmup_batch_size"),
        ("bbam", {"batch_size": 1, "use_cat": "false"}, "batch_size"),
        ("flatmatch", {"batch_size": 1}, "batch_size"),  # never joins the rows
        ("bbam", {"batch_size": 1, "ulb_batch_size": 2}, None),  # two views of one row and two are three rows
    ],
)
def test_batch_norm_of_one_value(
    method: str,
    sizes: dict[str, Any],
    option: str | None,
    build: Callable[..., MultiLabelAlgorithm],
    tmp_path: Path,
) -> None:
    algorithm = build(DIGITS, algorithm=method, data_dir=tmp_path, **ONE_PIXEL | sizes)
    if option is None:
        dry_run(algorithm)
        return
    with pytest.raises(NetError, match=naming("net", "timm:resnet18", option, "img_size", "1 x 3 x 32 x 32")):
        dry_run(algorithm)


def test_an_error_ends_the_command_and_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = short_run(DIGITS, tmp_path / "runs", warmup_batch_size=1, **ONE_PIXEL)
    assert front_door.main(argv) == 2
    assert has_line(capsys.readouterr().err, "net", "timm:resnet18", "warmup_batch_size")
    assert not (tmp_path / "runs" / "run").exists()


def test_the_longest_text_is_in_the_batch(
    train: Any, ohsumed_dir: Path, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the positions of a net are not known, a text that is too long for them is found before the first step."""
    monkeypatch.setattr("semilearn_bbam.engine.preprocessing.most_tokens", lambda net: None)
    monkeypatch.setattr("semilearn_bbam.engine.loop.TrainingLoop.train", lambda self: pytest.fail("it was trained"))
    folder = tmp_path / ohsumed_dir.name
    shutil.copytree(ohsumed_dir, folder)
    next((folder / "training" / "C01").iterdir()).write_text("heart " * 600, encoding="latin-1")
    settings = {"data_dir": folder, "net": f"hf:{bert_dir}", "label_ratio": 0.4, "max_length": 600}
    with pytest.raises(NetError, match=naming("net", f"hf:{bert_dir}", 600, "max_length")):
        train("bbam_ohsumed.yaml", **settings)
