"""The check of keys and names that imports nothing heavy: it reports nothing that is sound, and misses no typo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.config import OPTIONS, ConfigError, quick
from semilearn_bbam.config.quick import check_quickly, source_names
from semilearn_bbam.config.usb_names import REFUSED, USB_ONLY, refused_names
from semilearn_bbam.run import algorithm_names, read_settings
from tests.conftest import CONFIGS

SOUND = ["--algorithm", "bbam", "--dataset", "digits", "--net", "small_cnn", "--label_ratio", "0.1"]


def test_the_names_read_off_the_sources_are_all_that_there_are() -> None:
    names = source_names()
    assert names is not None
    assert names.methods == set(algorithm_names())
    assert names.usb_methods | names.methods == set(ALGORITHMS.keys())
    for method in algorithm_names():
        assert {option.name for option in ALGORITHMS[method].own_options()} <= names.options, method


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_pass(path: Path) -> None:
    check_quickly(["--c", str(path)])


def problems(argv: list[str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_quickly(argv)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--etaa", "3"], ["etaa", "'eta'"]),
        (["--batchsize", "3"], ["batchsize", "'batch_size'"]),
        (["--gpu", "0"], ["gpu", USB_ONLY["gpu"]]),
        (["--algorithm", "bamm"], ["bamm", "'bam'"]),
        (["--algorithm", "fixmatch"], ["ml_fixmatch"]),
        (["--algorithm", "ml_simmatch"], [REFUSED["simmatch"]]),
        (["--algorithm", ""], ["algorithm"]),
    ],
)
def test_a_wrong_key_or_method_is_named_as_the_full_resolution_names_it(more: list[str], words: list[str]) -> None:
    (line,) = problems([*SOUND, *more])
    assert all(word in line for word in words)
    with pytest.raises(ConfigError) as caught:
        read_settings([*SOUND, *more])
    assert line in str(caught.value).splitlines()


def test_all_that_can_be_seen_is_named_at_once(write: Callable[..., Path]) -> None:
    file = write("algorithm: bbam\ndataset: digits\nnet: small_cnn\nepoch: many\nlr: 1\nlr: 2\nlabel_ratio: 0.1\n")
    lines = problems(["--c", str(file), "--etaa", "3", "--device", "gpu", "--warmup_epochs", "90", "word"])
    named = ("etaa", ":4: epoch", "'lr' is set twice", "device", "'word'")
    assert all(any(word in line for line in lines) for word in named)
    assert len(lines) == len(named)


@pytest.mark.parametrize(
    "argv",
    [
        SOUND,
        [*SOUND, "--lr", "fast"],  # for the full resolution, which names the method's problems with it
        [*SOUND, "--theta", "0.5"],  # another method's key
        [*SOUND, "--help"],
        [*SOUND, "--net", "resnet5"],
    ],
)
def test_what_needs_the_methods_is_left_to_the_full_resolution(argv: list[str]) -> None:
    check_quickly(argv)


def test_help_without_a_method_lists_what_all_share(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        check_quickly(["--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{option.name} " in shown for option in OPTIONS)
    assert "semilearn-bbam train" in shown


def test_without_usb_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    source_names.cache_clear()
    monkeypatch.setattr(quick, "find_spec", lambda name: None)
    try:
        check_quickly([*SOUND, "--etaa", "3"])
    finally:
        source_names.cache_clear()


def test_both_spellings_of_an_option_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "@ALGORITHMS.register('new')\nclass A:\n    options = (Option('one', int), config.Option(name='two'))\n"
        "    def get_argument(): return [SSL_Argument('--three', str)]\nother('four')\nOption(five)\n"
        "ALGORITHMS['older'] = A\nprint(ALGORITHMS['missing'])\n"
    )
    assert quick._declared([file]) == ({"one", "two", "three"}, {"new", "older"})


def test_refused_names_follow_what_is_offered() -> None:
    refused = refused_names(["fixmatch", "simmatch", "other", "ml_fixmatch"], ["ml_fixmatch"])
    assert set(refused) == {"fixmatch", "simmatch", "ml_simmatch"}
