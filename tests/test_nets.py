from __future__ import annotations

import random
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from semilearn.core.utils import get_optimizer
from torch import nn
from torchvision.models import ResNet18_Weights

from semilearn_bbam import nets
from semilearn_bbam.errors import NetError
from semilearn_bbam.nets import get_net_builder, library
from semilearn_bbam.nets.heads import CosinePrototypes, MultiLabelNet
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.small import SmallCNN
from semilearn_bbam.util import hub
from tests.conftest import has_line, naming, settings

LABELS = partial(CosinePrototypes, num_classes=3, scale=20.0, margin=0.4)


def absent(*args: Any, **kwargs: Any) -> None:
    raise OSError("not there")


def build(net: str, **changes: Any) -> nn.Module:
    asked = {"img_size": 32, **changes}
    pretrained, path, in_features = asked.pop("pretrained", False), asked.pop("path", ""), asked.pop("in_features", 3)
    return get_net_builder(settings(net=net, pretrain_path=path, **asked))(in_features, 3, pretrained=pretrained)


def test_names_lead_to_nets() -> None:
    assert isinstance(build("small_cnn"), SmallCNN)
    assert build("wrn_28_2").num_features == 128
    with pytest.raises(NetError, match=naming("'wrn_28_3'", "did you mean", "wrn_28_2")):
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
    with pytest.raises(NetError, match=naming("net", bert_dir / "missing", "hf:")):
        HFEncoder(str(bert_dir / "missing"), pretrained=True)


def names_and_shapes(net: nn.Module) -> tuple[int, ...]:
    return net(torch.rand(2, 3, 32, 32), only_feat=True).shape


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "tf_efficientnet_lite0"])
def test_timm_nets(name: str) -> None:
    net = build(f"timm:{name}")
    assert names_and_shapes(net) == (2, net.num_features)
    assert net.training
    assert build(f"timm:{name}", in_features=1).eval()(torch.rand(1, 1, 32, 32)).shape == (1, net.num_features)
    assert build(f"timm:{name}", in_features=1, normalize="imagenet")(torch.rand(2, 3, 32, 32)).shape[0] == 2


@pytest.mark.parametrize(
    ("name", "width"),
    [("resnet18", 512), ("mobilenet_v3_small", 1024), ("squeezenet1_1", 512), ("efficientnet_b0", 1280)],
)
def test_torchvision_nets(name: str, width: int) -> None:
    net = build(f"torchvision:{name}")
    assert net.num_features == width
    assert names_and_shapes(net) == (2, width)


@pytest.mark.parametrize(
    ("name", "width", "size"), [("inception_v3", 2048, 96), ("vit_b_32", 768, 32), ("densenet121", 1024, 32)]
)
def test_torchvision_nets_with_ways_of_their_own(name: str, width: int, size: int) -> None:
    net = build(f"torchvision:{name}", img_size=size).train()
    assert net(torch.rand(2, 3, size, size)).shape == (2, width)


@pytest.mark.parametrize(
    ("net", "changes", "message"),
    [
        ("timm:resnet81", {}, ("timm", "'resnet81'", "did you mean resnet18")),
        ("torchvision:resnet51", {}, ("torchvision", "'resnet51'", "did you mean resnet50")),
        (
            "torchvision:fasterrcnn_resnet50_fpn",
            {},
            ("torchvision", "'fasterrcnn_resnet50_fpn'", "did you mean", "resnet50"),
        ),
        ("timm:vit_tiny_patch16_224", {"img_size": 8}, ("timm:vit_tiny_patch16_224", "3 x 8 x 8", "img_size")),
        ("torchvision:vit_b_32", {"img_size": 33}, ("torchvision:vit_b_32", "img_size 33")),
        ("torchvision:resnet18", {"in_features": 1}, ("torchvision:resnet18", "1 x 32 x 32", "normalize: imagenet")),
        ("timm:resnet18.a1_in1", {}, ("timm", "'resnet18.a1_in1'", "did you mean resnet18.a1_in1k")),
        ("timm:", {}, ("'timm:'", "unknown")),
        ("resnet18", {}, ("'resnet18'", "did you mean timm:resnet18")),
        ("hubert_base", {}, ("hubert_base", "sound")),
        ("vit_tiny_patch2_32", {"img_size": 40}, ("vit_tiny_patch2_32", "3 x 40 x 40", "img_size")),
        ("resnet50", {"in_features": 1}, ("net: resnet50", "1 x 32 x 32", "normalize: imagenet")),
        ("resnet50", {"in_features": 0}, ("net: resnet50", "reads images", "holds texts")),
        ("mlp:512 swish", {}, ("net: mlp", "'swish'", "'512 swish'", "width")),
    ],
)
def test_unknown_names_and_unfit_sizes_are_told(net: str, changes: dict[str, Any], message: tuple[str, ...]) -> None:
    with pytest.raises(NetError, match=naming(*message)):
        build(net, **changes)


