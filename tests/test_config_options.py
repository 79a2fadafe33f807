"""The table of options, and what a value must be like to be taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.config import OPTIONS, ConfigError, Option, default_save_name, dump_yaml, resolve
from tests.conftest import has_line, naming
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
        ulb_batch_size=0, warmup_batch_size=16, gradient_accumulation=1, eval_batch_size=256,
        include_lb_to_ulb=False, shuffle=True,
    ),
    "optimiser": dict(
        optim="AdamW", lr=1e-3, momentum=0.9, weight_decay=1e-4, layer_decay=1.0, scheduler="onecycle",
        pct_start=0.2, num_warmup_iter=0, clip_grad=0.0, amp=False, amp_dtype="auto", compile=False, ema_m=0.999,
        ema_ramp=True, ema_restart=False, student_restart=False, ulb_loss_ratio=1.0, use_cat=True,
    ),
    "net": dict(
        net="", use_pretrain=False, pretrain_path="", pretrain_match="name", head="auto",
        projection="auto", num_classes=0, encoder="", encoder_flip=False,
    ),
    "data": dict(
        dataset="", data_dir="./data", feature_file="", manifest="", added="", unlabeled="", test="", test_ratio=0.2,
        label_file="", path_column="", text_column="", label_columns="", split_column="auto", test_split="",
        label_separator="auto", label_form="auto", first_label="auto", negative_cells="auto", merge_labels=False,
        train_part="auto", test_part="auto", voc_difficult="negative",
        awa_split="classes", bad_data="fail", empty_labels="auto", unknown_labels="pseudo",
        image_modes="convert", image_range="auto", verify_images=True, cache="none", cache_dir="",
        label_ratio=0.0, num_labels=0, split="random", cluster_random_share=0.0, cluster_rates="weighted",
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


WRONG: list[tuple[str, tuple[object, ...]]] = [
    ("epoch: 3.0", ("whole number", "3.0", "(write 3)")),
    ("epoch: 1e3", ("whole number", "1000.0", "(write 1000)")),
    ("epoch: ten", ("whole number", "text 'ten'")),
    ("epoch: '10'", ("whole number", "text '10'", "quotes")),
    ("epoch: 1_000", ("whole number", "text '1_000'", "decimal digits")),
    ("epoch: true", ("whole number", "not true")),
    ("epoch: 0", ("at least 1", "not 0")),
    ("epoch: " + "9" * 5000, ("whole number", "not inf")),
    ("lr: fast", ("number", "text 'fast'")),
    ("lr: true", ("number", "not true")),
    ("lr: 1e999", ("finite number",)),
    ("lr: .nan", ("number", "text '.nan'")),
    ("lr: [1, 2]", ("number", "list")),
    ("lr: {a: 1}", ("number", "mapping")),
    ("lr:", ("no value", "delete the line")),
    ("amp: yes", ("true or false", "text 'yes'", "(write true)")),
    ("amp: off", ("true or false", "text 'off'", "(write false)")),
    ("amp: 1", ("true or false", "not 1", "(write true)")),
    ("amp: 'true'", ("true or false", "text 'true'", "quotes")),
    ("projection: 512", ("text", 512, "quotes")),
    ("optim: adamw", ("AdamW, SGD", "text 'adamw'", "did you mean 'AdamW'?")),
    ("momentum: 1.5", ("0 and 1", 1.5)),
    ("seed: 4294967296", ("0 and 4294967295", 4294967296)),
    ("eta: 2.5", ("whole number", 2.5)),
    ("balanced: no", ("true or false", "text 'no'", "(write false)")),
    ("cluster_random_share: 1.2", ("0 and 1", 1.2)),
    ("cluster_rates: count", ("weighted, counted", "text 'count'", "did you mean 'counted'?")),
    ("split: cluster", ("random, stratified, clusters", "text 'cluster'", "did you mean 'clusters'?")),
    ("margin_on: up", ("both, positive", "text 'up'")),
    ("margin_on: [up]", ("text", "list")),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_value_in_yaml_names_line_key_and_cure(tmp_path: Path, line: str, message: tuple[object, ...]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{BASE}{line}\n", encoding="utf-8")
    (problem,) = problems("--c", str(path))
    assert problem.startswith(f"{path}:5: {line.partition(':')[0]} ")
    assert has_line(problem, *message)
    assert len(problem) < 300


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch", "3.0"], ("epoch", "whole number", "3.0")),
        (["--epoch=010"], ("epoch", "whole number", "010")),
        (["--lr", "fast"], ("lr", "number", "'fast'")),
        (["--lr", "inf"], ("lr", "number", "'inf'")),
        (["--lr", ""], ("lr", "number", "''")),
        (["--amp", "1"], ("amp", "true or false", "not 1", "(write true)")),
        (["--amp"], ("amp", "no value")),
        (["--resume", "maybe"], ("resume", "true or false", "'maybe'")),
        (["--epoch", "--amp", "true"], ("epoch", "no value")),
        (["--optim", "Adam"], ("optim", "AdamW, SGD", "'Adam'")),
        (["--pct-start", "-0.5"], ("pct_start", "0 and 1", "-0.5")),
        (["--margin_on", "up"], ("margin_on", "both, positive", "'up'")),
        (["stray"], ("'stray'", "out of place")),
        (["-lr", "3"], ("'-lr'", "out of place")),
        (["--", "3"], ("'--'", "out of place")),
    ],
)  # fmt: skip
def test_a_wrong_value_on_the_command_line_says_so(words: list[str], message: tuple[str, ...]) -> None:
    assert has_line(problems(*WORDS, *words)[0], "command line", *message)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([declare("lr", float, 0.1)], ("option lr", "another option's name")),
        ([declare("c", str, "")], ("option c", "another option's name")),
        ([declare("x", int, 1), declare("x", int, 2)], ("option x", "another option's name")),
        ([declare("x", int, 1.5)], ("default of x", "bbam", 1.5)),
        ([replace(MARGIN_ON, default="up")], ("default of margin_on", "bbam", "'up'")),
    ],
)
def test_clashing_arguments_are_a_programming_error(arguments: list[Option], reason: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*reason)):
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
