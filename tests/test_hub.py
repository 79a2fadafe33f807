from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from semilearn_bbam.util import hub
from semilearn_bbam.util.hub import Unavailable, hub_answers, load_local_or_hub
from tests.conftest import naming
from tests.processes import LIMIT


def absent(name: str, local: bool) -> str:
    raise OSError(f"{name} is not there.\nSecond line")


def test_folders_never_ask_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: pytest.fail("asked the hub"))
    assert load_local_or_hub(str(tmp_path), lambda name, local: f"{name} {local}") == f"{tmp_path} True"
    with pytest.raises(Unavailable, match=naming(tmp_path, "cannot be used", f"({tmp_path} is not there)")):
        load_local_or_hub(str(tmp_path), absent)
    for name in (str(tmp_path / "none"), "./none", "~/no such folder"):
        with pytest.raises(Unavailable, match=naming(Path(name).name, "exist")):
            load_local_or_hub(name, absent)


def test_the_cache_comes_before_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def load(name: str, local: bool) -> str:
        calls.append(local)
        if local:
            raise OSError
        return name

    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    assert load_local_or_hub("some/model", load) == "some/model"
    assert calls == [True, False]
    with pytest.raises(Unavailable, match=naming("'gone'", "downloaded", "(gone is not there)")):
        load_local_or_hub("gone", absent)
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(Unavailable, match=naming("'gone'", "local cache", "hub cannot be reached")):
        load_local_or_hub("gone", absent)
    assert load_local_or_hub("cached", lambda name, local: local) is True


def test_the_probe_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given_up, answered = threading.Event(), threading.Event(), threading.Event()

    def hang(*args: Any, **kwargs: Any) -> None:
        asked.set()
        given_up.wait(LIMIT)
        answered.set()
        raise ConnectionRefusedError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "TIMEOUT", 0.1)
    monkeypatch.setattr(urllib.request, "urlopen", hang)
    assert not hub_answers()
    assert asked.wait(LIMIT)
    assert not answered.is_set()
    given_up.set()


def test_the_probe_hears_answers_refusals_and_the_offline_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        def close(self) -> None: ...

    def not_found(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.HTTPError("url", 404, "not found", None, None)  # type: ignore[arg-type]

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for urlopen, expected in ((lambda *a, **k: Answer(), True), (not_found, True), (refuse, False)):
        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        assert hub_answers() is expected
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: Answer())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub_answers()
