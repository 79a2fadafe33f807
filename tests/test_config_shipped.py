"""The shipped configs: where a method's is looked for, that each says something, and that none says it twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.config import ConfigError, config_words, load_yaml
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, DATA_CONFIGS, DATASETS, METHOD_CONFIGS, arguments
from tests.methods import ALGORITHMS, ON_IMAGES

OF_THE_PAPER = [f"{method}_{data}" for method in ("bbam", "bbam_plus") for data in DATASETS]
PAIRS = {f"{method}_{data}": (method, data) for method in ALGORITHMS for data in DATA_CONFIGS}


def resolved(*words: str) -> dict[str, Any]:
    return {key: value for key, value in vars(read_settings(words)).items() if key != "c"}


def plain(method: str, data: str) -> dict[str, Any]:
    """What the config of a dataset gives a method."""
    return resolved("--c", str(CONFIGS / "data" / f"{data}.yaml"), "--algorithm", method)


def repeats(path: Path, method: str, data: str) -> bool:
    """Whether a config gives the settings that the method has on this dataset without it."""
    return resolved("--c", str(path)) == plain(method, data)


def test_the_files_are_those_that_the_documents_name() -> None:
    names = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in METHOD_CONFIGS}
    bam = {name for name in names if name.startswith("bam_")}  # which has the settings of bbam
    assert {name for name in names if "/" not in name} == {*OF_THE_PAPER, *bam, "bbam_voc_released"}
    assert {name.removeprefix("tuned/") for name in names} - {"bbam_voc_released"} <= PAIRS.keys() | {*OF_THE_PAPER}
    assert len(DATASETS) == 9


@pytest.mark.parametrize("path", METHOD_CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_something_beyond_the_plain_run(path: Path) -> None:
    method, data = PAIRS.get(path.stem, ("bbam", "voc"))
    assert load_yaml(path)["algorithm"].value == method
    settings = load_yaml(path)
    if path.stem in OF_THE_PAPER and path.parent == CONFIGS:  # these are there for every dataset, whatever they say
        assert {key: settings[key].value for key in ("algorithm", "dataset")} == {
            "algorithm": method,
            "dataset": load_yaml(CONFIGS / "data" / f"{data}.yaml")["dataset"].value,
        }
    else:
        assert not repeats(path, method, data)


def test_a_config_that_says_nothing_is_found(tmp_path: Path) -> None:
    path = tmp_path / "cap_voc.yaml"
    path.write_text(f"inherits: {CONFIGS / 'data' / 'voc.yaml'}\nalgorithm: cap\nmixup: 0\n")
    assert repeats(path, "cap", "voc")
    path.write_text(f"inherits: {CONFIGS / 'data' / 'voc.yaml'}\nalgorithm: cap\nmixup: 2\n")
    assert not repeats(path, "cap", "voc")


@pytest.mark.parametrize("data", DATA_CONFIGS)
def test_every_method_has_settings_for_every_dataset(data: str) -> None:
    dataset = load_yaml(CONFIGS / "data" / f"{data}.yaml")["dataset"].value
    usual = read_settings(arguments(("cap", data)))
    from_random_weights = not (usual.use_pretrain or usual.net == "plain")
    for method in ALGORITHMS:
        settings = read_settings(arguments((method, data), **ON_IMAGES.get(method, {}) if from_random_weights else {}))
        assert settings.algorithm == method
        assert settings.dataset == dataset


def test_the_file_of_a_method_goes_before_that_of_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="own"):
        config_words(tmp_path, "cap", "own")
    for name, algorithm in (("data/own", ("--algorithm", "cap")), ("cap_own", ()), ("tuned/cap_own", ())):
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert config_words(tmp_path, "cap", "own") == ("--c", str(path), *algorithm)
    assert config_words(tmp_path, "cap", "own", tuned=False) == ("--c", str(tmp_path / "cap_own.yaml"))
