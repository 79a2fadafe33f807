"""The front page and the documents: its size, its commands, its Python, their links and their included tables."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from semilearn_bbam.report.methods import MARK
from tests.test_syntax_trees import FLOORS, SOURCES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
SHELL = [line.split(" #")[0].strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
         for line in block.splitlines()]  # fmt: skip
OWN_DATA, AFTERWARDS = re.findall(r"```sh\n(.*?)```", README.partition("## Your own data")[2], re.DOTALL)[:2]
OWN_YAML = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
TRAINING = re.findall(r"^ {4}(python train\.py .*)$", (ROOT / "docs" / "training.md").read_text("utf-8"), re.MULTILINE)
TRAINS = ("python train.py", "semilearn-bbam train", "semilearn-bbam data check")
SETTINGS = [line for line in [*SHELL, *TRAINING] if line.startswith(TRAINS) and "<method>" not in line]
COMMANDS = [line for line in SHELL if line.startswith("semilearn-bbam")]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# docs/broken_inputs.md quotes the program.
WORDED = [path for path in PAGES if path.name != "broken_inputs.md"]
WORDS = r"told|said|mends?|heard|nobody|beside|stands|lies|of its own|for want of"


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A page without code and formulas."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"^ {4,}.*$|`[^`]*`|\$[^$]*\$", "", text, flags=re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings get on GitHub."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------------- the front page


def test_the_front_page_is_at_most_7_kilobytes() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 7 * 1024


def test_own_data_and_python_take_five_lines_each() -> None:
    assert len(OWN_YAML.splitlines()) == 5
    assert len(OWN_DATA.splitlines()) == 4
    assert [len([line for line in block.splitlines() if line]) for block in PYTHON] == [5]
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == 1
    assert len(MARK.findall(README)) == 1


def test_every_line_of_shell_is_of_a_known_kind() -> None:
    kinds = ("make ", "source ", "semilearn-bbam ", "python train.py ")
    assert not [line for line in SHELL if not line.startswith(kinds)]
    assert len(SETTINGS) > 6


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {line.split()[1] for line in SHELL if line.startswith("make ")}
    assert {"install", "demo", "test"} <= named <= targets


@pytest.mark.parametrize("line", SETTINGS)
def test_a_training_command_gives_settings(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key, value and file of it; <..> is a folder of the reader's, own.yaml the lines before it."""
    from semilearn_bbam.run import read_settings

    words = shlex.split(re.sub(r"<[^>]*>", str(tmp_path), line))
    first = next(number for number, word in enumerate(words) if word.startswith("--"))
    monkeypatch.chdir(ROOT if "config/" in line else tmp_path)
    if "own.yaml" in line:
        (tmp_path / "own.yaml").write_text(OWN_YAML, encoding="utf-8")
    settings = read_settings(words[first:])
    assert settings.algorithm
    assert settings.dataset


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith(TRAINS)])
def test_a_command_exists_with_the_keys_that_are_printed(line: str) -> None:
    _, command, *words = shlex.split(line)
    done = subprocess.run(
        [sys.executable, "-m", "semilearn_bbam", command, "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for word in words:
        assert not word.startswith("--") or re.search(rf"{word}\b", done.stdout), word


def test_the_python_uses_names_that_exist() -> None:
    """Imported names, and attributes of what `load_run` gives."""
    tree = ast.parse(PYTHON[0])
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    predictor = importlib.import_module("semilearn_bbam.inference").Predictor
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert used == {"scores", "predict"}
    assert all(hasattr(predictor, name) for name in used)


@pytest.mark.slow
def test_the_five_lines_run_as_they_are_printed(tmp_path: Path) -> None:
    """With a folder of a few pictures and a CSV, and the Python after them; the weights are random."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(1, 61):
        pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.jpg")
    rows = [f"{index}.jpg,{('dog', 'bird', 'dog bird')[index % 3]}" for index in range(1, 31)]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["image,tags", *rows, ""]), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN_YAML, encoding="utf-8")
    weights = tmp_path / "hub" / "checkpoints"  # where torchvision keeps what it has downloaded
    weights.mkdir(parents=True)
    url = torchvision.models.get_model_weights("resnet50").DEFAULT.url
    torch.save(torchvision.models.resnet50().state_dict(), weights / url.rpartition("/")[2])
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "semilearn-bbam"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m semilearn_bbam "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env |= {"TORCH_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(["sh", "-ec", OWN_DATA], cwd=tmp_path, env=env, check=True, timeout=900)
    assert (tmp_path / "saved_models" / "own" / "results.json").is_file()
    assert len((tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 61
    assert list((tmp_path / "figures").glob("*.png"))
    subprocess.run(["sh", "-ec", AFTERWARDS], cwd=tmp_path, env=env, check=True, timeout=900)
    assert (tmp_path / "own.html").is_file()
    assert len((tmp_path / "next.csv").read_text(encoding="utf-8").splitlines()) == 21
    shown = "\nassert scores.shape == labels.shape == (2, len(predictor.label_names)), scores.shape"
    subprocess.run([sys.executable, "-c", PYTHON[0] + shown], cwd=tmp_path, env=env, check=True, timeout=900)


# ---------------------------------------------------------------------- all pages


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_relative_links_resolve(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_files_of_the_project_that_are_named_exist(path: Path) -> None:
    names = re.findall(r"(?<![\w/<>])((?:config|scripts|benchmarks|results)/[\w./-]+\.(?:yaml|py|md|csv|xz))",
                       path.read_text(encoding="utf-8"))  # fmt: skip
    if path.name == "upstream.md":  # all its other paths are of USB
        names = [name for name in names if "upstream" in name]
        assert names
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_included_tables_are_those_of_the_files(path: Path) -> None:
    for _, kind, words, table, _ in MARK.findall(path.read_text(encoding="utf-8")):
        if kind == "included":
            assert table.strip() == (ROOT / words).read_text(encoding="utf-8").strip(), words
        assert table.strip(), words


@pytest.mark.parametrize("path", WORDED, ids=relative)
def test_pages_use_the_words_of_the_field(path: Path) -> None:
    assert re.findall(rf"\b(?:{WORDS})\b", prose(path), re.IGNORECASE) == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_sources_use_the_words_of_the_field(path: Path) -> None:
    assert re.findall(rf"\b(?:{WORDS})\b", path.read_text(encoding="utf-8"), re.IGNORECASE) == []


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked
    cards = (ROOT / "docs" / "methods" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs" / "methods").glob("*.md")
            if path.name != "README.md" and f"({path.name})" not in cards] == []  # fmt: skip


def test_the_layout_table_has_every_layer() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Layout")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)(?:\.py|/)?`", table))
    assert {name for floor in FLOORS for name in floor} - {"__init__"} <= named


def test_results_keep_what_a_page_shows_and_no_second_copy() -> None:
    """Files of results/ that git keeps: the common ones, figures, and what a page includes or links."""
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if listed.returncode or not listed.stdout:
        pytest.skip("compares results/ with the list of files that git keeps, and this copy has no git")
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    common = {"summary.md", "cost.md", "runs.csv", "runs.tar.xz", "theory.csv", "README.md"}
    for name in listed.stdout.split():
        path = ROOT / name
        assert path.name in common or path.parent.name == "figures" or "demo" in path.parts or name in text, name
        if path.suffix == ".svg":  # only where the archive does not hold what it is drawn from
            assert re.search("_(angles|labels|precision_recall)_", path.name), name
