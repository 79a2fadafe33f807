"""Runs on the vectors of frozen encoders: what is encoded, what is kept, and how a run folder is used later."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from semilearn_bbam import engine
from semilearn_bbam.__main__ import main
from semilearn_bbam.data import load_source
from semilearn_bbam.data.images import ImageFiles, ImageItems
from semilearn_bbam.data.views import FeatureView
from semilearn_bbam.engine import encoding
from semilearn_bbam.engine.encoding import ItemEncoder
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.nets.encoders import Encoder
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.util.distributed import World
from tests.conftest import IMAGE_NET as NET
from tests.conftest import WORDS, naming, settings

CPU = torch.device("cpu")
COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
SCHEDULE = ("--epoch", "2", "--warmup_epochs", "1", "--warmup_iter_per_epoch", "2", "--label_ratio", "0.5")


@pytest.fixture
def own(tmp_path: Path, weights: Path, bert_dir: Path) -> Callable[[str], Path]:
    """`own(kind)`: five lines of YAML about 24 images or texts in a folder of one's own."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    def write(kind: str) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        rows = [["path", "labels"]] if kind == "image" else [["text", "labels"]]
        for i in range(24):
            names = [name for k, name in enumerate(COLOURS) if (i + 1) % 7 >> k & 1] or ["red"]
            item = f"{i}.png"
            if kind == "image":
                pixels = rng.integers(0, 40, (20, 30, 3))
                for k, name in enumerate(names):
                    pixels[:, 10 * k : 10 * k + 10] = COLOURS[name]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / item)
            else:
                item = " ".join([*names, *rng.choice(WORDS, 3 + i % 5)])
            rows.append([item, ";".join(names)])
        with open(folder / "list.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
        encoder = f"timm:{NET}@{weights}" if kind == "image" else f"hf:{bert_dir}"
        lines = ["algorithm: bbam", "dataset: manifest", f"data_dir: {folder}", "manifest: list.csv"]
        path = folder / "own.yaml"
        path.write_text("\n".join([*lines, f"encoder: {encoder}"]) + "\n")
        return path

    return write


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of items in each batch that an encoder read."""
    sizes: list[int] = []
    before = Encoder.__call__

    def counting(self: Encoder, batch: Any) -> Any:
        vectors = before(self, batch)
        sizes.append(len(vectors))
        return vectors

    monkeypatch.setattr(Encoder, "__call__", counting)
    return sizes


def read_csv(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def argv(config: Path, *more: str, name: str = "run") -> list[str]:
    folder = config.parent
    places = ["--save_dir", str(folder / "runs"), "--save_name", name, "--cache_dir", str(folder / "cache")]
    return ["--c", str(config), *SCHEDULE, *places, *more]


def item_encoder(text: str, kind: str = "image", **changes: Any) -> ItemEncoder:
    return ItemEncoder.of(settings(encoder=text, **changes), kind, device=CPU, log=lambda line: None)


@pytest.mark.parametrize(("kind", "method"), [("image", "bbam"), ("text", "bbam"), ("image", "kernel_graph")])
def test_a_run_on_own_items_and_its_predictions(
    kind: str, method: str, own: Any, encoded: list[int], tmp_path: Path
) -> None:
    config = own(kind)
    config.write_text(config.read_text().replace("algorithm: bbam", f"algorithm: {method}"))
    assert main(["data", "check", *argv(config)]) == 0
    results = run(read_settings(argv(config)))
    assert sum(encoded) == 24
    folder = config.parent / "runs" / "run"
    labels = json.loads((folder / "labels.json").read_text())
    assert (labels["kind"], labels["encoding"]["kind"]) == ("features", kind)
    assert labels["in_features"] == labels["encoding"]["encoders"][0]["width"]

    encoded.clear()
    assert run(read_settings(argv(config, name="again")))["test"] == results["test"]
    assert encoded == []  # a second run reads the vectors

    predictor = load_run(folder)
    rows = read_csv(config.parent / "list.csv")[1:]
    items = [str(config.parent / row[0]) if kind == "image" else row[0] for row in rows]
    scores = predictor.scores(items)
    assert (predictor.kind, scores.shape, encoded) == (kind, (24, 3), [])
    test = load_source(read_settings(argv(config)))
    tested = [str(item) for item in (test.test.paths if isinstance(test.test, ImageFiles) else test.test)]
    np.testing.assert_allclose(predictor.scores(test), scores[[items.index(item) for item in tested]], rtol=1e-4)
    if kind == "image":
        opened = [Image.open(path) for path in items]
        np.testing.assert_allclose(predictor.scores(opened), scores, atol=1e-5)
        given, expected = config.parent, 24
    else:
        given, expected = tmp_path / "new.txt", 2
        given.write_text("red heart\nblue liver bone\n")
        assert len(predictor.scores([])) == 0
    out = tmp_path / "out.csv"
    assert main(["predict", str(folder), str(given), "--out", str(out)]) == 0
    assert len(read_csv(out)) == expected + 1
    with pytest.raises(UserError):
        predictor.scores(np.zeros((2, 7), np.float32) if kind == "text" else ["gone.png"])


def test_a_changed_file_is_encoded_alone(own: Any, encoded: list[int]) -> None:
    config = own("image")
    run(read_settings(argv(config)))
    encoded.clear()
    Image.new("RGB", (20, 30), "white").save(config.parent / "3.png")
    run(read_settings(argv(config, name="changed")))
    assert encoded == [1]
    split = config.parent / "runs" / "run" / "split.json"
    with pytest.raises(UserError, match=naming("split.json")):  # other data, other fingerprint
        run(read_settings(argv(config, "--split_file", str(split), "--label_ratio", "0", name="split")))


@pytest.mark.parametrize("change", [{"max_length": 6}, {"amp": True}])
def test_what_a_vector_depends_on_is_encoded_anew(change: dict[str, Any], bert_dir: Path, encoded: list[int]) -> None:
    texts = [" ".join(WORDS[:n]) for n in range(1, 9)]
    plain = item_encoder(f"hf:{bert_dir}", "text").vectors(texts)
    encoded.clear()
    changed = item_encoder(f"hf:{bert_dir}", "text", **change)
    assert not np.array_equal(changed.vectors(texts), plain)
    assert encoded == [8]
    np.testing.assert_allclose(changed.vectors(texts), plain, atol=1)
    assert encoded == [8]


def test_another_tokenizer_is_another_encoder(bert_dir: Path, tmp_path: Path, encoded: list[int]) -> None:
    folder = tmp_path / bert_dir.name
    shutil.copytree(bert_dir, folder)
    words = (folder / "vocab.txt").read_text().split("\n")
    (folder / "vocab.txt").write_text("\n".join([*words[:6], *reversed(words[6:])]))
    first, second = (item_encoder(f"hf:{path}", "text", cache_dir=tmp_path) for path in (bert_dir, folder))
    texts = ["heart liver", "liver bone"]
    assert not np.allclose(first.vectors(texts), second.vectors(texts))
    assert encoded == [2, 2]
    assert encoding.changed_encoders(first.description, second) == [f"hf:{bert_dir.name} (tokenizer)"]
    (folder / "vocab.txt").write_text("\n".join([*words, *map(str, range(9))]))
    with pytest.raises(UserError, match=naming("encoder", f"hf:{folder}", 16)):
        item_encoder(f"hf:{folder}", "text")


def test_a_vector_does_not_depend_on_its_batch(
    bert_dir: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, n)) for n in (1, 30, 3, 12, 2, 7)]
    images = ImageItems(list(rng.integers(0, 256, (6, 3, 40, 40), dtype=np.uint8)), channels=3)
    for text, kind, items in ((f"hf:{bert_dir}", "text", texts), (f"timm:{NET}@{weights}", "image", images)):
        monkeypatch.setattr(encoding, "BATCH", 4)
        together = item_encoder(text, kind, cache_dir=tmp_path / "a").vectors(items)
        monkeypatch.setattr(encoding, "BATCH", 1)
        alone = item_encoder(text, kind, cache_dir=tmp_path / "b").vectors(items)
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        assert len(np.unique(together.round(4), axis=0)) == 6


def test_several_encoders_give_blocks_of_unit_length(weights: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.manual_seed(2)
    torch.save(timm.create_model(NET).state_dict(), other)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    both = item_encoder(f"timm:{NET}@{weights}, timm:{NET}@{other}").vectors(images)
    blocks = [item_encoder(f"timm:{NET}@{path}").vectors(images) for path in (weights, other)]
    np.testing.assert_array_equal(both, np.concatenate(blocks, axis=1))
    np.testing.assert_allclose([np.linalg.norm(block, axis=1) for block in blocks], 1, atol=1e-5)
    assert not np.allclose(*blocks)


def test_the_mirrored_view_is_a_second_copy_of_training_images(own: Any, weights: Path) -> None:
    config = own("image")
    args = read_settings(argv(config, "--encoder_flip", "true"))
    source = load_source(args)
    made = ItemEncoder.of(args, "image", device=CPU, log=lambda line: None).encode_source(source)
    count, width = made.test.shape
    assert made.train.shape == (24 - count, 2, width)
    encoder = item_encoder(f"timm:{NET}@{weights}")
    by_hand = ImageItems([torch.as_tensor(image).flip(-1) for image in source.train], channels=3)
    np.testing.assert_array_equal(made.train[:, 0], encoder.vectors(source.train))
    np.testing.assert_allclose(made.train[:, 1], encoder.vectors(by_hand), atol=1e-5)
    assert (np.abs(made.train[:, 0] - made.train[:, 1]).max(axis=1) > 1e-4).all()

    plain, either = FeatureView()(made.train).numpy(), FeatureView(copies=True)(made.train).numpy()
    np.testing.assert_array_equal(plain, made.train[:, 0])
    second = (either == made.train[:, 1]).all(axis=1)
    assert ((either == made.train[:, 0]).all(axis=1) ^ second).all()
    assert 0 < second.sum() < len(second)
    assert run(args)["test"]


def test_an_interruption_loses_little(
    bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    texts = [" ".join(np.roll(WORDS, n)) for n in range(8)]
    monkeypatch.setattr(encoding, "BATCH", 2)
    before = ItemEncoder._vectors_of

    def interrupted(self: ItemEncoder, *args: Any) -> Any:
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return before(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ItemEncoder, "_vectors_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path).vectors(texts)
    assert encoded == [2, 2, 2]
    encoded.clear()
    item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path).vectors(texts)
    assert encoded == [2]


def test_equal_items_are_encoded_once(bert_dir: Path, encoded: list[int], tmp_path: Path) -> None:
    encoder = item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path)
    vectors = encoder.vectors(["heart", "liver", "heart"])
    assert encoded == [2]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("shared", [True, False])
def test_two_processes_share_the_work(
    shared: bool, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    """With one cache folder each encodes its part only; without, each encodes what it does not see."""
    texts = [" ".join(WORDS[:n]) for n in range(1, 8)]
    expected = item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path / "one").vectors(texts)
    encoded.clear()
    first, second = (
        replace(item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path / name), world=World(rank, 2))
        for rank, name in enumerate(("a", "a" if shared else "b"))
    )
    waiting = [second]  # when the first process waits, the second has done its part

    def barrier(self: World) -> None:
        if waiting:
            waiting.pop().vectors(texts)

    monkeypatch.setattr(World, "barrier", barrier)
    np.testing.assert_allclose(first.vectors(texts), expected, atol=1e-6)
    assert encoded == ([3, 2, 2] if shared else [3, 4, 3, 4])  # none twice with one folder


def test_a_vector_that_is_not_finite_names_its_item(bert_dir: Path, tmp_path: Path) -> None:
    encoder = item_encoder(f"hf:{bert_dir}", "text", cache_dir=tmp_path)
    with torch.no_grad():
        encoder.encoders[0].net.encoder.embeddings.word_embeddings.weight[6] = float("nan")  # heart
    with pytest.raises(UserError, match=naming("item 1")):
        encoder.vectors(["liver", "heart"])


def test_a_run_resumes_and_refuses_other_weights(
    own: Any, tmp_path: Path, bert_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = own("text"), tmp_path / "bert"
    shutil.copytree(bert_dir, folder)
    words = argv(config, "--encoder", f"hf:{folder}")
    straight = run(read_settings(words))
    with monkeypatch.context() as patch:
        patch.setattr(engine.base.MultiLabelAlgorithm, "evaluate", _stop)
        with pytest.raises(ZeroDivisionError):
            run(read_settings([*words, "--save_name", "stopped", "--num_save_iter", "1"]))
    resumed = run(read_settings([*words, "--save_name", "stopped", "--num_save_iter", "1", "--resume"]))
    assert resumed["test"] == straight["test"]

    finished = config.parent / "runs" / "run"
    other = torch.nn.init.normal_(torch.empty(16, 16))
    tensors = encoding.load_encoder(*encoding.encoder_names(f"hf:{folder}"), img_size=1, max_length=9).net.encoder
    with torch.no_grad():
        tensors.embeddings.word_embeddings.weight.copy_(other)
    tensors.save_pretrained(folder)
    with pytest.raises(RunError, match=naming("run", f"hf:{folder}", "weights")):
        load_run(finished)
    with pytest.raises(RunError):
        run(read_settings([*words, "--resume"]))
    shutil.rmtree(folder)
    with pytest.raises(RunError, match=naming("run", f"hf:{folder}")):
        load_run(finished)


def test_a_run_finds_its_weights_from_another_folder(
    own: Any, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, place = own("image"), tmp_path / "weights"
    place.mkdir()
    shutil.copy(weights, place / "net.pth")
    with monkeypatch.context() as patch:
        patch.chdir(place)
        run(read_settings(argv(config, "--encoder", f"timm:{NET}@net.pth")))
    folder = config.parent / "runs" / "run"
    assert load_run(folder).encoders == [f"timm:{NET}"]
    (place / "net.pth").unlink()
    with pytest.raises(RunError, match=naming("net.pth")):
        load_run(folder)
    monkeypatch.chdir(weights.parent)  # where the name of the settings leads to them
    assert load_run(folder).scores([str(config.parent / "1.png")]).shape == (1, 3)


def _stop(*args: Any, **options: Any) -> Any:
    raise ZeroDivisionError


def test_data_browse_says_that_vectors_have_no_picture(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "browse", *argv(own("image"))]) == 2
    assert "encoder" in capsys.readouterr().err
