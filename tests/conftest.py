"""Small datasets on disk, and one function that trains a run on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

# Before transformers, which imports torchaudio too.
from semilearn_bbam.util import usb as usb  # isort: split

from transformers import BertConfig, BertModel

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.config import OPTIONS, Settings, config_words, load_yaml
from semilearn_bbam.data.dataset import Problem
from semilearn_bbam.data.readers.ohsumed import CODES, TREE
from semilearn_bbam.data.readers.voc import CLASSES
from semilearn_bbam.run import build_algorithm, read_settings, run, seed_everything
from semilearn_bbam.runs.folder import RunFolder
from tests.processes import kill_all
from tests.trees import COCO_IDS, write_aapd, write_awa2, write_coco, write_corel5k, write_voc

FEATURES = "bbam_ohsumed_features.yaml"
CONFIGS = Path(__file__).parents[1] / "config"
# Values of a row or a checkpoint that no two runs share.
TIMED = {"seconds", "memory", "steps_per_second", "rows_per_second"}
METHOD_CONFIGS = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("tuned/*.yaml")])
DATA_CONFIGS = sorted(path.stem for path in CONFIGS.glob("data/*.yaml") if path.stem != "base")
# Those with configs of methods: every method is tried on them.
DATASETS = [name for name in DATA_CONFIGS if (CONFIGS / f"bbam_{name}.yaml").is_file()]
Config = str | tuple[str, str]  # a file in `CONFIGS`, or a method and a dataset
IMAGE_NET = "test_resnet"  # timm's own for tests: 160 x 160 pixels, some hundred thousand weights
WORDS = ["heart", "liver", "virus", "tumor", "bone", "eye", "skin", "blood"]


SLOW_LIMIT = 1800  # seconds for a test that is marked slow; for others see pyproject.toml


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT))


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A process that a test started ends with it, however the test ends."""
    yield
    kill_all()


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package's cache is in a folder of the test run, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def features_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors that each label shifts in one direction, under the file names of the shipped configs."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(7, 12))

    def part(size: int) -> tuple[np.ndarray, np.ndarray]:
        targets = (rng.random((size, 7)) < np.linspace(0.4, 0.08, 7)).astype(np.uint8)
        return (targets @ directions + rng.normal(size=(size, 12))).astype(np.float16), targets

    train_x, train_y = part(160)
    test_x, test_y = part(60)
    folder = tmp_path_factory.mktemp("features")
    files = (load_yaml(CONFIGS / "data" / f"{name}.yaml").get("feature_file") for name in DATA_CONFIGS)
    for name in {str(file.value) for file in files if file}:
        np.savez(folder / name, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)
    return folder


