"""The folder for the Hugging Face hub: bit-equal scores anywhere, a card with measured values, no path, no pickle."""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from semilearn_bbam.__main__ import main
from semilearn_bbam.data import load_source
from semilearn_bbam.errors import RunError
from semilearn_bbam.inference import load_run
from semilearn_bbam.run import read_settings
from semilearn_bbam.runs import portable
from semilearn_bbam.runs.folder import BEST
from semilearn_bbam.runs.portable import STATE, packed, unpacked, write_model
from tests.conftest import FEATURES, IMAGE_NET, has_line
from tests.export_runs import DIGITS, PHOTOGRAPHS, SMALL, TEXTS, Made
from tests.export_runs import make as make

RUNS = [
    (PHOTOGRAPHS, "bbam", {"score_map": "average", **SMALL}),
    (DIGITS, "supervised_ridge", {"net": "pixels"}),
    (FEATURES, "bbam_plus", {}),
    (FEATURES, "supervised_kernel", {}),
    (FEATURES, "kernel_graph", {}),
    (FEATURES, "cap", {}),
    (FEATURES, "ml_softmatch", {}),
    (TEXTS, "bbam", {}),
]


def exported(folder: Path, out: Path) -> Path:
    assert main(["export", str(folder), "--format", "hf", "--out", str(out)]) == 0
    return out


def moved(folder: Path, out: Path, *gone: Path) -> Path:
    """The exported folder at another place, without the run and these other folders."""
    exported(folder, out)
    for path in (folder, *gone):
        shutil.rmtree(path)
    return Path(shutil.move(out, out.with_name("moved")))


def assert_no_paths(folder: Path, *secrets: Path) -> None:
    for path in folder.rglob("*"):
        if path.suffix in (".md", ".json", ".yaml", ".txt"):
            text = path.read_text(encoding="utf-8")
            assert [secret for secret in secrets if str(secret) in text] == [], path


@pytest.mark.parametrize(("config", "algorithm", "options"), RUNS, ids=lambda value: str(value))
def test_a_moved_folder_gives_the_scores_bit_for_bit(
    config: str, algorithm: str, options: dict[str, Any], make: Made, tmp_path: Path
) -> None:
    folder = make(config, algorithm, **options)
    source = load_source(read_settings(["--c", str(folder / "config.yaml")]))
    own = load_run(folder, device="cpu")
    scores, features = own.scores(source), own.features(source)
    place = moved(folder, tmp_path / "hub")
    assert_no_paths(place, tmp_path, tmp_path.parent)
    assert not [path for path in place.rglob("*") if path.suffix in (".pth", ".pt", ".bin", ".pkl")]
    loaded = load_run(place, device="cpu")
    np.testing.assert_array_equal(loaded.scores(source), scores)
    np.testing.assert_array_equal(loaded.features(source), features)
    assert loaded.label_names == own.label_names
    assert loaded.thresholds.keys() == own.thresholds.keys()
    np.testing.assert_array_equal(loaded.thresholds["prior"], own.thresholds["prior"])


@pytest.mark.parametrize("kind", ["image", "text"])
def test_encoders_are_in_the_folder(kind: str, make: Made, weights: Path, bert_dir: Path, tmp_path: Path) -> None:
    if kind == "image":
        file = tmp_path / "mine" / "net.pth"
        encoder = f"timm:{IMAGE_NET}@{file}"
        file.parent.mkdir()
        shutil.copy(weights, file)
        items: Any = np.random.default_rng(0).integers(0, 256, (3, 3, 30, 30), dtype=np.uint8)
    else:
        encoder = f"hf:{shutil.copytree(bert_dir, tmp_path / 'mine' / 'small bert')}"
        items = ["heart and virus", "bone"]
    folder = make(PHOTOGRAPHS if kind == "image" else TEXTS, "supervised_kernel", encoder=encoder)
    scores = load_run(folder, device="cpu").scores(items)
    place = moved(folder, tmp_path / "hub", tmp_path / "mine", tmp_path / "cache")
    assert_no_paths(place, tmp_path)
    np.testing.assert_array_equal(load_run(place, device="cpu").scores(items), scores)


