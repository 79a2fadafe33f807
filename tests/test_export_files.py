"""ONNX files and programs on disk: what they hold, the lines of the page that load them, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam import __version__
from semilearn_bbam.__main__ import main
from semilearn_bbam.data import load_source
from semilearn_bbam.data.text import load_tokenizer
from semilearn_bbam.data.views import ImageView
from semilearn_bbam.inference import load_run
from semilearn_bbam.runs.folder import BEST, RESULTS
from tests.conftest import FEATURES, IMAGE_NET, has_line
from tests.export_runs import DIGITS, PHOTOGRAPHS, SMALL, TEXTS, Made
from tests.export_runs import make as make

PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
LINES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]


def onnx_of(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The session of an exported run, and its metadata."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main(["export", str(folder), "--format", "onnx"]) == 0
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    return session, {key: value if key in ("algorithm", "checked_on") else json.loads(value)
                     for key, value in facts.items() if key != "semilearn_bbam_version"}  # fmt: skip


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [("bbam_plus", {}), ("kernel_graph", {}), ("ml_fixmatch", {})],
    ids=lambda value: str(value),
)
def test_onnx_of_vectors(
    algorithm: str, options: dict[str, Any], make: Made, features_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(FEATURES, algorithm, **options)
    session, facts = onnx_of(folder)
    shown = capsys.readouterr().out
    assert has_line(shown, algorithm, "vectors [N,12]", "model.onnx")
    assert f"{facts['largest_difference']:.1e} ({facts['checked_on']})" in shown
    assert facts["checked_on"].startswith("items of its data")
    assert (facts["algorithm"], facts["output"]["shape"]) == (algorithm, ["N", 7])
    assert session.get_modelmeta().custom_metadata_map["semilearn_bbam_version"] == __version__
    assert [value.shape for value in (*session.get_inputs(), *session.get_outputs())] == [["N", 12], ["N", 7]]
    predictor = load_run(folder, device="cpu")
    with np.load(features_dir / "ohsumed_minilm.npz") as data:
        x = data["test_x"].astype(np.float32)
    scores = session.run(None, {"vectors": x})[0]
    np.testing.assert_allclose(scores, predictor.scores(x), atol=1e-5)
    assert facts["label_names"] == list(predictor.label_names)
    thresholds = {
        name: np.array([np.inf if t is None else t for t in row]) for name, row in facts["thresholds"].items()
    }
    assert thresholds.keys() == {"0.5", "prior"}
    np.testing.assert_array_equal(thresholds["prior"].astype(np.float32), predictor.thresholds["prior"])


def test_a_threshold_that_no_score_reaches_is_null(make: Made) -> None:
    folder = make(FEATURES, "supervised_ridge")
    results = json.loads((folder / RESULTS).read_text())
    results["thresholds"]["prior"][2] = None
    (folder / RESULTS).write_text(json.dumps(results))
    assert onnx_of(folder)[1]["thresholds"]["prior"][2] is None


def test_onnx_of_texts_has_their_tokenizer(make: Made) -> None:
    folder = make(TEXTS, "bbam")
    session, facts = onnx_of(folder)
    tokenizer = load_tokenizer(str(folder / "model_tokenizer"))
    texts = ["heart", "liver virus . bone", "eye " * 400]
    options = {"truncation": True, "max_length": facts["input"]["max_length"], "padding": True, "return_tensors": "np"}
    batch = tokenizer(texts, **options)
    named = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    expected = load_run(folder, device="cpu").scores(texts)
    np.testing.assert_allclose(session.run(None, named)[0], expected, atol=1e-5)
    assert main(["export", str(folder), "--format", "onnx"]) == 0  # again
    shutil.rmtree(folder / "model_tokenizer")
    (folder / "model_tokenizer").mkdir()
    (folder / "model_tokenizer" / "notes.txt").write_text("mine")
    assert main(["export", str(folder), "--format", "onnx"]) == 2
    assert (folder / "model_tokenizer" / "notes.txt").read_text() == "mine"


def test_onnx_of_an_encoder_goes_from_pixels_to_scores(make: Made, weights: Path) -> None:
    folder = make(PHOTOGRAPHS, "supervised_bce", encoder=f"timm:{IMAGE_NET}@{weights}")
    session, facts = onnx_of(folder)
    assert session.get_inputs()[0].shape == ["N", 3, 160, 160]
    assert facts["input"]["normalisation"][0]["encoder"] == f"timm:{IMAGE_NET}"
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 160, 160), dtype=np.uint8)
    scores = session.run(None, {"pixels": pictures.astype(np.float32) / 255})[0]
    np.testing.assert_allclose(scores, load_run(folder, device="cpu").scores(pictures), atol=1e-5)


def test_onnx_of_grey_images(make: Made) -> None:
    folder = make(DIGITS, "bbam")
    session, facts = onnx_of(folder)
    _, channels, size, _ = session.get_inputs()[0].shape
    assert channels == 1
    assert facts["input"]["colours"] == "grey"
    predictor = load_run(folder, device="cpu")
    pictures = np.stack([np.asarray(item) for item in load_source(predictor.settings).test[:9]])
    scores = session.run(None, {"pixels": ImageView(size)(pictures).numpy()})[0]
    np.testing.assert_allclose(scores, predictor.scores(pictures), atol=1e-5)


def test_the_lines_of_the_page_run_as_they_are_printed(make: Made, tmp_path: Path) -> None:
    """Without this package and torch; Pillow's resize is nearly the run's."""
    assert len([line for line in LINES.splitlines() if line]) == 10
    assert {line.split()[1] for line in LINES.splitlines() if line.startswith(("import", "from"))} <= {"json,", "PIL"}
    folder = make(PHOTOGRAPHS, "bbam", normalize="imagenet", **SMALL)
    onnx_of(folder)
    predictor = load_run(folder, device="cpu")
    photo = next(iter(load_source(predictor.settings).test.paths))
    place = tmp_path / "elsewhere"
    place.mkdir()
    shutil.move(folder / "model.onnx", place)
    shutil.copy(photo, place / "photo.jpg")
    check = (
        "\nimport sys\nassert not {'torch', 'semilearn_bbam'} & set(sys.modules)\nprint(json.dumps(scores.tolist()))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LINES + check],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    shown, scores = done.stdout.splitlines()[-2:]
    expected = predictor.scores([photo])[0]
    assert np.abs(np.array(json.loads(scores)) - expected).max() < 0.01
    sure = np.abs(expected - predictor.thresholds["prior"]) > 0.01
    predicted = [name in shown for name in map(repr, predictor.label_names)]
    np.testing.assert_array_equal(np.array(predicted)[sure], (expected >= predictor.thresholds["prior"])[sure])


def test_a_program_is_loaded_by_torch_alone(make: Made, tmp_path: Path, features_dir: Path) -> None:
    folder, out = make(FEATURES, "bbam_plus"), tmp_path / "new" / "program.pt2"
    assert main(["export", str(folder), "--format", "torch-export", "--out", str(out)]) == 0
    extra = {"metadata.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    assert json.loads(json.loads(extra["metadata.json"])["label_names"]) == [f"label {k}" for k in range(7)]
    with np.load(features_dir / "ohsumed_minilm.npz") as data:
        x = data["test_x"].astype(np.float32)
    np.testing.assert_allclose(program(torch.from_numpy(x)), load_run(folder, device="cpu").scores(x), atol=1e-6)


@pytest.mark.parametrize("format", ["onnx", "torch-export", "hf"])
def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(
    format: str, make: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    folder = make(FEATURES, "supervised_ridge")
    places = tmp_path / "copy"

    def refused(*parts: object, change: Any = lambda copy: None, out: Path = tmp_path / "out" / "file") -> None:
        shutil.rmtree(places, ignore_errors=True)
        shutil.copytree(folder, places)
        change(places)
        before = sorted(places.rglob("*"))
        assert main(["export", str(places), "--format", format, "--out", str(out)]) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert has_line(message, *parts), message
        assert sorted(places.rglob("*")) == before
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    (tmp_path / "taken").write_text("mine")
    refused("has not ended", "safetensors", change=lambda copy: (copy / RESULTS).unlink())
    refused(RESULTS, change=lambda copy: (copy / RESULTS).write_text("{"))
    refused(BEST, change=lambda copy: (copy / BEST).write_bytes(b"PK"))
    refused("config.yaml", change=lambda copy: (copy / "config.yaml").unlink())
    refused("--out", out=tmp_path / "taken" / "file")
    refused("--out", out=folder)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_missing_package_is_named_with_its_cure(
    make: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(FEATURES, "supervised_ridge")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(folder), "--format", "onnx"]) == 2
    assert has_line(capsys.readouterr().err, "onnxruntime", 'pip install "semilearn-bbam[onnx]"')
    assert not (folder / "model.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "size"),
    [
        ("wrn_28_2", 32),
        ("vit_tiny_patch2_32", 32),
        ("resnet50", 32),
        ("torchvision:mobilenet_v3_small", 64),
        ("torchvision:swin_t", 64),
        ("timm:test_vit", 160),
        ("timm:test_efficientnet", 160),
        ("timm:test_convnext", 160),
    ],
)
def test_nets_of_every_library_become_onnx(net: str, size: int, make: Made) -> None:
    session, facts = onnx_of(make(PHOTOGRAPHS, "supervised_bce", net=net, img_size=size))
    assert session.get_inputs()[0].shape == ["N", 3, size, size]
    assert facts["largest_difference"] < 1e-5
