from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.engine import compiling
from semilearn_bbam.errors import UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.runs.folder import LATEST
from tests.conftest import FEATURES, batches, naming

needs_compiler = pytest.mark.skipif(not compiling.can_compile(torch.device("cpu")), reason="no C++ compiler")


@needs_compiler
def test_a_compiled_step_is_the_same_but_for_rounding(build: Any) -> None:
    results = []
    for name in ("false", "true"):
        algorithm = build(refresh=True, compile=name, save_name=name, strong="none")
        batch = batches(algorithm)
        out, _ = algorithm.train_step(**batch)
        out["loss"].backward()
        results.append((out["loss"].detach(), {key: p.grad for key, p in algorithm.model.named_parameters()}))
    (loss, gradients), (compiled_loss, compiled_gradients) = results
    torch.testing.assert_close(compiled_loss, loss)
    assert compiled_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[key], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.slow  # the compiler takes a minute
@needs_compiler
def test_a_compiled_run_has_the_same_keys_resumes_and_predicts(train: Any, features_dir: Path) -> None:
    options = {"data_dir": features_dir, "label_ratio": 0.2}
    _, plain = train(FEATURES, save_name="plain", **options)
    _, compiled = train(FEATURES, save_name="compiled", compile="true", **options)
    keys = [torch.load(folder / LATEST, weights_only=True) for folder in (plain, compiled)]
    for part in ("model", "ema_model"):
        assert keys[0][part].keys() == keys[1][part].keys()
    train(FEATURES, save_name="compiled", resume="true", epoch=4, num_train_iter=12, **options)  # goes on without
    assert load_run(compiled).scores(torch.zeros(3, 12).numpy()).shape == (3, 7)


def test_without_a_compiler_one_sentence_says_so(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise compiling.InvalidCxxCompiler

    monkeypatch.setattr(compiling, "get_cpp_compiler", none)
    with pytest.raises(UserError, match=naming("compile: true", "C++ compiler", "g++", "compile: false")):
        build(compile="true")
