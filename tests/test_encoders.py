"""Frozen encoders: their names, their weights, and what the settings say about them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from semilearn_bbam.config import ConfigError, load_yaml
from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.encoders import encoder_names, load_encoder, weights_digest
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, has_line, naming
from tests.conftest import IMAGE_NET as NET

DATA = "--algorithm bbam --dataset manifest --manifest list.csv --label_ratio 0.5".split()


def load(text: str, **changes: Any) -> Any:
    return load_encoder(*encoder_names(text), **{"img_size": 32, "max_length": 64, **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:a b/c,d", ["hf:a b/c,d"]),
        ("timm:x@a b.pth, torchvision:y", ["timm:x@a b.pth", "torchvision:y"]),
        ("timm:x torchvision:y@z,timm:w", ["timm:x", "torchvision:y@z", "timm:w"]),
        (" hf:owner/name@1\nhf:other ", ["hf:owner/name@1", "hf:other"]),
    ],
)
def test_a_list_of_names(text: str, expected: list[str]) -> None:
    assert [str(name) for name in encoder_names(text)] == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("resnet50", ("resnet50", "timm:<name>")),
        ("timm:", ("timm:",)),
        ("timm:x@", ("timm:x@",)),
        ("timm:x timm:x", ("timm:x", "twice")),
        ("timm:x hf:y", ("hf:", "timm:", "torchvision:")),
    ],
)
def test_names_that_cannot_be_used(text: str, named: tuple[str, ...]) -> None:
    with pytest.raises(NetError, match=naming("encoder", *named)):
        encoder_names(text)


def test_a_yaml_file_may_list_encoders(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("encoder: [timm:resnet18, torchvision:resnet18]\n")
    assert read_settings(["--c", str(path), *DATA]).encoder == "timm:resnet18, torchvision:resnet18"
    path.write_text("encoder: [timm:resnet18, 3]\n")
    with pytest.raises(ConfigError) as caught:
        read_settings(["--c", str(path), *DATA])
    assert has_line(str(caught.value), "own.yaml:1", "encoder", "list")


def test_defaults_are_those_of_the_shipped_configs_for_vectors() -> None:
    shipped = load_yaml(CONFIGS / "data" / "ohsumed_features.yaml")
    args = read_settings([*DATA, "--encoder", "timm:resnet18"])
    own = {"dataset", "feature_file", "label_ratio"}
    assert {key: getattr(args, key) for key in shipped.keys() - own} == {
        key: item.value for key, item in shipped.items() if key not in own
    }
    asked = read_settings([*DATA, *"--encoder timm:resnet18 --uratio 3 --net mlp --ema_m 0.9".split()])
    assert (asked.net, asked.ulb_batch_size, asked.ema_m, asked.feature_dropout) == ("mlp", 0, 0.9, 0.5)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--encoder timm:resnet19", ("encoder", "resnet19", "resnet18")),
        ("--encoder timm:resnet18,resnet50", ("encoder", "resnet18,resnet50")),
        ("--encoder torchvision:resnet19", ("encoder", "resnet19", "resnet18")),
        ("--encoder timm:resnet18@gone.pth", ("encoder", "gone.pth")),
        ("--encoder timm:resnet18 --dataset features --feature_file x.npz", ("features", "encoder")),
        ("--encoder timm:resnet18 --dataset ohsumed", ("timm:resnet18", "texts", "hf:<folder or hub name>")),
        ("--encoder hf:x --dataset digits", ("hf:x", "images", "timm:<name>")),
        ("--encoder hf:x --encoder_flip true", ("encoder_flip", "texts")),
        ("--net plain --encoder_flip true", ("encoder_flip", "encoder")),
        ("--encoder timm:resnet18 --use_pretrain true", ("use_pretrain", "encoder")),
        ("--encoder timm:resnet18 --cache ram", ("cache", "encoder")),
        ("--encoder timm:resnet18 --net timm:resnet18", ("net", "timm:resnet18", "vectors", "plain")),
        ("--encoder timm:resnet18 --strong randaugment", ("strong", "randaugment", "features")),
    ],
)
def test_settings_that_clash_with_an_encoder(words: str, named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings([*DATA, *words.split()])
    assert has_line(str(caught.value), *named)


def test_weights_of_a_file_by_name_or_in_order(weights: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    encoder = load(f"timm:{NET}@{weights}")
    assert torch.equal(state, torch.get_rng_state())
    assert (encoder.size, encoder.mean) == (160, timm.get_pretrained_cfg(NET).mean)
    assert has_line(encoder.report, f"timm:{NET}@{weights}", "160", "by name")
    assert not encoder.net.training
    assert not any(parameter.requires_grad for parameter in encoder.net.parameters())

    other = tmp_path / "other.pth"
    content = torch.load(weights)
    renamed = {key if "fc." in key else f"layer_{i}.{key.rpartition('.')[2]}": key for i, key in enumerate(content)}
    torch.save({new: content[key] for new, key in renamed.items()}, other)
    in_order = load(f"timm:{NET}@{other}")
    assert "in order" in in_order.report
    assert in_order.identity == encoder.identity
    images = torch.randint(256, (2, 3, 160, 160), dtype=torch.uint8)
    assert torch.equal(encoder(images), in_order(images))


def test_no_weight_may_stay_random(weights: Path, tmp_path: Path) -> None:
    content = torch.load(weights)
    content.pop("layer2.0.conv1.weight")
    torch.save(content, tmp_path / "partial.pth")
    with pytest.raises(NetError, match=naming("encoder", "partial.pth", "layer2.0.conv1.weight")):
        load(f"timm:{NET}@{tmp_path / 'partial.pth'}")
    with pytest.raises(NetError, match=naming("encoder", "gone.pth")):
        load(f"timm:{NET}@gone.pth")


def test_no_weight_of_a_text_net_may_stay_random(bert_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(bert_dir, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in tensors if key.endswith("query.weight"))
    tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(NetError, match=naming("encoder", f"hf:{folder}", name)):
        load(f"hf:{folder}")


def test_without_weights_at_hand_the_cure_is_one_of_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semilearn_bbam.nets.library.answers", lambda address: False)
    monkeypatch.setattr("semilearn_bbam.nets.library.hub_answers", lambda: False)
    for name in ("timm:resnet10t", "torchvision:resnet34"):
        with pytest.raises(NetError, match=naming("encoder", name, f"{name}@<file>")) as caught:
            load(name)
        assert "pretrain" not in str(caught.value)
    with pytest.raises(NetError, match=naming("encoder", "hf:./gone", "hf:<local folder>")):
        load("hf:./gone")


def test_a_digest_covers_every_weight(weights: Path, bert_dir: Path) -> None:
    first = load(f"timm:{NET}@{weights}")
    assert first.identity["weights"] == weights_digest(load(f"timm:{NET}@{weights}").net)
    for name in ("net.layer1.0.conv1.weight", "net.bn1.running_mean"):
        changed = load(f"timm:{NET}@{weights}")
        with torch.no_grad():
            changed.net.state_dict()[name].view(-1)[-1] += 1e-3
        assert weights_digest(changed.net) != first.identity["weights"]
    assert weights_digest(load(f"hf:{bert_dir}").net) != first.identity["weights"]


def test_a_moved_folder_is_the_same_encoder(bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved" / bert_dir.name
    shutil.copytree(bert_dir, moved)
    monkeypatch.chdir(moved.parent)
    near = load(f"hf:{bert_dir.name}")
    assert near.identity == load(f"hf:{bert_dir}").identity
    assert near.name.absolute == f"hf:{moved}"


def test_a_text_is_no_longer_than_the_positions_of_the_net(bert_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(bert_dir, folder)
    net = BertModel.from_pretrained(bert_dir)
    config = net.config
    config.max_position_embeddings = 16
    BertModel(config).save_pretrained(folder)
    encoder = load(f"hf:{folder}")
    assert encoder.identity["max_length"] == 16
    assert has_line(encoder.report, 16, "max_length 64")
    assert load(f"hf:{bert_dir}").identity["max_length"] == 64