def test_mlp_over_vectors() -> None:
    assert build("mlp", in_features=7)(torch.rand(4, 7)).shape == (4, 512)
    net = build("mlp:16 relu 8", in_features=7)
    assert net.num_features == 8
    assert [tuple(p.shape) for p in net.parameters()] == [(16, 7), (16,), (8, 16), (8,)]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm:vit_tiny_patch16_224", 32),
        ("timm:resnet18", 32),
        ("timm:cait_xxs24_224", 32),  # whose layer groups are a function
        ("resnet50", 32),
        ("wrn_28_2", 32),
        ("vit_tiny_patch2_32", 32),
        ("vit_small_patch16_224", 48),
    ],
)
def test_nets_train_with_layer_decay(name: str, size: int) -> None:
    """USB's `get_optimizer` reads layer groups and the names without weight decay off the whole net."""
    net = MultiLabelNet(build(name, img_size=size), "16", LABELS)
    groups = get_optimizer(net, "AdamW", lr=1.0, weight_decay=0.1, layer_decay=0.5).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    # The head learns fastest, and the first layer slowest.
    assert rates[id(net.head.weight)] == max(rates.values())
    first = next(p for p in net.backbone.parameters() if p.dim() > 1)
    assert rates[id(first)] == min(rates.values()) < max(rates.values())
    out = net(torch.rand(2, 3, size, size))
    out["logits"].sum().backward()
    assert all(p.grad is not None for p in net.head.parameters())
    assert first.grad is not None


def test_nets_without_layer_groups_say_so() -> None:
    for name in ("torchvision:resnet18", "timm:pit_ti_224"):
        net = MultiLabelNet(build(name, img_size=64), "none", LABELS)
        if name.startswith("timm"):
            assert hasattr(net.backbone.net, "group_matcher") is False
        with pytest.raises(NetError, match=naming("layer groups", "layer_decay to 1.0")):
            net.group_matcher()


def test_layer_groups_of_mlp_and_transformers(bert_dir: Path) -> None:
    """Names that USB's regular expressions put into a numbered group; biases of the same layer share it."""
    for net, expected in (
        (build("mlp:8 relu 8", in_features=4), {"0": 2, "2": 2}),
        (HFEncoder(str(bert_dir), pretrained=False), {"0": 16}),
    ):
        pattern = re.compile(net.group_matcher(prefix="backbone.")["blocks"])
        found = Counter(m[1] for name, _ in net.named_parameters() if (m := pattern.match(f"backbone.{name}")))
        assert found == expected


def test_building_draws_from_torch_only() -> None:
    """The same seed gives the same net, whatever the other generators did; they are left as they were."""
    for name in ("timm:vit_tiny_patch16_224", "torchvision:googlenet", "wrn_28_2"):
        before, other = random.getstate(), np.random.get_state()[1].copy()
        torch.manual_seed(1)
        one = build(name, img_size=32).state_dict()
        assert random.getstate() == before
        assert (np.random.get_state()[1] == other).all()
        torch.manual_seed(1)
        two = build(name, img_size=32).state_dict()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_usb_bert_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    monkeypatch.setattr(nets, "snapshot_download", absent)
    with pytest.raises(NetError, match=naming("bert_base_uncased", "hub cannot be reached", "hf:<folder>")):
        build("bert_base_uncased")


