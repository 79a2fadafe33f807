"""Settings are frozen once they are resolved, and a run writes nothing into them."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.config import Settings
from semilearn_bbam.run import read_settings, run
from tests.conftest import FEATURES, short_run


def test_settings_cannot_be_changed_but_copied() -> None:
    settings = Settings(lr=0.1, seed=1)
    with pytest.raises(AttributeError, match=r"having\(lr=..\)"):
        settings.lr = 0.2
    with pytest.raises(AttributeError, match="frozen"):
        del settings.lr
    assert settings.having(lr=0.2) == Settings(lr=0.2, seed=1)
    assert settings.lr == 0.1
    assert pickle.loads(pickle.dumps(settings)) == copy.deepcopy(settings) == settings


@pytest.mark.parametrize("algorithm", ["bbam", "dicap", "ml_softmatch"])
def test_two_runs_with_the_same_settings_are_equal(algorithm: str, features_dir: Path, tmp_path: Path) -> None:
    """The schedule follows from the data in both: a first run must not leave its steps in the settings."""
    own: dict[str, Any] = {"data_dir": features_dir, "label_ratio": 0.2, "num_train_iter": 0, "num_threads": 1}
    argv = short_run(FEATURES, tmp_path, algorithm=algorithm, overwrite="true", device="cpu", **own)
    settings = read_settings(argv)
    before = copy.deepcopy(vars(settings))
    first, second = run(settings), run(settings)
    assert vars(settings) == before
    assert first["steps"] == second["steps"]
    machine = {"seconds": 0, "memory": {}}
    assert json.dumps({**first, **machine}) == json.dumps({**second, **machine})
