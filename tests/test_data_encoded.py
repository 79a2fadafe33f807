"""`data encode`: the vectors that it writes, their scale and order, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands.data import words_for_encoding
from semilearn_bbam.data import load_source
from semilearn_bbam.data.dataset import SOURCES, DataError, Part, Source
from semilearn_bbam.data.encoded import in_order_of, join_blocks, scaled_for_nets, tfidf_source, tfidf_vectors
from semilearn_bbam.data.table_out import write_source
from semilearn_bbam.engine.encoding import ItemEncoder
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, WORDS, naming, settings

TOPICS = {"heart": "aorta pulse valve", "bone": "femur joint marrow"}


def sentences(size: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts that use the words of their topic, and targets [size,2]."""
    rng = np.random.default_rng(seed)
    texts, targets = [], np.zeros((size, 2), np.float32)
    for row in range(size):
        k = row % 2
        targets[row, k] = 1
        texts.append(" ".join(rng.choice(f"the of {list(TOPICS.values())[k]} {WORDS[rng.integers(8)]}".split(), 6)))
    return texts, targets


@pytest.fixture
def texts() -> Source:
    (train, targets), (test, test_targets) = sentences(40, 0), sentences(10, 1)
    parts = (
        Part(train, targets, [f"a{row}" for row in range(40)]),
        Part(test, test_targets, [f"b{row}" for row in range(10)]),
    )
    return Source.of("mine", "text", *parts, tuple(TOPICS))


