"""The one door: every command, its help, its exit codes, and what it may cost to answer."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semilearn_bbam import __version__
from semilearn_bbam.__main__ import COMMANDS, call, main
from semilearn_bbam.commands import AFTER, ALONE, ANYWHERE, NOWHERE
from semilearn_bbam.errors import Interrupted, UserError
from tests.conftest import CONFIGS

ROOT = Path(__file__).parents[1]
COMMAND_FILES = {path.stem for path in (ROOT / "semilearn_bbam" / "commands").glob("*.py")} - {"__init__"}
LIMIT = 2.0  # seconds in which help, doctor and a typo are answered


def test_the_table_lists_every_file_once() -> None:
    assert sorted(module for module, _ in COMMANDS.values()) == sorted(COMMAND_FILES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_same_shape(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"semilearn_bbam.commands.{COMMANDS[name][0]}")
    assert module.OPTIONS in (NOWHERE, ANYWHERE, AFTER, ALONE)
    assert module.INTERRUPTED
    assert module.__doc__
    with pytest.raises(SystemExit) as done:
        main([name, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: " in shown
    assert "--help" in shown


@pytest.mark.parametrize("look", ["check", "browse"])
def test_both_looks_at_data_have_help(look: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["data", look, "--help"])
    assert done.value.code == 0
    assert f"semilearn-bbam data {look}" in capsys.readouterr().out


def test_the_help_of_the_whole_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["semilearn-bbam", __version__]
    assert main([]) == 2
    assert "train" in capsys.readouterr().err


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["comparre", "x"]) == 2
    assert "compare" in capsys.readouterr().err


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`made_up(work, options)`: the command `plot` replaced by one that does this work."""

    def make(work: Any, options: str = NOWHERE) -> None:
        module = ModuleType("semilearn_bbam.commands.plot", "Do as the test says.")
        module.OPTIONS, module.INTERRUPTED, module.run = options, "go on later", work  # type: ignore[attr-defined]

        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("name")
            parser.add_argument("--own")

        module.add_arguments = add_arguments  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return make


def raiser(error: BaseException) -> Any:
    def work(chosen: argparse.Namespace, options: Sequence[str]) -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("key x is wrong"), 2, "semilearn-bbam plot: key x is wrong"),
        (Interrupted("saved at step 3"), 130, "semilearn-bbam plot: saved at step 3"),
        (KeyboardInterrupt(), 130, "semilearn-bbam plot: go on later"),
    ],
)
def test_every_end_has_its_exit_code(
    error: BaseException, status: int, message: str, made_up: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up(raiser(error))
    assert main(["plot", "x"]) == status
    assert capsys.readouterr().err.strip() == message
    assert call("plot", ["x"], "plot.py") == status
    assert capsys.readouterr().err.startswith("plot.py: ")


def test_a_fault_of_the_program_is_not_hidden(made_up: Any) -> None:
    made_up(raiser(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["plot", "x"])


@pytest.mark.parametrize(
    ("where", "words", "expected"),
    [
        (NOWHERE, ["x", "--own", "1"], ("x", "1", [])),
        (NOWHERE, ["x", "--other", "1"], None),
        (NOWHERE, ["--", "-x"], ("-x", None, [])),
        (ANYWHERE, ["x", "--other", "-0.5", "--own", "1"], ("x", "1", ["--other", "-0.5"])),
        (AFTER, ["x", "--own", "1", "--", "--own", "2"], ("x", "1", ["--own", "2"])),
        (AFTER, ["x", "--other", "1"], None),
    ],
)
def test_settings_of_a_run_are_told_from_own_arguments(
    where: str, words: list[str], expected: tuple[str, str, list[str]] | None, made_up: Any
) -> None:
    seen: list[Any] = []

    def work(chosen: argparse.Namespace, options: Sequence[str]) -> int:
        seen.append((chosen.name, chosen.own, list(options)))
        return 0

    made_up(work, where)
    if expected is None:
        with pytest.raises(SystemExit) as done:
            main(["plot", *words])
        assert done.value.code == 2
    else:
        assert main(["plot", *words]) == 0
        assert seen == [expected]


DIGITS = ["--c", str(CONFIGS / "bbam_digits.yaml")]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--help"], 0, "commands:"),
        (["doctor"], 0, "torch "),
        (["train", *DIGITS, "--etaa", "3"], 2, "'eta'"),
        (["train", *DIGITS, "--algorithm", "bbamm"], 2, "bbam"),
        (["train", "--help"], 0, "--label_ratio"),
        (["data", "check", *DIGITS, "--etaa", "3"], 2, "'eta'"),
    ],
    ids=lambda value: " ".join(value[:1] + value[3:4]) if isinstance(value, list) else None,
)
def test_quick_answers_load_no_torch_and_take_two_seconds(words: list[str], status: int, message: str) -> None:
    code = (
        "import sys; from semilearn_bbam.__main__ import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'semilearn', 'numpy', 'timm'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(3):  # the fastest, since other processes may keep the machine busy
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=60
        )
        seconds.append(time.perf_counter() - began)
        assert done.returncode == status, done.stderr
        assert message in done.stdout + done.stderr
        if seconds[-1] < LIMIT:
            break
    assert min(seconds) < LIMIT
