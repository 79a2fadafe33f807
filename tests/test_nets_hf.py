"""`hf:` folders as people have them: without a tokenizer, with another net's weights, with few positions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    GPT2Config,
    ModernBertConfig,
    NystromformerConfig,
    OPTConfig,
    RobertaConfig,
    T5Config,
)

import train as front_door
from semilearn_bbam.data.text import load_tokenizer
from semilearn_bbam.engine.preprocessing import Preprocessor
from semilearn_bbam.errors import NetError, UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.limits import most_tokens, vocabulary_size
from tests.conftest import WORDS, has_line, naming, settings

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
STACKS = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
STACKS |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
HALF_WIDE = {"hidden_size": 16, "word_embed_proj_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS: dict[str, Callable[..., Any]] = {
    "bert": lambda: BertConfig(vocab_size=16, max_position_embeddings=20, **SMALL),
    "roberta": lambda: RobertaConfig(vocab_size=16, max_position_embeddings=22, pad_token_id=1, **SMALL),
    "gpt2": lambda: GPT2Config(vocab_size=16, n_positions=20, n_embd=16, n_layer=1, n_head=2),
    "bart": lambda: BartConfig(vocab_size=16, max_position_embeddings=20, **STACKS),
    "opt": lambda: OPTConfig(vocab_size=16, max_position_embeddings=20, ffn_dim=16, **HALF_WIDE),
    "nystromformer": lambda: NystromformerConfig(
        vocab_size=16, max_position_embeddings=20, num_landmarks=2, segment_means_seq_len=2, **SMALL
    ),
    "t5": lambda: T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_decoder_layers=1, num_heads=2),
    "modernbert": lambda: ModernBertConfig(
        vocab_size=16, max_position_embeddings=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, **SMALL
    ),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)
            AutoModel.from_config(CONFIGS[kind]()).save_pretrained(folders[kind])
        return folders[kind]

    return build


@pytest.fixture
def folder_of(built: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`folder_of(kind)`: a folder with config and weights of a net of this kind, without a tokenizer."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(built(kind), tmp_path / kind))

    return copy


def with_words(folder: Path, words: list[str] = VOCABULARY) -> Path:
    """Add BERT's tokenizer of these words."""
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


