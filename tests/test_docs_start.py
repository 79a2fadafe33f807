"""The pages for new readers: every command, setting and line of Python on them is one that works."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.commands.data import words_for_encoding
from semilearn_bbam.compare.reading import read_grid
from semilearn_bbam.config import OPTIONS, ConfigError, Option, plain_value
from semilearn_bbam.config.quick import check_quickly
from semilearn_bbam.config.usb_names import USB_ONLY
from semilearn_bbam.run import algorithm_names, read_settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
START = sorted((DOCS / "start").glob("*.md"))
PAGES = [*START, *(DOCS / name for name in ("faq.md", "metrics.md", "performance.md", "README.md"))]
TRAINS = ("train", "data check", "data browse", "data convert", "data encode")
WRITTEN_BY_COMMAND = {"data browse": ("out", "rows"), "data convert": ("out",), "data encode": ("out", "tfidf")}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(path), re.DOTALL)


def spans(path: Path) -> list[str]:
    """Inline code."""
    prose = re.sub(r"```.*?```|^ {4}.*?$", "", text(path), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def files(path: Path) -> dict[str, str]:
    """The YAML files of a page: named in their first line, or by the text before them."""
    names = {}
    for block in blocks(path, "yaml"):
        named = re.match(r"# (\S+\.yaml)\n", block)
        above = text(path).partition(block)[0]
        names[named[1] if named else re.findall(r"`([\w/]+\.yaml)`", above)[-1]] = block
    assert len(names) == len(blocks(path, "yaml"))
    return names


def lines(path: Path) -> list[str]:
    return [line for block in blocks(path, "sh") for line in block.splitlines() if line]


def options_of_all() -> dict[str, list[Option]]:
    """Every option by name, as each method has it."""
    found: dict[str, list[Option]] = {option.name: [option] for option in OPTIONS}
    for name in algorithm_names():
        for option in ALGORITHMS[name].own_options():
            found.setdefault(option.name, []).append(option)
    return found


SH = [(path, line) for path in START for line in lines(path)]
INLINE = [(path, span) for path in PAGES for span in spans(path) if re.match(r"semilearn-bbam \w|python train", span)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_files(page: Path, folder: Path) -> None:
    for name, block in files(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block, encoding="utf-8")


def test_every_page_has_commands_and_settings() -> None:
    assert len(START) == 5
    assert all(lines(path) and files(path) for path in START)
    assert len(SH) > 15
    assert {line.split()[0] for _, line in SH} == {"semilearn-bbam"}


def name_of(pair: tuple[Path, str]) -> str:
    return f"{pair[0].stem}: {pair[1]}"


@pytest.mark.parametrize("pair", [pair for pair in SH if pair[1].split(" ", 1)[1].startswith(TRAINS)], ids=name_of)
def test_a_command_gives_settings(pair: tuple[Path, str], folder: Path) -> None:
    page, line = pair
    write_files(page, folder)
    words = shlex.split(line.replace("<folder>", str(folder)))
    command = next(name for name in TRAINS if " ".join(words[1:]).startswith(name))
    own = {f"--{key}" for key in WRITTEN_BY_COMMAND.get(command, ())}
    kept = words[1 + len(command.split()) :]
    for word in own & set(kept):
        place = kept.index(word)
        del kept[place : place + 2]
    if command == "data encode":
        kept = words_for_encoding(kept, tfidf="--tfidf" in words)
    settings = read_settings(kept)
    assert settings.dataset in ("manifest", "features", "digits")
    assert not settings.ignored_keys


@pytest.mark.parametrize("pair", SH, ids=name_of)
def test_a_command_has_the_arguments_that_are_printed(pair: tuple[Path, str]) -> None:
    _, command, *words = shlex.split(pair[1])
    if command == "data":
        command = f"data {words[0]}"
    done = help_of(command)
    known = {option.name for option in OPTIONS} | {"c", "algorithm"}
    for word in words:
        key = word.removeprefix("--")
        assert not word.startswith("--") or f"--{key}" in done or key in known, word


HELP: dict[str, str] = {}


def help_of(command: str) -> str:
    """What `semilearn-bbam COMMAND --help` prints."""
    if command not in HELP:
        words = [sys.executable, "-m", "semilearn_bbam", *command.split(), "--help"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        HELP[command] = done.stdout
    return HELP[command]


@pytest.mark.parametrize("pair", INLINE, ids=name_of)
def test_a_command_within_the_text_exists(pair: tuple[Path, str]) -> None:
    words = shlex.split(pair[1].replace("<", "").replace(">", ""))
    command = "train" if words[0] == "python" else words[1]
    known = {option.name for option in OPTIONS} | {"c", "algorithm", "help"}
    for word in words:
        assert not word.startswith("--") or word[2:] in known or word in help_of(command), word
    assert help_of(command)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_settings_within_the_text_are_ones_that_exist(path: Path) -> None:
    """`key: value` with a value that the option takes, and --key value."""
    known = options_of_all()
    for span in spans(path):
        pair = re.fullmatch(r"(\w+): (\S+)", span) or re.match(r"--(\w+) (\S+)", span)
        if pair is None or path.stem == "usb" or pair[1] in ("algorithm", "threshold", "c"):
            continue
        assert pair[1] in known, span
        accepted = []
        for option in known[pair[1]]:
            try:
                option.parse(pair[2] if option.type is str else plain_value(pair[2]))
                accepted.append(option)
            except ValueError:
                continue
        assert accepted, span


def test_the_grid_of_the_research_page_is_one(folder: Path) -> None:
    write_files(DOCS / "start" / "research.md", folder)
    jobs = read_grid("study/compare/first.yaml").jobs({"toy": "."}, "runs")
    assert len(jobs) == 6 * 2 * 3
    assert {read_settings(job.argv).feature_file for job in jobs[:6]} == {"vectors.npz"}


# ---------------------------------------------------------------------- Python


def run_python(code: str, folder: Path) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_vectors_page_makes_vectors_that_are_read(folder: Path) -> None:
    page = DOCS / "start" / "vectors.md"
    write_files(page, folder)
    run_python(blocks(page, "python")[0], folder)
    from semilearn_bbam.data import load_source

    source = load_source(read_settings(["--c", "vectors.yaml"]))
    assert (len(source.train), len(source.targets)) == (700, 100)
    assert list(source.label_names) == ["red", "green", "blue", "black"]


def test_the_thresholds_of_the_metrics_page_are_tuned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(DOCS / "metrics.md", "python")
    (folder / "code.py").write_text(code, encoding="utf-8")
    names = runpy.run_path("code.py")
    assert capsys.readouterr().out.strip() == "1.0"
    assert names["decisions"].tolist() == [[True, False], [True, True], [False, False]]


@pytest.mark.slow
def test_the_method_of_the_research_page_trains(folder: Path) -> None:
    run_python(blocks(DOCS / "start" / "vectors.md", "python")[0], folder)
    write_files(DOCS / "start" / "research.md", folder)
    (code,) = blocks(DOCS / "start" / "research.md", "python")
    assert 0.5 < float(run_python(code, folder).splitlines()[-1]) <= 1


# ---------------------------------------------------------------------- a reader from USB

USB = text(DOCS / "start" / "usb.md")
USB_FILE = """algorithm: fixmatch
save_name: fixmatch_cifar100_200_0
num_labels: 200
resume: True
load_path: ./saved_models/fixmatch_cifar100_200_0/latest_model.pth
overwrite: True
"""


def test_the_messages_of_the_usb_page_are_the_programs(folder: Path) -> None:
    quoted = re.findall(r"^ {4}(?:semilearn-bbam train: )?(fixmatch\.yaml:\d+: .*)$", USB, re.MULTILINE)
    assert len(quoted) == 4
    missing = 47 - len(USB_FILE.splitlines()) - 1
    (folder / "fixmatch.yaml").write_text(USB_FILE + "\n" * missing + "dist_url: tcp://127.0.0.1:1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_quickly(["--c", "fixmatch.yaml"])
    assert set(quoted) <= set(str(caught.value).splitlines())


def test_keys_that_the_usb_page_calls_the_same_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \| the same\b", USB, re.MULTILINE)
    assert len(rows) >= 7
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys <= set(options_of_all())
    named = set(re.findall(r"`(\w+)(?::[^`]*)?`", USB))
    assert {"load_path", "gpu", "world_size", "dist_url", "net_from_name"} <= named & set(USB_ONLY)


# ---------------------------------------------------------------------- questions


def test_every_answer_is_short_and_points_somewhere() -> None:
    page = text(DOCS / "faq.md")
    answers = re.split(r"^### .*\n", page, flags=re.MULTILINE)[1:]
    assert len(answers) >= 20
    for answer in answers:
        body = re.split(r"^## ", answer, flags=re.MULTILINE)[0].strip()
        assert len(body) < 620, body
        threads = re.search(r"\(([\w.-]+/[\w.-]+#\d+[^)]*)\)\s*$", body)
        assert "](" in body or "`" in body or threads, body