@pytest.fixture(scope="session")
def ohsumed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in Ohsumed's layout whose categories follow from the words of a document."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("ohsumed") / TREE
    for part, size in (("training", 48), ("test", 20)):
        for code in CODES:
            (root / part / code).mkdir(parents=True)
        for document in range(size):
            words = rng.choice(WORDS, size=6)
            for word in set(words[:2]):
                path = root / part / CODES[WORDS.index(word)] / f"{part[0]}{document:04d}"
                path.write_text(f"{words[0]} {words[1]}.\n {' '.join(words)}\n", encoding="latin-1")
    return root


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder, small enough to train in a test, with weights and a tokenizer of eight words."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS]))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def released_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small VOC2012, COCO2014, AWA2, AAPD and Corel5K, each in the layout that it is released in."""
    root = tmp_path_factory.mktemp("released")
    rng = np.random.default_rng(0)

    def labels(size: int, count: int) -> list[list[int]]:
        """Two of `count` labels for each item, every label at least once."""
        return [sorted({i % count, int(rng.integers(count))}) for i in range(size)]

    voc = {
        part: {f"2012_{part}{i:03d}": {CLASSES[k]: 1 for k in row} for i, row in enumerate(labels(size, 20))}
        for part, size in (("train", 40), ("val", 20))
    }
    write_voc(root, 2012, voc)
    coco = {part: [[COCO_IDS[k] for k in row] for row in labels(size, 8)] for part, size in (("train", 40), ("val", 8))}
    write_coco(root, 2014, coco)
    matrix = [[int((i >> k) & 1) for k in range(3)] for i in range(1, 7)]
    write_awa2(root, {f"animal{i}": 8 for i in range(6)}, ["animal4", "animal5"], matrix)
    words = {
        part: [(" ".join(rng.choice(WORDS, 9)), [WORDS[k] for k in row]) for row in labels(size, 8)]
        for part, size in (("train", 60), ("val", 8), ("test", 16))
    }
    write_aapd(root, words)
    rows = labels(60, 6)
    photographs = {1000 + i: [k + 1 for k in row] for i, row in enumerate(rows)}
    write_corel5k(root, dict(list(photographs.items())[:40]), dict(list(photographs.items())[40:]), words=6)
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(text, name)`: a YAML file in the folder of the test."""

    def write_file(text: str, name: str = "a.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file for `IMAGE_NET`, with its classifier."""
    path = tmp_path_factory.mktemp("weights") / "net.pth"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.save(timm.create_model(IMAGE_NET).state_dict(), path)
    return path


def naming(first: object, *more: object) -> str:
    """A pattern of one line that has each of these words, numbers and keys, whole and in any order.

    What else a message says is free: tests pin what it names, docs/broken_inputs.md pins the sentences.
    """
    ahead = ""
    for part in map(str, (first, *more)):
        before = r"(?<!\w)(?<!\d[.,])" if part[0].isdigit() else r"(?<!\w)" if part[0].isalpha() else ""
        after = r"(?!\w|[.,]\d)" if part[-1].isdigit() else r"(?!\w)" if part[-1].isalpha() else ""
        ahead += rf"(?=[^\n]*{before}{re.escape(part)}{after})"
    return rf"\A{ahead}[^\n]*\Z"


def has_line(text: str, *parts: object) -> bool:
    """Whether one line of `text` has each of `parts`, as in `naming`."""
    return any(re.search(naming(*parts), line) for line in text.splitlines())


def assert_problems(problems: Sequence[Problem], expected: Sequence[tuple[object, ...]]) -> None:
    """Bad items are these: the part, the item, the kind, and what the detail names (nothing: it is empty)."""
    assert [(p.part, p.item, p.kind) for p in problems] == [row[:3] for row in expected]
    for problem, row in zip(problems, expected, strict=True):
        assert re.search(naming(*row[3:]), problem.detail) if row[3:] else not problem.detail


def settings(**changes: Any) -> Settings:
    """Every option at its default, but for `changes`."""
    changes = {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
    return Settings(**{option.name: option.default for option in OPTIONS} | changes)


def arguments(config: Config, **overrides: Any) -> list[str]:
    """The command line of a config with overrides; a method and a dataset are set up as in grids."""
    words = ("--c", str(CONFIGS / config)) if isinstance(config, str) else config_words(CONFIGS, *config)
    return [*words, *(text for k, v in overrides.items() for text in (f"--{k}", str(v)))]


def batches(algorithm: MultiLabelAlgorithm) -> dict[str, Any]:
    """The first labelled and, where the algorithm has a pool, unlabelled batch of its loaders."""
    loaders = algorithm.loader_dict
    return {k: v for name in ("train_lb", "train_ulb") if name in loaders for k, v in next(iter(loaders[name])).items()}


@pytest.fixture
def build(features_dir: Path, tmp_path: Path) -> Callable[..., MultiLabelAlgorithm]:
    """`build(config, **overrides)`: an algorithm on the small vectors, as its first semi-supervised epoch begins.

    With `refresh=True` it is refreshed once, as by the hook; a word is the option of that name.
    """
    torch.set_num_threads(1)

    def build_one(config: Config = FEATURES, *, refresh: bool | str = False, **overrides: Any) -> MultiLabelAlgorithm:
        settings = {"data_dir": features_dir, "label_ratio": 0.2, "epoch": 3, "warmup_epochs": 1, "save_name": "x"}
        settings |= {"save_dir": tmp_path, "num_train_iter": 9, "warmup_iter_per_epoch": 2}
        option = {"refresh": refresh} if isinstance(refresh, str) else {}
        args = read_settings(arguments(config, **settings | overrides | option))
        (tmp_path / args.save_name).mkdir(exist_ok=True)
        seed_everything(args.seed)
        algorithm = build_algorithm(args, folder=RunFolder(tmp_path / args.save_name))
        algorithm.epoch = 1
        if refresh is True:
            algorithm.refresh()
        return algorithm

    return build_one


def short_run(config: Config, save_dir: Path, **overrides: Any) -> list[str]:
    """The command line of a run of three epochs, one of them warm-up, with 2, 3 and 3 steps."""
    settings = {"save_dir": save_dir, "save_name": "run", "epoch": 3, "warmup_epochs": 1}
    return arguments(config, **settings | {"warmup_iter_per_epoch": 2, "num_train_iter": 9} | overrides)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Path]]:
    """`train(config, **overrides)`: one short run; returns its results and its folder."""
    torch.set_num_threads(1)

    def train_one(config: Config, **overrides: Any) -> tuple[dict[str, Any], Path]:
        parsed = read_settings(short_run(config, tmp_path / "runs", **overrides))
        return run(parsed), Path(parsed.save_dir) / parsed.save_name

    return train_one


# Odd numbers of rows everywhere, and nothing random in a step.
SHAREABLE = {"num_labels": 31, "label_ratio": 0, "strong": "none", "eval_batch_size": 7, "epoch": 3, "num_threads": 1}
SHAREABLE |= {"warmup_epochs": 1, "warmup_iter_per_epoch": 2, "num_train_iter": 9, "device": "cpu", "num_log_iter": 1}


@pytest.fixture
def shareable(features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`shareable(config, **changes)`: the command line of a short run that is equal in one or two processes."""
    torch.set_num_threads(1)

    def make_argv(config: Config = FEATURES, **changes: Any) -> list[str]:
        data = {"data_dir": features_dir} if config == FEATURES else {}
        return arguments(config, **SHAREABLE | data | {"save_dir": tmp_path / "runs"} | changes)

    return make_argv
