"""No test can wait for ever: every wait has a limit, and so has every test, in xdist's workers too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW_LIMIT
from tests.processes import LIMIT, ROOT

TESTS = sorted(ROOT.glob("tests/**/*.py"))
# Share locks with the test process, or have no limit, or wait for a time instead of a state.
REFUSED = ("os.fork", "os.wait", "os.waitpid", "subprocess.call", "subprocess.check_call", "subprocess.check_output")
REFUSED += ("time.sleep",)
LIMITED = ("subprocess.run", "communicate")  # called with `timeout`
HANGING = """
import threading

def test_that_hangs():
    threading.Lock().acquire() and threading.Event().wait()

def test_that_comes_after():
    pass
"""


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_wait_has_a_limit(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        where = f"{path.name}:{node.lineno}: {called}"
        assert called not in REFUSED or path.name == "processes.py", f"{where}: see tests/processes.py"
        if called in LIMITED or called.rpartition(".")[2] in LIMITED:
            assert "timeout" in {keyword.arg for keyword in node.keywords}, f"{where} needs a timeout"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_test_that_hangs_fails_and_the_others_go_on(workers: int, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(HANGING)
    configuration = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *configuration, "-n", str(workers), "-o", "timeout=1", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "Timeout (>1.0s) from pytest-timeout" in done.stdout


def test_this_suite_has_a_limit(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> None:
    assert LIMIT < float(pytestconfig.getini("timeout")) <= 600
    assert request.node.get_closest_marker("timeout") is None


@pytest.mark.slow
def test_slow_tests_have_a_larger_limit(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("timeout").args == (SLOW_LIMIT,)