# ---------------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "t5", "bart", "opt"])
def test_an_empty_tokenizer_is_refused(kind: str, folder_of: Any) -> None:
    """transformers builds it from nothing: every text becomes empty or unknown."""
    folder = folder_of(kind)
    with pytest.raises(UserError, match=naming("tokenizer", folder, "tokenizer.json")):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_the_command_names_the_folder(
    kind: str, folder_of: Any, ohsumed_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(kind)
    argv = ["--c", "config/bbam_ohsumed.yaml", "--data_dir", str(ohsumed_dir), "--net", f"hf:{folder}"]
    argv += ["--label_ratio", "0.4", "--save_dir", str(tmp_path), "--save_name", "run"]
    assert front_door.main(argv) == 2
    assert has_line(capsys.readouterr().err, "tokenizer", folder, "vocabulary")
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_knows_no_word_of_the_data(folder_of: Any, ohsumed_dir: Path, train: Any) -> None:
    folder = with_words(folder_of("bert"), [*VOCABULARY[:5], "nothing", "of", "these"])
    with pytest.raises(UserError, match=naming("tokenizer", "'ohsumed'", "known")):
        train("bbam_ohsumed.yaml", data_dir=ohsumed_dir, net=f"hf:{folder}", label_ratio=0.4)


def test_many_unknown_word_pieces_are_said(folder_of: Any, ohsumed_dir: Path, train: Any) -> None:
    folder = with_words(folder_of("bert"), VOCABULARY[:8])
    _, run = train("bbam_ohsumed.yaml", data_dir=ohsumed_dir, net=f"hf:{folder}", label_ratio=0.4)
    assert has_line((run / "log.txt").read_text(), "unknown to the tokenizer")


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_net_without_a_token_for_padding(kind: str, folder_of: Any, ohsumed_dir: Path, train: Any) -> None:
    """The end of a text pads then; what pads has no effect."""
    words = {word: number for number, word in enumerate([*WORDS, *".abcdef", "<|endoftext|>"])}
    folder = folder_of(kind)
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    preprocessor = Preprocessor.of(settings(net=f"hf:{folder}"), "text")
    assert preprocessor.tokenizer.pad_token_id is None
    batch = preprocessor.views["eval"]([np.array([1]), np.array([1, 2, 3])])
    assert batch["input_ids"].tolist() == [[1, 15, 15], [1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    results, _ = train("bbam_ohsumed.yaml", data_dir=ohsumed_dir, net=f"hf:{folder}", label_ratio=0.4)
    assert results["steps"] == 8


def test_a_tokenizer_with_more_tokens_than_the_net(folder_of: Any) -> None:
    folder = with_words(folder_of("bert"), [*VOCABULARY, *"abcdef"])
    net = HFEncoder(str(folder), pretrained=False)
    with pytest.raises(NetError, match=naming("net", f"hf:{folder}", 16, 4, 20)):
        Preprocessor.of(settings(net=f"hf:{folder}"), "text", net)
    assert vocabulary_size(net) == 16


# ---------------------------------------------------------------------- lengths and widths


@pytest.mark.parametrize(
    ("kind", "tokens", "width"),
    [
        ("bert", 20, 16),
        ("roberta", 20, 16),  # of 22 positions
        ("gpt2", 20, 16),
        ("bart", 20, 16),
        ("opt", 20, 8),  # its config calls 16 the width
        ("nystromformer", 20, 16),
        ("t5", None, 16),
        ("modernbert", None, 16),
    ],
)
def test_most_tokens_and_width_are_those_of_the_net(kind: str, tokens: int | None, width: int, folder_of: Any) -> None:
    net = HFEncoder(str(folder_of(kind)), pretrained=True).eval()
    assert (most_tokens(net), net.num_features) == (tokens, width)

    def features(length: int) -> torch.Tensor:
        ids = torch.full((2, length), 5)
        return net({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    assert features(tokens or 40).shape == (2, width)
    if tokens:
        with pytest.raises((RuntimeError, IndexError)):
            features(tokens + 1)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_longer_texts_are_cut_and_that_is_said(kind: str, folder_of: Any, train: Any, tmp_path: Path) -> None:
    rows = [{"text": f"{WORDS[i % 8]} {WORDS[i % 3]}", "labels": [WORDS[i % 3]]} for i in range(30)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "pool.txt").write_text("\n".join(["heart liver"] * 9 + ["heart " * 50]))
    folder = with_words(folder_of(kind))
    files = {"data_dir": tmp_path, "manifest": "train.jsonl", "unlabeled": "pool.txt", "dataset": "manifest"}
    changes = {**files, "net": f"hf:{folder}", "label_ratio": 0.4, "max_length": 512, "use_pretrain": "true"}
    _, run = train("bbam_ohsumed.yaml", **changes)
    log = (run / "log.txt").read_text()
    assert has_line(log, "20 tokens", "max_length 512")
    assert has_line(log, "weights:", 21, folder)
    predictor = load_run(run, "cpu")
    scores = predictor.scores(["heart " * 50, "heart " * 18])
    assert np.array_equal(scores[0], scores[1])  # both are cut to 20 tokens


def test_a_length_that_fits_is_not_mentioned(folder_of: Any) -> None:
    folder = with_words(folder_of("bert"))
    net = HFEncoder(str(folder), pretrained=False)
    for length, notes in ((20, 0), (21, 1)):
        preprocessor = Preprocessor.of(settings(net=f"hf:{folder}", max_length=length), "text", net)
        assert (preprocessor.max_length, len(preprocessor.notes)) == (20, notes)


def test_of_encoder_and_decoder_the_encoder_is_used(folder_of: Any) -> None:
    folder = folder_of("t5")
    net = HFEncoder(str(folder), pretrained=True)
    file = load_file(folder / "model.safetensors")
    assert not any("decoder" in name for name in net.state_dict())
    for name, value in net.state_dict().items():
        stored = name if "embed_tokens" not in name else "shared.weight"
        assert torch.equal(value, file[stored]), name


# ---------------------------------------------------------------------- weights


def rewritten(folder: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of a folder with changed tensors."""
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    save_file(change(load_file(folder / "model.safetensors")), target / "model.safetensors", {"format": "pt"})
    return target


def test_weights_that_fit_nothing_are_an_error(folder_of: Any, tmp_path: Path) -> None:
    """transformers leaves the net at random weights and goes on."""
    folder = rewritten(
        folder_of("bert"), tmp_path / "renamed", lambda file: {f"foo.bar.{name}": v for name, v in file.items()}
    )
    with pytest.raises(NetError, match=naming("net", folder, "BertModel", "foo.bar.embeddings.LayerNorm.bias")):
        HFEncoder(str(folder), pretrained=True)
    HFEncoder(str(folder), pretrained=False)


def test_what_did_not_fit_is_in_the_report(folder_of: Any, tmp_path: Path) -> None:
    lost = "encoder.layer.0.output.dense.weight"
    folder = rewritten(
        folder_of("bert"),
        tmp_path / "partly",
        lambda file: {
            (name if name != lost else "extra.weight"): v for name, v in file.items() if "pooler" not in name
        },
    )
    report = HFEncoder(str(folder), pretrained=True).weights_report
    assert has_line(report, "20 tensors", folder, "1 without", lost, "1 of the file", "extra.weight")
    assert "pooler" not in report  # which is not used


def test_random_weights_of_a_net_that_has_others_are_said(
    train: Any, ohsumed_dir: Path, bert_dir: Path, tmp_path: Path
) -> None:
    changes = {"data_dir": ohsumed_dir, "label_ratio": 0.4}
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "vocab.txt"):
        (bare / name).write_text((bert_dir / name).read_text())
    for net, pretrained, said in (
        (bert_dir, "false", True),
        (bert_dir, "true", False),
        (bare, "false", False),
    ):
        _, run = train("bbam_ohsumed.yaml", net=f"hf:{net}", overwrite="true", use_pretrain=pretrained, **changes)
        lines = (run / "log.txt").read_text()
        assert has_line(lines, "WARNING", "net", "random", f"'hf:{net}'", "use_pretrain") is said


def test_an_encoder_is_checked_too(folder_of: Any, ohsumed_dir: Path, train: Any, tmp_path: Path) -> None:
    folder = with_words(folder_of("bert"), [*VOCABULARY, *"abcdef"])
    changes = {"data_dir": ohsumed_dir, "net": "plain", "label_ratio": 0.4, "cache_dir": tmp_path / "cache"}
    with pytest.raises(UserError, match=naming("net", f"hf:{folder}", 16, 4, 20)):
        train("bbam_ohsumed.yaml", encoder=f"hf:{folder}", use_pretrain="false", **changes)
    with pytest.raises(UserError, match=naming("tokenizer", folder_of("gpt2"))):
        train("bbam_ohsumed.yaml", encoder=f"hf:{tmp_path / 'gpt2'}", use_pretrain="false", **changes)
