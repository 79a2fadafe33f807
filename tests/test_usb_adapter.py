"""What is replaced of USB is still what it was when it was replaced."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from typing import Any

import pytest

from semilearn_bbam.engine.hooks.table import HOOKS
from semilearn_bbam.engine.usb_adapter import REPLACED, from_usb
from semilearn_bbam.run import ALGORITHMS, algorithm_names

# After a new version of USB: read what changed, adapt what replaces it, then renew the digest.
DIGESTS: dict[str, str] = {
    "semilearn.core.algorithmbase.AlgorithmBase.__init__": "7b51580247777634",
    "semilearn.core.algorithmbase.AlgorithmBase.set_dataset": "a78870777c794b0a",
    "semilearn.core.algorithmbase.AlgorithmBase.set_data_loader": "eded18b3309cf866",
    "semilearn.core.algorithmbase.AlgorithmBase.set_model": "dea671eff09ebf8b",
    "semilearn.core.algorithmbase.AlgorithmBase.set_ema_model": "a3aa67644f70c4be",
    "semilearn.core.algorithmbase.AlgorithmBase.set_hooks": "325b7f2868a74725",
    "semilearn.core.algorithmbase.AlgorithmBase.process_batch": "05932e6bb667f80c",
    "semilearn.core.algorithmbase.AlgorithmBase.train": "d2d1bd170d7b677d",
    "semilearn.core.algorithmbase.AlgorithmBase.evaluate": "98dd3837e0dc11f1",
    "semilearn.core.algorithmbase.AlgorithmBase.get_save_dict": "91798dd042a42c19",
    "semilearn.core.algorithmbase.AlgorithmBase.save_model": "898268c1616ecff4",
    "semilearn.core.algorithmbase.AlgorithmBase.load_model": "5bd13db752a695c4",
    "semilearn.core.utils.misc.EMA.update": "b76511d7261f66eb",
    "semilearn.core.hooks.param_update.ParamUpdateHook.after_train_step": "53374e1e5ccfaf0c",
    "semilearn.core.hooks.checkpoint.CheckpointHook.after_train_step": "d62bd18122e1b6bd",
    "semilearn.core.hooks.evaluation.EvaluationHook.after_run": "8364e638ae2d03eb",
    "semilearn.core.hooks.timer.TimerHook.before_train_step": "6d846e3692fafe68",
    "semilearn.core.hooks.logging.LoggingHook.after_train_step": "9499eaad032f38e6",
    "semilearn.core.hooks.wandb.WANDBHook.after_train_step": "6116691dcf87827e",
    "semilearn.core.hooks.aim.AimHook.before_run": "97389ecd03a0166e",
    "semilearn.core.utils.build.get_data_loader": "0ec69ab983047489",
    "semilearn.datasets.samplers.sampler.DistributedSampler.__iter__": "01545bdf9853c16c",
    "semilearn.algorithms.softmatch.softmatch.SoftMatch.set_hooks": "450f4539f48c5ab5",
    "semilearn.algorithms.remixmatch.remixmatch.ReMixMatch.set_hooks": "0594fa709936efdf",
    "semilearn.algorithms.remixmatch.remixmatch.ReMixMatch.set_model": "2edba535e830f632",
    "semilearn.algorithms.freematch.freematch.FreeMatch.train_step": "425cc15ae178016d",
    "semilearn.algorithms.vat.vat.VAT.vat_loss": "c4d91ed674ec64e4",
}


def resolved(name: str) -> Any:
    """The object of a dotted name: a module, then its attributes."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value
    raise LookupError(name)


def digest(name: str) -> str:
    return hashlib.sha256(inspect.getsource(resolved(name)).encode()).hexdigest()[:16]


def test_every_place_has_a_reason_and_a_digest() -> None:
    assert REPLACED.keys() == DIGESTS.keys()
    assert all(REPLACED.values())


@pytest.mark.parametrize("name", DIGESTS)
def test_usb_has_not_changed_what_is_replaced(name: str) -> None:
    assert digest(name) == DIGESTS[name]


def test_hooks_run_in_the_order_of_the_table(build: Any) -> None:
    algorithm = build(report_figures="true", report_pseudo_label_quality="true")
    expected = [row.name for row in HOOKS if row.enabled(algorithm)]
    assert [hook.name for hook in algorithm._hooks] == expected
    assert list(algorithm.hooks_dict) == expected
    weighted = build(algorithm="ml_fixmatch", save_name="y")
    names = [hook.name for hook in weighted._hooks]
    assert [name for name in names if name in expected] == [name for name in expected if name in names]
    assert names.index("SelectionHook") < names.index("MaskingHook") < names.index("DistSamplerSeedHook")


def test_every_option_of_usb_is_one_of_ours() -> None:
    for name in algorithm_names():
        if name.startswith("ml_"):
            own = {option.name: option for option in ALGORITHMS[name].own_options()}
            for argument in ALGORITHMS[name.removeprefix("ml_")].get_argument():
                option = from_usb(argument)
                assert own[option.name].type is option.type
                assert option.type in (bool, int, float, str)