def test_what_the_card_and_the_facts_hold(make: Made, tmp_path: Path, features_dir: Path) -> None:
    folder = make(FEATURES, "bbam_plus")
    assert main(["calibrate", str(folder), "--folds", "2"]) == 0
    place = exported(folder, tmp_path / "hub")
    results = json.loads((folder / "results.json").read_text())
    card = (place / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["license"] is None
    assert (header["library_name"], header["pipeline_tag"]) == ("semilearn-bbam", "tabular-classification")
    assert "bbam_plus" in header["tags"]
    assert has_line(text, "mAP", f"{results['test']['mAP']:.4f}")
    assert has_line(text, "macro_f1", f"{results['test']['macro_f1']:.4f}", f"{results['test_prior']['macro_f1']:.4f}")
    assert "oracle" not in text
    assert has_line(text, 32, "labelled", 128, "unlabelled", 60, "test")
    row = results["per_label"][0]
    assert has_line(text, "label 0", row["positives"], f"{row['threshold_prior']:.3f}")
    rare = [row["label"] for row in results["per_label"] if row["positives"] < 10]
    assert rare
    assert has_line(text, "fewer than 10 test positives", *rare)
    facts = json.loads((place / "config.json").read_text())
    assert facts["id2label"]["3"] == "label 3"
    assert facts["label2id"]["label 3"] == 3
    assert facts["settings"]["scale"] == load_run(folder).settings.scale
    assert (place / "decisions.json").read_bytes() == (folder / "decisions.json").read_bytes()
    assert "tuned" in load_run(place).thresholds
    weights = torch.load(folder / BEST, weights_only=True)["ema_model"]
    saved = load_file(place / "model.safetensors")
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[key], weights[key]) for key in weights)


def test_pseudo_labels_and_scores_of_the_pool_are_left_out(make: Made, tmp_path: Path) -> None:
    folder = make(FEATURES, "bbam_plus")
    names = load_run(exported(folder, tmp_path / "hub")).state
    assert set(names) <= {"fusion", "teacher", "statistics"}
    assert set(names["teacher"]) == {"net", "head"}
    assert {"pool", "held_out"} <= set(load_run(folder).state["teacher"])


def test_without_the_data_the_card_says_less(make: Made, features_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(features_dir, data)
    folder = make(FEATURES, "supervised_kernel", data_dir=data)
    shutil.rmtree(data)
    card = (exported(folder, tmp_path / "hub") / "README.md").read_text()
    assert has_line(card, "items:", 32, "labelled")
    assert "labelled positives" not in card
    assert "function of its training vectors" in card


def test_folders_that_are_there_and_that_are_damaged(
    make: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(FEATURES, "supervised_kernel")
    place = exported(folder, tmp_path / "hub")
    assert main(["export", str(folder), "--format", "hf", "--out", str(place)]) == 2
    assert has_line(capsys.readouterr().err, "exists", "--out")
    again = exported(place, tmp_path / "again")  # an exported folder is exported as a run is
    for name in ("model.safetensors", "state.json", "config.json"):
        assert (again / name).read_bytes() == (place / name).read_bytes(), name
    for name, content in (
        ("model.safetensors", b"cut"),
        (STATE, b'{"dict"'),
        (STATE, b"[]"),
        ("state.safetensors", b""),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place, copy)
        (copy / name).write_bytes(content)
        with pytest.raises(RunError, match="export it again"):
            load_run(copy)


def test_the_examples_of_the_state_run() -> None:
    results = doctest.testmod(portable)
    assert results.attempted == 2
    assert not results.failed


def test_a_state_is_the_same_after_the_way(tmp_path: Path) -> None:
    wide = torch.arange(6.0).view(2, 3)
    state = {"a": [wide.T, None, True, "x"], 1: {"n": float("nan"), "i": float("-inf"), "f": 0.1}, "same": wide.T}
    state |= {"whole": torch.tensor(3), "half": torch.ones(2, dtype=torch.float16), "part": wide[:, 1:]}
    tensors: dict[str, Any] = {}
    back = unpacked(json.loads(json.dumps(packed(state, tensors), allow_nan=False)), tensors)
    assert len(tensors) == 4  # one of them is there twice
    assert back.keys() == state.keys()
    assert torch.equal(back["a"][0], wide.T)
    assert back["a"][0].stride() == wide.T.stride()
    assert back["a"][1:] == [None, True, "x"]
    assert np.isnan(back[1]["n"])
    assert (back[1]["i"], back[1]["f"]) == (float("-inf"), 0.1)
    assert (back["whole"].shape, back["half"].dtype) == ((), torch.float16)
    assert torch.equal(back["part"], wide[:, 1:])
    with pytest.raises(TypeError, match="state.x"):
        write_model(tmp_path, {}, {"x": object()})
