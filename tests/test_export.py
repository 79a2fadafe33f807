from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from semilearn_bbam.__main__ import main
from semilearn_bbam.runs.folder import BEST, CONFIG
from tests.conftest import FEATURES


def test_weights_survive_the_way_bit_for_bit(
    train: Any, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "net": "mlp"}
    _, folder = train(FEATURES, **settings)
    out = tmp_path / "new" / "weights.safetensors"
    assert main(["export", str(folder), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    saved, wanted = load_file(out), torch.load(folder / BEST, weights_only=True)["ema_model"]
    assert saved.keys() == wanted.keys()
    assert all(torch.equal(saved[name], wanted[name]) for name in wanted)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["algorithm"] == "bbam"
    assert json.loads(metadata["labels"]) == [f"label {k}" for k in range(7)]
    assert metadata["config"] == (folder / CONFIG).read_text()
    # And it can be started from.
    train(FEATURES, save_name="again", use_pretrain="true", pretrain_path=out, **settings)
    assert "4 tensors of" in (tmp_path / "runs" / "again" / "log.txt").read_text()


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 2
    assert "holds neither" in capsys.readouterr().err
    (tmp_path / BEST).write_bytes(b"cut")
    assert main(["export", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
