"""The built packages install and run as a user has them: elsewhere, offline, without a GPU, writing nothing inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam import __version__
from semilearn_bbam.__main__ import COMMANDS
from tests.conftest import FEATURES, arguments, has_line
from tests.processes import LIMIT
from tests.test_train_cli import SHORT

ROOT = Path(__file__).parents[1]
THEIRS = Path(next(path for path in sys.path if path.endswith("site-packages")))
NO_NETWORK = """
import socket

def refuse(self, address, *rest):
    raise OSError(f"no network here, not even to {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""
SHORT_COMMAND = "--algorithm bbam --dataset digits --net small_cnn --label_ratio 0.1".split()
pytestmark = pytest.mark.slow


def call(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WANDB", "VIRTUAL"))}
    return subprocess.run(
        command,
        cwd=folder,
        env=clean | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of a clean copy of the tree."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    at_the_top = shutil.ignore_patterns(".git", ".venv", "build", "dist", "results", "saved_models", "runs")
    everywhere = shutil.ignore_patterns("*.egg-info", "__pycache__")

    def ignored(folder: str, names: list[str]) -> set[str]:  # semilearn_bbam/runs is a package
        return everywhere(folder, names) | (at_the_top(folder, names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignored)
    out = tmp_path_factory.mktemp("dist")
    code = (
        "import sys; from setuptools import build_meta as build; out = sys.argv[1];"  # which the build changes
        "print(build.build_wheel(out), build.build_sdist(out))"
    )
    done = call([sys.executable, "-c", code, str(out)], copy)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
def environment(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Python of a new environment into which pip installed the package; and its site-packages.

    What the package needs is not installed again, but found beside.
    """
    home = tmp_path_factory.mktemp("environment") / "venv"
    assert call([sys.executable, "-m", "venv", str(home)], built).returncode == 0
    python = home / "bin" / "python"
    site = next(home.glob("lib/python*/site-packages"))
    tools = tmp_path_factory.mktemp("tools")
    for path in THEIRS.iterdir():
        if path.name.startswith(("setuptools", "wheel", "_distutils_hack")):
            (tools / path.name).symlink_to(path)
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    package = next(built.glob(request.param))
    done = call([str(python), "-m", "pip", "install", *options, str(package)], built, PYTHONPATH=str(tools))
    assert done.returncode == 0, done.stderr
    (site / "beside.pth").write_text(f"{THEIRS}\n")
    found = call([str(python), "-c", "import semilearn_bbam; print(semilearn_bbam.__file__)"], built)
    assert str(site) in found.stdout, found.stdout + found.stderr
    return python, site


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_it_trains_elsewhere_and_writes_nothing_inside(
    environment: tuple[Path, Path], features_dir: Path, tmp_path: Path
) -> None:
    python, site = environment
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / "sitecustomize.py").write_text(NO_NETWORK)
    settings = SHORT | {"data_dir": features_dir, "save_dir": "runs", "save_name": "a", "device": "cpu"}
    before, theirs = state(site), state(THEIRS / "semilearn")
    for path in site.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    site.chmod(0o555)
    try:
        done = call(
            [str(python), "-B", "-m", "semilearn_bbam", "train", *arguments(FEATURES, **settings)],
            tmp_path,
            PYTHONPATH=str(tmp_path / "offline"),
            CUDA_VISIBLE_DEVICES="",
            HOME=str(tmp_path / "home"),
        )
    finally:
        site.chmod(0o755)
        for path in site.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert "| bbam " in done.stdout
    assert (tmp_path / "runs" / "a" / "results.json").is_file()
    assert {path: found[0] for path, found in state(site).items()} == {path: found[0] for path, found in before.items()}
    assert state(THEIRS / "semilearn") == theirs


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "semilearn_bbam").rglob("*.py")}
    assert modules <= set(names)
    page = (ROOT / "semilearn_bbam" / "report" / "page").iterdir()
    assert {str(path.relative_to(ROOT)) for path in page if path.suffix in (".j2", ".css", ".js")} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"semilearn_bbam"}


@pytest.fixture
def stubs(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A folder with packages of the given versions that stand in for those installed."""

    def make(versions: dict[str, str]) -> Path:
        for name, number in versions.items():
            info = tmp_path / "stubs" / f"{name.replace('-', '_')}-{number}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        return tmp_path / "stubs"

    return make


def test_every_command_is_there_after_pip_install(environment: tuple[Path, Path], tmp_path: Path) -> None:
    door = environment[0].with_name("semilearn-bbam")
    shown = call([str(door), "--help"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    for name in COMMANDS:
        assert f"  {name} " in shown.stdout
        done = call([str(door), name, "--help"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert "--help" in done.stdout
    assert call([str(door), "--version"], tmp_path).stdout.split() == ["semilearn-bbam", __version__]


def test_the_version_stands_in_one_place(built: Path) -> None:
    names = [path.name for path in built.iterdir()]
    assert len(names) == 2
    assert all(f"-{__version__}" in name for name in names)


def test_the_doctor_is_content_here(environment: tuple[Path, Path], tmp_path: Path) -> None:
    done = call([str(environment[0]), "-m", "semilearn_bbam", "doctor", "--imports"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("python 3.", "semilearn 0.3.2", "torch ", "cpu: ", "all required packages import"):
        assert word in done.stdout
    assert "conflict" not in done.stdout


def test_without_torchaudio_it_trains_and_the_doctor_says_so(
    environment: tuple[Path, Path], stubs: Callable[[dict[str, str]], Path], features_dir: Path, tmp_path: Path
) -> None:
    folder = stubs({"torchaudio": "2.9.0"})
    (folder / "torchaudio.py").write_text("raise OSError('undefined symbol')\n")
    python = str(environment[0])
    done = call([python, "-m", "semilearn_bbam", "doctor", "--imports"], tmp_path, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert has_line(done.stdout, "torchaudio 2.9.0", "undefined symbol", "audio parts", "pip install")
    assert "all required packages import" in done.stdout
    settings = SHORT | {"data_dir": features_dir, "save_dir": "runs", "save_name": "a", "device": "cpu"}
    words = arguments(FEATURES, **settings)
    done = call([python, "-m", "semilearn_bbam", "train", *words], tmp_path, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "a" / "results.json").is_file()


def test_the_doctor_runs_where_the_framework_does_not_import(environment: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "timm.py").write_text("raise OSError('undefined symbol')\n")
    python = str(environment[0])
    done = call([python, "-m", "semilearn_bbam", "doctor", "--imports"], tmp_path, PYTHONPATH=str(folder))
    assert done.returncode == 1
    assert has_line(done.stdout, "timm fails", "OSError", "undefined symbol")
    assert "pip install" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    words = [*SHORT_COMMAND, "--save_dir", str(tmp_path / "runs")]
    done = call([python, "-m", "semilearn_bbam", "train", *words], tmp_path, PYTHONPATH=str(folder))
    assert done.returncode == 2
    assert "semilearn-bbam doctor --imports" in done.stderr
    assert "undefined symbol" in done.stderr
    assert "Traceback" not in done.stderr