@pytest.fixture
def own(tmp_path: Path, bert_dir: Path) -> list[str]:
    """The words that name 24 texts of one's own, of which a fifth is the test part, and an encoder."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = [[" ".join(rng.choice(WORDS, 3)), WORDS[k % 3]] for k in range(24)]
    with open(tmp_path / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "labels"], *rows])
    return ["--data_dir", str(tmp_path), "--manifest", "list.csv", "--cache_dir", str(tmp_path / "cache")]


def lengths(x: Any) -> Any:
    return np.linalg.norm(np.asarray(x, np.float32), axis=1)


def test_tfidf_tells_topics_apart_and_reads_no_test_text() -> None:
    (train, targets), (test, _) = sentences(60, 0), sentences(20, 1)
    first, second = tfidf_vectors(train, test, 3)
    assert (first.shape, second.shape, first.dtype) == ((60, 3), (20, 3), np.float32)
    np.testing.assert_allclose(lengths(first), 1, atol=1e-5)
    centres = targets.T @ first
    assert ((second @ centres.T).argmax(1) == np.arange(20) % 2).mean() > 0.9
    np.testing.assert_array_equal(tfidf_vectors(train, ["unheard words"], 3)[0], first)
    assert not tfidf_vectors(train, ["unheard words"], 3)[1].any()


@pytest.mark.parametrize("width", [0, 40, -1])
def test_a_width_that_the_words_do_not_fill_is_named(width: int) -> None:
    with pytest.raises(DataError, match=naming("--tfidf", width)):
        tfidf_vectors(sentences(40, 0)[0], [], width)


def test_texts_without_common_words_are_an_error() -> None:
    with pytest.raises(DataError, match=naming("--tfidf", "encoder")):
        tfidf_vectors(["one", "two", "three"], ["four"], 1)


def test_entries_have_a_mean_square_of_one_whatever_the_number_of_blocks(texts: Source) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 8)).astype(np.float32)
    blocks = [rows[:, :5] / lengths(rows[:, :5])[:, None], rows[:, 5:] / lengths(rows[:, 5:])[:, None]]
    vectors = np.concatenate(blocks, axis=1)
    source = Source.of(
        "v", "features", Part(vectors[:40], texts.targets), Part(vectors[40:], texts.test_targets), tuple(TOPICS)
    )
    made = scaled_for_nets(source, 2)
    assert made.train.dtype == made.test.dtype == np.float16
    np.testing.assert_allclose(np.square(made.train.astype(np.float32)).mean(1), 1, atol=5e-3)
    np.testing.assert_allclose(lengths(made.test[:, :5]), lengths(made.test[:, 5:]), rtol=5e-3)


def test_rows_in_the_order_of_a_file_stay_themselves(texts: Source, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    train, test = rng.permutation(40), rng.permutation(10)
    ids = {"train_id": np.array(texts.train_ids)[train], "test_id": np.array(texts.test_ids)[test]}
    path = tmp_path / "order.npz"
    vectors = {"train_x": rng.normal(size=(40, 3)), "test_x": rng.normal(size=(10, 3))}
    np.savez(path, **ids, **vectors)
    made = in_order_of(texts, path)
    assert list(made.train_ids) == ids["train_id"].tolist()
    assert list(made.train) == [texts.train[row] for row in train]
    np.testing.assert_array_equal(made.targets, texts.targets[train])
    assert list(made.test) == [texts.test[row] for row in test]
    np.testing.assert_array_equal(made.test_targets, texts.test_targets[test])

    encoded = tfidf_source(texts, 2)  # in its own order: the rows of the file are found by name
    joined = join_blocks(encoded, [path, path])
    expected = vectors["train_x"] / lengths(vectors["train_x"])[:, None]
    np.testing.assert_allclose(joined.train[train, :3], expected, atol=1e-6)
    np.testing.assert_allclose(joined.train[train, 3:6], expected, atol=1e-6)
    np.testing.assert_array_equal(joined.train[:, 6:], encoded.train)
    np.testing.assert_allclose(lengths(joined.test[:, :3]), 1, atol=1e-6)

    np.savez(path, **{**ids, "train_id": ids["train_id"][:-1]}, **vectors)
    for use in (lambda: in_order_of(texts, path), lambda: join_blocks(encoded, [path])):
        with pytest.raises(DataError, match=naming(path.name, "train_id", ids["train_id"][-1])):
            use()
    for content in ({"x": ids["train_id"]}, None):
        np.savez(path, **content) if content else path.write_text("no archive")
        with pytest.raises(DataError, match=naming(path.name, "train_id")):
            in_order_of(texts, path)


def test_pool_items_keep_their_place(texts: Source, tmp_path: Path) -> None:
    part = Part(texts.train, texts.targets[:30], list(texts.train_ids))
    source = Source.of("mine", "text", part, Part(texts.test, texts.test_targets, list(texts.test_ids)), tuple(TOPICS))
    written = write_source(scaled_for_nets(tfidf_source(source, 2), 1), tmp_path, tmp_path / "pool.npz")
    back = SOURCES["features"](settings(**written))
    assert (len(back.targets), len(back.train)) == (30, 40)
    joined = join_blocks(tfidf_source(source, 2), [tmp_path / "pool.npz"])
    np.testing.assert_allclose(joined.train[:, :2], joined.train[:, 2:], atol=2e-3)
    with np.load(tmp_path / "pool.npz") as file:
        arrays = dict(file)
    arrays["train_id"] = arrays["train_id"][::-1]
    np.savez(tmp_path / "pool.npz", **arrays)
    with pytest.raises(DataError, match=naming("pool.npz")):
        in_order_of(source, tmp_path / "pool.npz")


def test_the_command_writes_what_a_run_with_the_encoder_trains_on(
    own: list[str], bert_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, out = ["--encoder", f"hf:{bert_dir}"], tmp_path / "out" / "own.npz"
    assert main(["data", "encode", *own, *encoder, "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    args = read_settings(["--algorithm", "bbam", *own, *encoder])
    expected = ItemEncoder.of(args, "text", device=torch.device("cpu"), log=lambda line: None).encode_source(
        load_source(args)
    )
    with np.load(out) as file:
        np.testing.assert_allclose(file["train_x"], np.asarray(expected.train) * 4, atol=2e-3)  # width 16
        np.testing.assert_array_equal(file["train_y"], expected.targets)
        assert file["train_x"].dtype == np.float16
        assert file["label_names"].tolist() == list(expected.label_names)
    words = ["--algorithm", "bbam", "--dataset", "features", "--data_dir", str(out.parent), "--feature_file", out.name]
    assert load_source(read_settings([*words, "--net", "plain"])).train.shape == (len(expected.train), 16)

    both = tmp_path / "both.npz"
    assert main(["data", "encode", *own, "--tfidf", "3", "--join", str(out), "--out", str(both)]) == 0
    with np.load(both) as file:
        assert file["train_x"].shape[1] == 19
        np.testing.assert_allclose(lengths(file["test_x"][:, :16]), lengths(file["test_x"][:, 16:]), rtol=5e-3)


def test_settings_of_training_are_in_no_ones_way(ohsumed_dir: Path, bert_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npz"
    words = ["--c", str(CONFIGS / "data" / "ohsumed.yaml"), "--data_dir", str(ohsumed_dir), "--out", str(out)]
    assert main(["data", "encode", *words, "--encoder", f"hf:{bert_dir}", "--cache_dir", str(tmp_path)]) == 0
    with np.load(out) as file:
        assert file["train_x"].shape[1] == 16
    for name in ("corel5k", "miml"):
        file_words = ["--c", str(CONFIGS / "data" / f"{name}.yaml"), "--encoder", "timm:resnet18"]
        args = read_settings(words_for_encoding(file_words, tfidf=False))
        assert (args.net, args.cache, args.encoder) == ("plain", "none", "timm:resnet18")
    typed = read_settings(words_for_encoding([*words[:2], "--net", "hf:x", "--algorithm", "cap"], tfidf=True))
    assert (typed.net, typed.algorithm) == ("hf:x", "cap")


@pytest.mark.parametrize("more", [["--encoder", "timm:resnet18", "--tfidf", "2"], []])
def test_one_of_encoder_and_tfidf(more: list[str], own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "encode", *own, *more, "--out", "x.npz"]) == 2
    assert "--tfidf" in capsys.readouterr().err


def test_what_cannot_be_encoded_is_named(
    own: list[str], features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "encode", *own, "--tfidf", "2", "--out", str(tmp_path / "x.csv")]) == 2
    assert ".npz" in capsys.readouterr().err
    words = ["--dataset", "features", "--data_dir", str(features_dir), "--feature_file", "ohsumed_minilm.npz"]
    assert main(["data", "encode", *words, "--net", "plain", "--tfidf", "2", "--out", str(tmp_path / "x.npz")]) == 2
    assert "data convert" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()
    with pytest.raises(UserError, match=naming("--tfidf", "image")):
        tfidf_source(Source.of("p", "image", Part([], np.zeros((0, 1))), Part([], np.zeros((0, 1))), ("a",)), 2)
