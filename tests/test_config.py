"""Resolution of the settings: command line over YAML over defaults, and every problem at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semilearn_bbam.config import OPTIONS, ConfigError, dump_yaml, resolve
from tests.conftest import has_line
from tests.option_types import BASE, MARGIN_ON, WORDS, declare

Write = Callable[..., Path]
ARGUMENTS = {
    "bbam": [
        declare("eta", int, 5),
        declare("scale", float, 16),
        MARGIN_ON,
        declare("balanced", bool, True),
    ],
    "cap": [declare("scale", float, 8.0), declare("positive_share", float, 1.0)],
    "supervised": [],
}


def run(*argv: Any, usb_only: dict[str, str] | None = None) -> argparse.Namespace:
    return resolve([str(word) for word in argv], ARGUMENTS.__getitem__, list(ARGUMENTS), usb_only or {})


def problems(*argv: Any, usb_only: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        run(*argv, usb_only=usb_only)
    return str(caught.value).split("\n")


def test_defaults_fill_everything_that_is_not_given() -> None:
    args = run(*WORDS)
    for option in OPTIONS:
        if option.name not in ("dataset", "net", "label_ratio", "save_name"):
            assert getattr(args, option.name) == option.default, option.name
    assert (args.algorithm, args.dataset, args.net, args.label_ratio) == ("bbam", "digits", "mlp", 0.02)
    assert (args.eta, args.scale, args.margin_on, args.balanced) == (5, 16.0, "both", True)
    assert type(args.scale) is float
    assert args.c == ""
    assert args.unused_keys == []
    assert args.save_name == "bbam_digits_2pct_s0"
    assert args.algorithm_keys == ["eta", "scale", "margin_on", "balanced"]


def test_command_line_over_yaml_over_defaults(write: Write) -> None:
    path = write(
        BASE + "lr: 5e-5\nepoch: 7\nwarmup_epochs: 2\neta: 9\nmargin_on: positive\nbalanced: false\nweight_decay: 0\n"
    )
    args = run("--c", path, "--epoch", "8", "--eta=3")
    assert (args.lr, args.epoch, args.eta, args.batch_size) == (5e-5, 8, 3, 4)
    assert (args.margin_on, args.balanced, args.weight_decay) == ("positive", False, 0.0)
    assert type(args.weight_decay) is float
    assert args.c == str(path)


def test_spellings_of_the_command_line() -> None:
    words = "--batch-size 6 --ema-restart=true --amp True --flip false --overwrite --save_name 5 --lr=1e-2"
    more = "--margin-on=positive --balanced false --data_dir -x --seed 1 --seed 2 --resume"
    args = run(*WORDS, *words.split(), "--projection", "512 gelu 256", *more.split())
    assert (args.batch_size, args.ema_restart, args.amp, args.flip) == (6, True, True, False)
    assert (args.overwrite, args.resume, args.save_name, args.lr) == (True, True, "5", 0.01)
    assert (args.margin_on, args.balanced, args.data_dir, args.seed) == ("positive", False, "-x", 2)
    assert args.projection == "512 gelu 256"


def test_all_problems_come_at_once_each_with_its_place(write: Write) -> None:
    write("epochs: 3\namp: yes\n", "base.yaml")
    path = write("inherits: base.yaml\nalgorithm: bbam\nlr: fast\nlr: 1\nseed: 010\ndataset: digits\n")
    found = problems("--c", path, "--batch_size", "x", "--uratoi", "2")
    base = path.with_name("base.yaml")
    expected: list[tuple[str, ...]] = [
        (f"{path}:4", "'lr' is set twice"),
        (f"{path}:5", "010", "zero"),
        (f"{base}:2", "amp", "true or false"),
        (f"{path}:3", "lr", "number"),
        ("command line", "batch_size", "whole number"),
        (f"{base}:1", "'epochs'", "did you mean 'epoch'?"),
        ("command line", "'uratoi'", "did you mean 'uratio'?"),
    ]
    assert len(found) == len(expected)
    for words in expected:
        assert [has_line(problem, *words) for problem in found].count(True) == 1, words


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("lrr", "did you mean 'lr'?"),
        ("Batch-Size", "did you mean 'batch_size'?"),
        ("LR", "did you mean 'lr'?"),
        ("etta", "did you mean 'eta'?"),
        ("zzzzzz", "--help lists all keys"),
        ("epoc", "did you mean 'epoch'?"),
        ("unused_keys", "--help lists all keys"),
    ],
)
def test_an_unknown_key_names_the_nearest(write: Write, key: str, advice: str) -> None:
    path = write(BASE + f"{key}: 1\n")
    (problem,) = problems("--c", path)
    assert has_line(problem, f"{path}:5", f"unknown key {key!r}", advice)
    (problem,) = problems(*WORDS, f"--{key}", "1")
    assert has_line(problem, "command line", "unknown key", advice)


def test_abbreviations_are_not_taken() -> None:
    assert has_line(problems(*WORDS, "--weight_dec", "1")[0], "'weight_dec'", "did you mean 'weight_decay'?")


def test_keys_that_only_usb_knows_give_the_reason(write: Write) -> None:
    path = write(BASE + "gpu: 0\n")
    reasons = {"gpu": "use device.", "world_size": "one process only."}
    in_file, on_the_command_line = problems("--c", path, "--world-size", "1", usb_only=reasons)
    assert has_line(in_file, f"{path}:5", "'gpu'", "use device.")
    assert has_line(on_the_command_line, "command line", "'world_size'", "one process only.")


def test_unknown_algorithm_names_the_nearest_and_does_not_blame_its_keys(write: Write) -> None:
    path = write("algorithm: bbma\neta: 5\nlrr: 1\ndataset: d\nnet: n\nnum_labels: 4\n")
    named, unknown = problems("--c", path)
    assert has_line(named, f"{path}:1", "algorithm", "bbam, cap, supervised", "did you mean 'bbam'?")
    assert has_line(unknown, f"{path}:3", "unknown key 'lrr'")
    assert problems(*WORDS[2:], "--algorithm", "CAP")[0].endswith("did you mean 'cap'?")


def test_refused_algorithm_gets_its_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(["--algorithm", "old"], ARGUMENTS.__getitem__, list(ARGUMENTS), refused={"old": "it is gone; use cap"})
    assert has_line(str(caught.value).splitlines()[0], "command line", "algorithm", "old", "it is gone; use cap")


def test_another_algorithm_on_the_command_line_drops_the_keys_of_the_first(write: Write) -> None:
    path = write(BASE + "eta: wrong but unused\nscale: 4\nbalanced: true\n")
    args = run("--c", path, "--algorithm", "cap")
    assert args.unused_keys == ["eta", "balanced"]
    assert not hasattr(args, "eta")
    assert (args.algorithm, args.scale, args.positive_share) == ("cap", 4.0, 1.0)
    assert args.save_name == "cap_digits_2pct_s0"
    assert args.algorithm_keys == ["scale", "positive_share"]
    (problem,) = problems("--c", path, "--algorithm", "cap", "--eta", "3")
    assert has_line(problem, "command line", "'eta'", "bbam", "not to cap", "delete")
    changed = write(BASE.replace("bbam", "cap") + "eta: 5\n", "changed.yaml")
    (problem,) = problems("--c", changed)
    assert has_line(problem, f"{changed}:5", "'eta'", "bbam", "not to cap", "delete")


def test_missing_settings_are_listed_together(write: Write) -> None:
    path = write("dataset: ''\n")
    found = problems("--c", path)
    assert [problem.split(" is missing")[0] for problem in found[:3]] == [
        f"{path}: algorithm", f"{path}:1: dataset", f"{path}: net",
    ]  # fmt: skip
    (problem,) = found[3:]
    assert has_line(problem, path, "neither label_ratio nor num_labels")
    assert has_line(problems()[0], "command line", "algorithm is missing")


def test_an_unreadable_file_is_the_only_problem_reported_about_it(write: Write, tmp_path: Path) -> None:
    (problem,) = problems("--c", tmp_path / "gone.yaml", "--select_on", "validation", "--eta", "3")
    assert "there is no file" in problem
    first, *others = problems("--c")
    assert has_line(first, "command line", "c has no value", "--c VALUE")
    assert others == problems()
    syntax, unknown = problems("--c", write("net: [\n"), "--lrr", "1")
    assert "not valid YAML" in syntax
    assert "'lrr'" in unknown


def test_exactly_one_of_label_ratio_and_num_labels(write: Write) -> None:
    path = write(BASE)
    (problem,) = problems("--c", path, "--num_labels", "10")
    assert has_line(problem, f"{path}:4 and command line", "label_ratio and num_labels", "both", 0)
    args = run("--c", path, "--num_labels", "10", "--label_ratio", "0")
    assert (args.num_labels, args.label_ratio, args.save_name) == (10, 0.0, "bbam_digits_10lb_s0")
    assert "neither" in problems(*WORDS[:6])[0]
    assert run(*WORDS[:6], "--split_file", "x/split.json").save_name == "bbam_digits_split_s0"
    assert len(problems(*WORDS[:6], "--label_ratio", "2")) == 1


def test_validation_needs_a_share() -> None:
    (problem,) = problems(*WORDS, "--select_on", "validation")
    assert has_line(problem, "command line", "select_on is validation", "set val_ratio")
    assert run(*WORDS, "--select_on", "validation", "--val_ratio", "0.2").val_ratio == 0.2


@pytest.mark.parametrize("with_file", [False, True])
def test_help_lists_all_options_in_groups(write: Write, capsys: pytest.CaptureFixture[str], with_file: bool) -> None:
    words = ["--c", str(write(BASE))] if with_file else ["--algorithm", "bbam"]
    with pytest.raises(SystemExit) as caught:
        run(*words, "--lrr", "wrong", "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for group in ("run", "schedule", "optimiser", "net", "data", "views", "algorithm", "algorithm bbam"):
        assert f"\n{group}:\n" in text
    for name in (*(option.name for option in OPTIONS), "c", "algorithm", "eta", "margin_on"):
        assert f"\n  --{name} " in text, name
    assert "(100 %)" in text
    assert "AdamW, SGD" in text
    assert "default 0.001" in text


def test_help_without_an_algorithm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run("-h", "--c", tmp_path / "gone.yaml")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "--lr " in text
    assert "--eta" not in text
    assert "bbam, cap" in text


def test_a_dumped_run_reads_back_to_the_same_settings(write: Write, tmp_path: Path) -> None:
    path = write(BASE + "lr: 1e-20\nsave_name: '010'\nprojection: 512 gelu 256\ndata_dir: 'a: b # c'\neta: 2\n")
    args = run("--c", path, "--amp", "true", "--margin_on", "positive")
    out = tmp_path / "out.yaml"
    dump_yaml(args.having(rank=object()), out)  # what is derived from settings may be kept with them
    again = run("--c", out)
    assert {**vars(again), "c": str(path)} == vars(args)
    keys = [line.split(":")[0] for line in out.read_text().splitlines() if line and not line.startswith("#")]
    expected = ["algorithm", "eta", "scale", "margin_on", "balanced"]
    assert keys == expected + [option.name for option in OPTIONS if option.name not in ("overwrite", "resume")]


def test_dump_problems(tmp_path: Path) -> None:
    args = run(*WORDS)
    with pytest.raises(FileNotFoundError):  # the caller knows what the file is called in the end
        dump_yaml(args, tmp_path / "no" / "folder.yaml")
    with pytest.raises(ConfigError, match="cannot be written"):
        dump_yaml(args.having(device=object()), tmp_path / "out.yaml")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lr=st.floats(0, 1e300),
    seed=st.integers(0, 2**32 - 1),
    amp=st.booleans(),
    text=st.text(),
    eta=st.integers(-(10**12), 10**12),
    scale=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_run_survives_dump_and_load(
    tmp_path: Path, lr: float, seed: int, amp: bool, text: str, eta: int, scale: float
) -> None:
    given_words = [f"--lr={lr!r}", f"--seed={seed}", f"--amp={amp}", f"--data_dir={text}", f"--eta={eta}"]
    args = run(*WORDS, *given_words, f"--scale={scale!r}")
    assert (args.lr, args.seed, args.amp, args.data_dir, args.eta) == (lr, seed, amp, text, eta)
    assert args.scale == scale
    dump_yaml(args, tmp_path / "run.yaml")
    assert {**vars(run("--c", tmp_path / "run.yaml")), "c": ""} == vars(args)
