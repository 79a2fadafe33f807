"""Every benchmark of `make bench` runs, at its smallest, and the table of results names what makes it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Words that make a benchmark small; the longer ones are marked slow.
SMALL = {
    "loss": ["--repeats", "1", "--no-compile"],
    "ranking_metrics": ["--repeats", "1", "--samples", "200"],
    "refresh": ["--repeats", "1", "--batch", "1"],
    "large_pool": ["--rows", "800", "--labels", "16", "--threads", "1"],
    "loading": ["--repeats", "1", "--workers", "0"],
    "image_parts": ["--repeats", "1"],
    "epoch": ["--repeats", "1", "--count", "100"],
    "distributed": ["--repeats", "1"],
    "step": ["--repeats", "1"],
    "online": ["--repeats", "1"],
}
FAST = ("loss", "ranking_metrics")


def names() -> dict[str, list[str]]:
    """BENCHMARKS of benchmarks/all.py."""
    spec = importlib.util.spec_from_file_location("all_benchmarks", ROOT / "benchmarks" / "all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.BENCHMARKS)


def test_results_are_those_of_the_benchmarks() -> None:
    assert names().keys() == SMALL.keys()
    for name, words in names().items():
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
        if words:
            path = Path(words[words.index("--out") + 1])
            assert path == Path("results/performance") / f"{name}.md"
            assert f"benchmarks/{name}.py" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in SMALL])
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SMALL[name]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "| --- |" in done.stdout or name == "ranking_metrics"
