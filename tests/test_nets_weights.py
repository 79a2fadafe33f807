from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from semilearn.nets import wrn_28_2
from torch import Tensor, nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.small import FeatureMLP, SmallCNN
from semilearn_bbam.nets.weights import find_weights, load_weights
from tests.conftest import has_line, naming


def write(form: str, folder: Path, content: dict[str, Tensor]) -> Path:
    """The same tensors in one of the forms that files have."""
    if form == "safetensors":
        save_file(content, folder / "w.safetensors")
        return folder / "w.safetensors"
    if form == "shards":
        names = list(content)
        for number, part in enumerate((names[::2], names[1::2])):
            save_file({name: content[name] for name in part}, folder / f"part{number}.safetensors")
        shard = {name: f"part{number % 2}.safetensors" for number, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shard}))
        return folder
    wrapped = {
        "plain": content,
        "data parallel": {"state_dict": {f"module.{name}": value for name, value in content.items()}},
        "checkpoint": {
            "model": {f"backbone.{name}": torch.zeros_like(value) for name, value in content.items()},
            "ema_model": {f"backbone.{name}": value for name, value in content.items()},
            "it": 3,
        },
        "folder": content,
    }
    name = "pytorch_model.bin" if form == "folder" else "w.pth"
    torch.save(wrapped[form], folder / name)
    return folder if form == "folder" else folder / name


