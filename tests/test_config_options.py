"""The table of options, and what a value must be like to be taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.config import OPTIONS, ConfigError, Option, default_save_name, dump_yaml, resolve
from tests.option_types import BASE, MARGIN_ON, WORDS, declare


def problems(*argv: str) -> list[str]:
    own = [
        declare("eta", int, 5),
        MARGIN_ON,
        declare("balanced", bool, True),
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(argv, lambda name: own, ["bbam"])
    return str(caught.value).split("\n")


EXPECTED: dict[str, dict[str, Any]] = {
    "run": dict(
        save_dir="./saved_models", save_name="", resume=False, overwrite=False, seed=0, device="auto",
        use_tensorboard=False, use_wandb=False, use_aim=False, num_log_iter=50, num_eval_iter=0,
        num_save_iter=0, on_nonfinite="stop", max_nonfinite=10, num_threads=0,
    ),
    "schedule": dict(
        epoch=30, warmup_epochs=12, num_train_iter=0, warmup_iter_per_epoch=0, batch_size=4, uratio=1,
        ulb_batch_size=0, warmup_batch_size=16, eval_batch_size=256, include_lb_to_ulb=False, shuffle=True,
    ),
    "optimiser": dict(
        optim="AdamW", lr=1e-3, momentum=0.9, weight_decay=1e-4, layer_decay=1.0, scheduler="onecycle",
        pct_start=0.2, num_warmup_iter=0, clip_grad=0.0, amp=False, amp_dtype="auto", ema_m=0.999,
        ema_ramp=True, ema_restart=False, student_restart=False, ulb_loss_ratio=1.0, use_cat=True,
    ),
    "net": dict(
        net="", use_pretrain=False, pretrain_path="", pretrain_match="name", head="auto",
        projection="auto", num_classes=0,
    ),
    "data": dict(
        dataset="", data_dir="./data", feature_file="", manifest="", unlabeled="", test="", test_ratio=0.2,
        label_file="", label_separator="auto", train_part="auto", test_part="auto", voc_difficult="negative",
        awa_split="classes", bad_data="fail", empty_labels="auto", image_modes="strict", verify_images=True,
        cache="none", cache_dir="",
        label_ratio=0.0, num_labels=0, split="random",
        split_file="", select_on="last", val_ratio=0.0, num_workers=0, img_size=224, max_length=256,
        min_positives=0, min_test_positives=1, report_pseudo_label_quality=False,
        report_figures=False,
    ),
    "views": dict(
        flip=True, normalize="none", strong="auto", randaugment_n=2, randaugment_m=9, cutout=0.5,
        feature_dropout=0.2, feature_noise=0.0, word_dropout=0.0, word_swap=0.0,
    ),
}  # fmt: skip


def test_the_table_holds_each_option_once_with_type_and_default() -> None:
    expected = [(group, name, value, type(value)) for group, rows in EXPECTED.items() for name, value in rows.items()]
    assert [(o.group, o.name, o.default, o.type) for o in OPTIONS] == expected
    for option in OPTIONS:
        assert option.parse(option.default) == option.default, option.name
        assert option.help
        assert "\n" not in option.help
        assert len(option.help) <= 100


def test_a_float_takes_a_whole_number_and_becomes_a_float() -> None:
    value = Option("lr", float, 0.1, "h").parse(3)
    assert value == 3.0
    assert type(value) is float


WRONG: list[tuple[str, str, str]] = [
    ("epoch: 3.0", "epoch must be a whole number, not 3.0", "(write 3)"),
    ("epoch: 1e3", "epoch must be a whole number, not 1000.0", "(write 1000)"),
    ("epoch: ten", "epoch must be a whole number, not the text 'ten'", ""),
    ("epoch: '10'", "epoch must be a whole number, not the text '10'", "(remove the quotes)"),
    ("epoch: 1_000", "epoch must be a whole number, not the text '1_000'", "decimal digits"),
    ("epoch: true", "epoch must be a whole number, not true", ""),
    ("epoch: 0", "epoch must be at least 1, not 0", ""),
    ("epoch: " + "9" * 5000, "epoch must be a whole number, not ", ""),
    ("lr: fast", "lr must be a number, not the text 'fast'", ""),
    ("lr: true", "lr must be a number, not true", ""),
    ("lr: 1e999", "lr must be a finite number", ""),
    ("lr: .nan", "lr must be a number, not the text '.nan'", ""),
    ("lr: [1, 2]", "lr must be a number, not a list", ""),
    ("lr: {a: 1}", "lr must be a number, not a mapping", ""),
    ("lr:", "lr has no value", "delete the line"),
    ("amp: yes", "amp must be true or false, not the text 'yes'", "(write true)"),
    ("amp: off", "amp must be true or false, not the text 'off'", "(write false)"),
    ("amp: 1", "amp must be true or false, not 1", "(write true)"),
    ("amp: 'true'", "amp must be true or false, not the text 'true'", "(remove the quotes)"),
    ("projection: 512", "projection must be text, not 512", "(put it in quotes)"),
    ("optim: adamw", "optim must be one of AdamW, SGD, not the text 'adamw'", "did you mean 'AdamW'?"),
    ("momentum: 1.5", "momentum must be between 0 and 1, not 1.5", ""),
    ("seed: 4294967296", "seed must be between 0 and 4294967295, not 4294967296", ""),
    ("eta: 2.5", "eta must be a whole number, not 2.5", ""),
    ("balanced: no", "balanced must be true or false, not the text 'no'", "(write false)"),
    ("margin_on: up", "margin_on must be one of both, positive, not the text 'up'", ""),
    ("margin_on: [up]", "margin_on must be text, not a list", ""),
]


@pytest.mark.parametrize(("line", "sentence", "hint"), WRONG)
def test_a_wrong_value_in_yaml_names_line_key_and_cure(tmp_path: Path, line: str, sentence: str, hint: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{BASE}{line}\n", encoding="utf-8")
    (problem,) = problems("--c", str(path))
    assert problem.startswith(f"{path}:5: {sentence}")
    assert hint in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epoch", "3.0"], "epoch must be a whole number, not 3.0"),
        (["--epoch=010"], "epoch must be a whole number"),
        (["--lr", "fast"], "lr must be a number"),
        (["--lr", "inf"], "lr must be a number"),
        (["--lr", ""], "lr must be a number"),
        (["--amp", "1"], "amp must be true or false, not 1 (write true)"),
        (["--amp"], "amp has no value"),
        (["--resume", "maybe"], "resume must be true or false"),
        (["--epoch", "--amp", "true"], "epoch has no value"),
        (["--optim", "Adam"], "optim must be one of AdamW, SGD"),
        (["--pct-start", "-0.5"], "pct_start must be between"),
        (["--margin_on", "up"], "margin_on must be one of both, positive"),
        (["stray"], "'stray' is out of place"),
        (["-lr", "3"], "'-lr' is out of place"),
        (["--", "3"], "'--' is out of place"),
    ],
)  # fmt: skip
def test_a_wrong_value_on_the_command_line_says_so(words: list[str], sentence: str) -> None:
    assert problems(*WORDS, *words)[0].startswith(f"command line: {sentence}")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([declare("lr", float, 0.1)], "another option's name"),
        ([declare("c", str, "")], "another option's name"),
        ([declare("x", int, 1), declare("x", int, 2)], "another option's name"),
        ([declare("x", int, 1.5)], "default of x"),
        ([replace(MARGIN_ON, default="up")], "default of margin_on"),
    ],
)
def test_clashing_arguments_are_a_programming_error(arguments: list[Option], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resolve(WORDS, lambda name: arguments, ["bbam"])


def test_a_default_of_none_stays_none_unless_the_kind_of_the_data_decides(tmp_path: Path) -> None:
    own = [declare("flag", bool, True), declare("limit", int, None), declare("p", float, None)]
    args = resolve([*WORDS, "--p", "2"], lambda name: own, ["bbam"])
    assert (args.flag, args.limit, args.p) == (True, None, 2.0)
    dump_yaml(args, tmp_path / "out.yaml")
    again = resolve(["--c", str(tmp_path / "out.yaml"), "--flag=false"], lambda name: own, ["bbam"])
    assert (again.flag, again.limit, again.p) == (False, None, 2.0)
    by_kind = resolve(WORDS, lambda name: own, ["bbam"], kind_defaults=lambda values: {"limit": 3})
    assert (by_kind.limit, by_kind.p) == (3, None)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "bbam_voc_10pct_s3"),
        ({"label_ratio": 0.005}, "bbam_voc_0.5pct_s3"),
        ({"label_ratio": 0.07}, "bbam_voc_7pct_s3"),
        ({"num_labels": 40}, "bbam_voc_40lb_s3"),
        ({"split_file": "runs/a/split.json"}, "bbam_voc_split_s3"),
        ({"dataset": "../my set"}, "bbam_..-my-set_10pct_s3"),
        ({"dataset": "features", "feature_file": "x/digits.npz"}, "bbam_digits_10pct_s3"),
    ],
)
def test_default_save_name(changes: dict[str, Any], name: str) -> None:
    values = {
        "algorithm": "bbam",
        "dataset": "voc",
        "feature_file": "",
        "label_ratio": 0.1,
        "num_labels": 0,
        "split_file": "",
        "seed": 3,
    }
    assert default_save_name({**values, **changes}) == name