def test_usb_bert_trains_from_the_local_cache(bert_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    monkeypatch.setattr(nets, "snapshot_download", lambda repository, local_files_only: str(bert_dir))
    backbone = build("bert_base_uncased")
    backbone.num_features = 16  # USB's number is that of the full size
    net = MultiLabelNet(backbone, "8", LABELS)
    batch = {"input_ids": torch.tensor([[2, 6, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    net(batch)["logits"].sum().backward()
    assert backbone.bert.embeddings.word_embeddings.weight.grad is not None


def test_own_weights_of_a_library_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "hub_answers", lambda: False)
    monkeypatch.setattr(library, "answers", lambda url: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(
        NetError, match=naming("timm:resnet18", "local cache", "hub cannot be reached", "pretrain_path")
    ):
        build("timm:resnet18", pretrained=True)
    with pytest.raises(NetError, match=naming("torchvision:resnet18", tmp_path / "checkpoints", "pretrain_path")):
        build("torchvision:resnet18", pretrained=True)
    with pytest.raises(NetError, match=naming("use_pretrain", "pretrain_path is empty")):
        build("wrn_28_2", pretrained=True)
    monkeypatch.setattr("timm.get_pretrained_cfg_value", lambda name, key: None)
    with pytest.raises(NetError, match=naming("timm", "no weights", "resnet14t_nobody", "pretrain_path")):
        library._timm_weights("resnet14t_nobody")


def test_own_weights_from_the_local_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "hub_answers", lambda: pytest.fail("asked the hub"))
    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    path = str(tmp_path / "model.safetensors")
    monkeypatch.setattr("semilearn_bbam.nets.library.try_to_load_from_cache", lambda *args: path)
    net = build("timm:resnet18", pretrained=True)
    assert torch.equal(net.net.conv1.weight, source.conv1.weight)


def test_old_downloads_of_torch_hub_serve_both_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for asked in ("hub_answers", "answers"):
        monkeypatch.setattr(library, asked, lambda *args: pytest.fail("asked the hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    source = timm.create_model("resnet18")
    urls = timm.get_pretrained_cfg_value("resnet18", "url"), ResNet18_Weights.DEFAULT.url
    for url in urls:
        torch.save(source.state_dict(), tmp_path / "checkpoints" / url.rsplit("/", 1)[-1])
    monkeypatch.setattr("torch.hub.HASH_REGEX", re.compile("(no hash)"))  # the stand-in's is another
    monkeypatch.setattr("torch.hub._is_legacy_zip_format", lambda name: False)
    for name in ("timm:resnet18", "torchvision:resnet18"):
        assert torch.equal(build(name, pretrained=True).net.conv1.weight, source.conv1.weight)


def test_weights_of_a_path_reach_a_library_net_with_a_report(tmp_path: Path) -> None:
    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    for name in ("timm:resnet18", "torchvision:resnet18"):
        net = build(name, pretrained=True, path=str(tmp_path / "w.pth"))
        assert torch.equal(net.net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
        assert has_line(net.weights_report, "weights", "120 tensors", "2 of the file", "(fc.bias, fc.weight)")


@pytest.mark.parametrize(
    ("net", "kind"),
    [
        ("hf:x", "text"),
        ("bert_base_cased", "text"),
        ("plain", "features"),
        ("mlp:8", "features"),
        ("vgg", "image"),
    ],
)
def test_nets_read_their_own_kind_of_data_only(net: str, kind: str) -> None:
    nouns = {"text": "texts", "features": "vectors", "image": "images"}
    nets.check_input(net, kind)
    for other in nouns.keys() - {kind}:
        with pytest.raises(NetError, match=naming(f"net: {net} reads", f"dataset has {nouns[other]}", "set")):
            nets.check_input(net, other)