@pytest.mark.parametrize("form", ["safetensors", "shards", "plain", "data parallel", "checkpoint", "folder"])
def test_fitting_tensors_are_loaded_from_every_form(form: str, tmp_path: Path) -> None:
    source, target = SmallCNN(1), SmallCNN(1)
    content = {**source.state_dict(), "classifier.weight": torch.zeros(2, 2)}
    report = load_weights(target, write(form, tmp_path, content))
    assert report.missing == report.misshapen == ()
    assert report.unused == ("classifier.weight",)
    assert report.loaded == len(source.state_dict())
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda w: w("_orig_mod."), ""),
        (lambda w: {"model": w("module._orig_mod.")}, "model"),
        (lambda w: {"state_dict": w("model._orig_mod.")}, "state_dict"),
        (lambda w: {"net": w(""), "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, "net"),
        (lambda w: {"student": w("", 0), "teacher": w("module.backbone.")}, "teacher"),
        (lambda w: {"encoder": w("")}, "encoder"),
        (lambda w: {"checkpoint": {"my_net": w("")}}, "checkpoint.my_net"),
    ],
)
def test_compiled_and_wrapped_weights_are_found(wrap: Any, key: str, tmp_path: Path) -> None:
    source, target = SmallCNN(1), SmallCNN(1)
    content = wrap(lambda prefix, factor=1: {f"{prefix}{name}": v * factor for name, v in source.state_dict().items()})
    torch.save(content, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert (report.loaded, report.missing, report.unused, report.key) == (len(source.state_dict()), (), (), key)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    assert not key or has_line(str(report), "w.pth", key)


def test_inserted_names_are_found_inside_too(tmp_path: Path) -> None:
    source, target = SmallCNN(1), SmallCNN(1)
    content = {name.replace("features.", "features._orig_mod."): value for name, value in source.state_dict().items()}
    assert content.keys() != source.state_dict().keys()
    torch.save(content, tmp_path / "w.pth")
    assert load_weights(target, tmp_path / "w.pth").loaded == len(content)


def test_two_state_dicts_of_unknown_names(tmp_path: Path) -> None:
    torch.save({"left": SmallCNN(1).state_dict(), "right": SmallCNN(1).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(NetError, match=naming("pretrain_path", tmp_path / "w.pth", "left", "right")):
        load_weights(SmallCNN(1), tmp_path / "w.pth")


def test_report_names_all_that_did_not_match(tmp_path: Path) -> None:
    content = SmallCNN(3).state_dict()
    first = next(iter(content))
    left_out = [key for key in content if key.endswith("bias")]
    torch.save({key: value for key, value in content.items() if key not in left_out}, tmp_path / "w.pth")
    report = load_weights(SmallCNN(1), tmp_path / "w.pth")
    assert report.misshapen == (first,)
    assert report.missing == tuple(sorted(left_out))
    assert report.loaded == len(content) - len(left_out) - 1
    assert has_line(str(report), f"{len(left_out)} without", f"({', '.join(sorted(left_out))})")
    assert has_line(str(report), "1 of another shape", f"({first})")


def test_order_takes_another_librarys_names(tmp_path: Path) -> None:
    source, target = SmallCNN(1), SmallCNN(1)
    content = {key.replace("features", "_blocks"): value for key, value in source.state_dict().items()}
    # Older files have no counters of batches, and another classifier.
    content = {key: value for key, value in content.items() if "num_batches" not in key}
    torch.save({**content, "_fc.weight": torch.zeros(5, 64)}, tmp_path / "w.pth")
    with pytest.raises(
        NetError, match=naming("pretrain_path", tmp_path / "w.pth", "SmallCNN", "pretrain_match: order")
    ):
        load_weights(target, tmp_path / "w.pth")
    load_weights(target, tmp_path / "w.pth", "order")
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key])


def test_order_leaves_out_the_classifier_of_usb_nets(tmp_path: Path) -> None:
    source, target = wrn_28_2(num_classes=5), wrn_28_2(num_classes=3)
    content = {
        f"other.{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(source.state_dict().items())
    }
    content = {key: value for key, value in list(content.items())[:-2]}
    torch.save({**content, "fc.weight": torch.zeros(5, 128), "fc.bias": torch.zeros(5)}, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth", "order")
    assert report.missing == report.misshapen == ()
    assert report.unused == ("fc.bias", "fc.weight")
    assert torch.equal(target.block3.layer[3].conv2.weight, source.block3.layer[3].conv2.weight)


def test_order_keeps_a_norm_inside_the_classifier(tmp_path: Path) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)

    content = {"features.0.weight": torch.ones(4, 3), "features.0.bias": torch.ones(4)}
    content |= {"classifier.0.weight": torch.full((4,), 2.0), "classifier.0.bias": torch.full((4,), 3.0)}
    content |= {"classifier.2.weight": torch.ones(5, 4), "classifier.2.bias": torch.ones(5)}
    torch.save(content, tmp_path / "w.pth")
    net = Normed()
    assert load_weights(net, tmp_path / "w.pth", "order").unused == ("classifier.2.bias", "classifier.2.weight")
    assert (net.norm.weight == 2).all()
    assert (net.norm.bias == 3).all()


def test_order_needs_a_file_that_keeps_it(tmp_path: Path) -> None:
    """Safetensors sort their tensors, so that a bias would come where the weight belongs."""
    for form in ("safetensors", "shards"):
        (tmp_path / form).mkdir()
        path = write(form, tmp_path / form, SmallCNN(1).state_dict())
        with pytest.raises(NetError, match=naming("pretrain_match: order", path, "no order", ".pth or .bin")):
            load_weights(SmallCNN(1), path, "order")
    shuffled = dict(sorted(SmallCNN(1).state_dict().items()))  # bias before weight, of the same shape
    torch.save(shuffled, tmp_path / "w.pth")
    with pytest.raises(
        NetError, match=naming("pretrain_match: order", "features.1.bias is (16,)", "net has features.1.weight, (16,)")
    ):
        load_weights(SmallCNN(1), tmp_path / "w.pth", "order")


@pytest.mark.parametrize("prefix", ["", "bert.", "encoder."])
def test_prefixes_of_transformers_do_not_matter(prefix: str, bert_dir: Path, tmp_path: Path) -> None:
    source = HFEncoder(str(bert_dir), pretrained=True)
    content = {f"{prefix}{key}": value for key, value in source.encoder.state_dict().items()}
    save_file({**content, "cls.bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    target = HFEncoder(str(bert_dir), pretrained=False)
    report = load_weights(target, tmp_path / "w.safetensors")
    assert report.missing == ()
    assert report.unused == ("cls.bias",)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """A cut or overwritten file is one sentence, whatever the libraries raise."""
    path = tmp_path / "w.pth"
    torch.save(SmallCNN(1).state_dict(), path)
    whole = path.read_bytes()
    torch.save(SmallCNN(1).state_dict(), path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    save_file(SmallCNN(1).state_dict(), tmp_path / "w.safetensors")
    safe = (tmp_path / "w.safetensors").read_bytes()
    draw = random.Random(0)
    for content, name in ((whole, "d.pth"), (legacy, "d.bin"), (safe, "d.safetensors")):
        for _ in range(40):
            size = draw.randrange(len(content))
            junk = bytes(draw.randrange(256) for _ in range(20))
            (tmp_path / name).write_bytes(draw.choice((content[:size], junk + content[20:], junk)))
            with pytest.raises(NetError, match=naming("pretrain_path", tmp_path / name)):
                load_weights(SmallCNN(1), tmp_path / name)


def test_order_is_strict(tmp_path: Path) -> None:
    content = {key: value for key, value in SmallCNN(1, widths=(16, 32, 63)).state_dict().items()}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(
        NetError, match=naming("features.8.weight is (63, 32, 3, 3)", "features.8.weight, (64, 32, 3, 3)")
    ):
        load_weights(SmallCNN(1), tmp_path / "w.pth", "order")
    torch.save(dict(list(SmallCNN(1).state_dict().items())[:-3]), tmp_path / "w.pth")
    with pytest.raises(NetError, match=naming("pretrain_match: order", "13 tensors", "net 15")):
        load_weights(SmallCNN(1), tmp_path / "w.pth", "order")


def test_a_run_starts_from_another_runs_averaged_weights(
    train: Callable[..., Any], features_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")  # pytest takes the place of the set-up that a run gives to logging
    options = {"data_dir": features_dir, "net": "mlp:8 relu 6", "epoch": 1, "warmup_epochs": 1}
    _, folder = train("bbam_ohsumed_features.yaml", **options, save_name="first")
    checkpoint = folder / "latest_model.pth"
    net = FeatureMLP(12, "8 relu 6")
    report = load_weights(net, checkpoint)
    assert report.missing == report.misshapen == ()
    assert "head.weight" in report.unused
    averaged = torch.load(checkpoint, weights_only=True)["ema_model"]
    assert torch.equal(net.layers[2].weight, averaged["backbone.layers.2.weight"])
    _, second = train(
        "bbam_ohsumed_features.yaml", **options, save_name="second", use_pretrain=True, pretrain_path=checkpoint
    )
    assert str(report) in (second / "log.txt").read_text(encoding="utf-8")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(Trap.marker), "w")


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    torch.save({"another.net": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("no tensors")
    Trap.marker = tmp_path / "ran"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Trap()))
    for name, message in (
        ("other.pth", ("no tensor", "SmallCNN", "pretrain_match: order")),
        ("empty.pth", ("no tensors", "state dict")),
        ("list.pth", ("no tensors", "state dict")),
        ("text.safetensors", ("loaded safely", "state dict")),
        ("evil.pth", ("loaded safely", "state dict")),
        ("none.pth", ("no file or folder",)),
    ):
        with pytest.raises(NetError, match=naming("pretrain_path", tmp_path / name, *message)):
            load_weights(SmallCNN(1), tmp_path / name)
    assert not Trap.marker.exists()


def test_folders_must_be_clear(tmp_path: Path) -> None:
    with pytest.raises(NetError, match=naming("pretrain_path", tmp_path, "no weights file", "name one file")):
        find_weights(tmp_path)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(NetError, match=naming("pretrain_path", tmp_path, "a.pth, b.pth", "name one file")):
        find_weights(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert find_weights(tmp_path) == [tmp_path / "model.safetensors"]
    index = tmp_path / "model.safetensors.index.json"
    for content, message in (
        ('{"weight_map": {"x": "gone.safetensors"}}', ("names gone.safetensors", "restore")),
        ('{"weight_map": {"x": "../a.pth"}}', ("names ../a.pth", "restore")),
        ("[]", ("not an index", "restore")),
        ("no json", ("not an index", "restore")),
    ):
        index.write_text(content)
        with pytest.raises(NetError, match=naming("pretrain_path", index, *message)):
            find_weights(tmp_path)
