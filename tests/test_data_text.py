from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from semilearn_bbam.data.dataset import DataError, Source
from semilearn_bbam.data.text import load_tokenizer, tokenize
from semilearn_bbam.util import hub
from tests.conftest import naming

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "heart", "attack", "in", "cats"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    wrapped = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    path = tmp_path_factory.mktemp("tokenizer")
    wrapped.save_pretrained(path)
    return path


def tiny() -> Source:
    train = ["heart attack in cats", "cats", "dogs in cats"]
    targets = np.ones((3, 1), dtype=np.float32)
    return Source("tiny", "text", train, targets, ["attack"], targets[:1], ("x",), "mark")


def test_texts_become_truncated_token_ids(folder: Path) -> None:
    source = tokenize(tiny(), load_tokenizer(str(folder)), max_length=5)
    assert [ids.tolist() for ids in source.train] == [[1, 4, 5, 6, 2], [1, 7, 2], [1, 3, 6, 7, 2]]
    assert [ids.tolist() for ids in source.test] == [[1, 5, 2]]
    assert source.fingerprint == "mark"
    assert source.targets is not None
    assert source.kind == "text"
    assert all(ids.dtype == np.int32 for ids in source.train)


def test_only_texts_are_tokenized(folder: Path) -> None:
    with pytest.raises(DataError, match=naming("'tiny'", "image data", "tokenizer")):
        tokenize(replace(tiny(), kind="image"), load_tokenizer(str(folder)), 5)


def test_ready_strong_texts_travel_with_their_text(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    texts = [("cats", "dogs"), (), ("dogs",)]
    source = tokenize(replace(tiny(), strong_texts=texts), tokenizer, 5)
    plain = tokenize(tiny(), tokenizer, 5)
    assert [len(item) for item in source.train] == [3, 1, 2]
    for item, ids, ready in zip(source.train, plain.train, texts, strict=True):
        assert np.array_equal(item[0], ids)
        for strong_ids, text in zip(item[1:], ready, strict=True):
            assert strong_ids.tolist() == tokenizer(text)["input_ids"]
    assert not isinstance(source.test[0], tuple)


def test_folders_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "none", "exist", "tokenizer.json")):
        load_tokenizer(str(tmp_path / "none"))
    with pytest.raises(DataError, match=naming(tmp_path, "cannot be used", "tokenizer.json")):
        load_tokenizer(str(tmp_path))


def test_unreachable_hub_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(DataError, match=naming("'no-such-owner/no-such-model'", "hub", "reached")):
        load_tokenizer("no-such-owner/no-such-model")
