from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets import get_net_builder
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.small import SmallCNN
from semilearn_bbam.nets.weights import load_weights


def build(net: str, **changes: Any) -> nn.Module:
    args = argparse.Namespace(net=net, in_features=1, num_classes=3, **changes)
    return get_net_builder(args)(num_classes=3)


def test_names_lead_to_nets() -> None:
    assert isinstance(build("small_cnn"), SmallCNN)
    assert build("wrn_28_2").num_features == 128
    with pytest.raises(NetError, match="did you mean .*wrn_28_2"):
        build("wrn_28_3")


def test_padding_does_not_reach_the_features(bert_dir: Path) -> None:
    net = HFEncoder(str(bert_dir), pretrained=True).eval()
    short = {"input_ids": torch.tensor([[2, 6, 7, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    padded = {
        "input_ids": torch.tensor([[2, 6, 7, 3, 0, 0], [2, 6, 8, 9, 10, 3]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    }
    torch.testing.assert_close(net(padded)[:1], net(short))
    by_hand = net.encoder(**short).last_hidden_state[0].mean(0)
    torch.testing.assert_close(net(short)[0], by_hand)


def test_weights_of_a_folder_are_used_only_when_asked_for(bert_dir: Path) -> None:
    one, two = (HFEncoder(str(bert_dir), pretrained=True).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    fresh = HFEncoder(str(bert_dir), pretrained=False).state_dict()
    assert any(not torch.equal(one[key], fresh[key]) for key in one)
    with pytest.raises(NetError, match="no transformer can be loaded"):
        HFEncoder(str(bert_dir / "missing"), pretrained=True)


@pytest.mark.parametrize("form", ["safetensors", "plain", "wrapped"])
def test_fitting_tensors_are_loaded(form: str, tmp_path: Path) -> None:
    source, target = SmallCNN(1), SmallCNN(1)
    content = {f"module.{k}" if form == "wrapped" else k: v for k, v in source.state_dict().items()}
    content["classifier.weight"] = torch.zeros(2, 2)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(content, path)
    else:
        torch.save({"model": content} if form == "wrapped" else content, path)
    missing, unused = load_weights(target, path)
    assert missing == []
    assert unused == ["classifier.weight"]
    assert torch.equal(target.features[0].weight, source.features[0].weight)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(Trap.marker), "w")


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"somebody.else": torch.zeros(3)}, other)
    with pytest.raises(NetError, match="no tensor of"):
        load_weights(SmallCNN(1), other)
    with pytest.raises(NetError, match="there is no file"):
        load_weights(SmallCNN(1), tmp_path / "none.pth")
    Trap.marker = tmp_path / "ran"
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(NetError, match="loaded safely"):
        load_weights(SmallCNN(1), evil)
    assert not Trap.marker.exists()
