"""Progress bars on a terminal, and none where a caller hides them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from semilearn_bbam.util.progress import bars_hidden, progress_bar, without_bars


@pytest.mark.parametrize("hidden", [False, True])
def test_bars_are_hidden_within(hidden: bool, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with without_bars(hidden):
        assert bars_hidden() is hidden
        with without_bars():
            assert bars_hidden()
        assert list(progress_bar([1, 2], "a title")) == [1, 2]
    assert not bars_hidden()
    assert ("a title" in capsys.readouterr().err) is not hidden


def test_without_a_terminal_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert bars_hidden()
