"""The quickstart notebook: it runs from top to bottom without a network, and what is kept of it is fit to be read."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_readme import WORDS

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
LIMIT = 300_000  # bytes
MACHINE = r"(?<![\w.:/])/(?:home|root|Users|tmp|var|usr|opt|mnt|work|private)\b|[A-Z]:\\\\|site-packages"
TIME = r"\b20\d\d-\d\d-\d\d|\b\d\d:\d\d:\d\d\b"
# The kernel imports this at its start, and notes every host that it asks for.
NO_NETWORK = """
import os
import sys

LOCAL = ("127.0.0.1", "localhost", "::1")


def refuse(event, args):
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    address = args[1] if event == "socket.connect" else args[0]
    host = address[0] if isinstance(address, tuple) else address
    if host and host not in LOCAL and not os.path.exists(host):
        with open(os.environ["ASKED"], "a") as file:
            print(host, file=file)
        raise OSError(f"no network: {host}")


sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/run_notebook.py"))


@pytest.fixture(scope="module")
def committed() -> Any:
    return pytest.importorskip("nbformat").read(NOTEBOOK, as_version=4)


def offline(folder: Path) -> dict[str, str]:
    """Variables of a kernel that reaches no host and writes below `folder`."""
    (folder / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    env = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "ASKED": str(folder / "asked.txt"), "OMP_NUM_THREADS": "1"}
    return env | {"HOME": str(folder)}


@pytest.fixture(scope="module")
def executed(committed: Any, script: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook with new outputs, and the folder that it made."""
    pytest.importorskip("nbclient")
    notebook, folder = committed.copy(), tmp_path_factory.mktemp("notebook")
    notebook.cells = [cell.copy() for cell in committed.cells]
    script["execute"](notebook, folder, offline(folder))
    (made,) = folder.glob("quickstart_*")
    assert not (folder / "asked.txt").exists(), (folder / "asked.txt").read_text(encoding="utf-8")
    return notebook, made


def shown(notebook: Any, *, images: bool = False) -> str:
    """All that the cells of a notebook show as text."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            texts += [str(v) for k, v in output.get("data", {}).items() if images or not k.startswith("image/")]
    return "\n".join(texts)


def mean_ap(folder: Path, name: str) -> float:
    return float(json.loads((folder / name).read_text(encoding="utf-8"))["ranking"]["mAP"])


def test_the_kernel_is_this_python_and_reaches_no_host(script: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    form = pytest.importorskip("nbformat").v4
    code = "import socket, sys\nprint(sys.executable)\nsocket.getaddrinfo('example.org', 80)"
    notebook = form.new_notebook(cells=[form.new_code_cell(code)])
    with pytest.raises(Exception, match="no network: example.org"):
        script["execute"](notebook, tmp_path, offline(tmp_path))
    assert shown(notebook).strip() == sys.executable
    assert (tmp_path / "asked.txt").read_text(encoding="utf-8") == "example.org\n"


# ---------------------------------------------------------------------- as it runs


def test_the_runs_of_both_parts_end_with_metrics_in_range(executed: tuple[Any, Path]) -> None:
    _, folder = executed
    runs = {
        path.parent.name: json.loads(path.read_text("utf-8")) for path in folder.glob("saved_models/*/results.json")
    }
    digits = {"supervised_kernel", "supervised_bce", "bbam_plus"}
    assert set(runs) == digits | {"floor", "own", "floor2", "own2"}
    for name, results in runs.items():
        for part in ("test", "test_prior"):
            assert all(0 <= results[part][key] <= 1 for key in ("mAP", "micro_f1", "macro_f1")), name
    assert {runs[name]["num_labels"] for name in digits} == {80}
    assert min(runs[name]["test"]["mAP"] for name in ("supervised_bce", "bbam_plus")) > 0.3  # chance: 0.12


def test_photographs_are_predicted_calibrated_and_evaluated(executed: tuple[Any, Path]) -> None:
    _, folder = executed
    names = {"house", "lake", "sun", "tree"}
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"IMG_{i:04d}.JPG" for i in range(20, 60)]
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in names)
    assert all(set(row["labels"].split(";")) - {""} <= names and not row["problem"] for row in rows)
    own = folder / "saved_models" / "own"
    assert json.loads((own / "decisions.json").read_text("utf-8"))["folds"] == 3
    assert 0 <= mean_ap(own, "evaluation.json") <= 1
    for name in ("floor", "own", "floor2", "own2"):  # chance: 0.45
        assert 0.5 < mean_ap(folder, f"saved_models/{name}/evaluation_new_photos.json") <= 1, name


def test_the_second_round_has_the_ten_corrected_pictures(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    with open(folder / "next.csv", newline="", encoding="utf-8") as file:
        chosen = [row["path"] for row in csv.DictReader(file)]
    assert len(set(chosen)) == 10
    assert min(chosen) >= "IMG_0020.JPG"  # of the pool
    assert (folder / "next.png").is_file()
    counts = [json.loads((folder / "saved_models" / name / "results.json").read_text("utf-8"))["num_labels"]
              for name in ("own", "own2")]  # fmt: skip
    assert counts == [16, 26]
    assert re.search(r"^\d+ of 10 lines changed$", shown(notebook), re.MULTILINE)


def test_it_ends_with_one_page_about_the_runs(executed: tuple[Any, Path]) -> None:
    _, folder = executed
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("floor", "own", "floor2", "own2"))
    assert "data:image/" in page


def test_outputs_that_are_kept_have_no_trace_of_the_machine(executed: tuple[Any, Path], script: dict[str, Any]) -> None:
    notebook, folder = executed
    assert len(shown(notebook, images=True)) > 50_000
    script["tidy"](notebook, folder.parent)
    check_shown(notebook)


def test_the_kept_outputs_are_of_this_notebook(executed: tuple[Any, Path], committed: Any) -> None:
    """The same kinds of output in every cell; what they state may differ between machines."""

    def kinds(notebook: Any) -> list[tuple[str, set[str]]]:
        outputs = [(cell.id, [out for out in cell.get("outputs", []) if out.get("name") != "stderr"])
                   for cell in notebook.cells]  # fmt: skip
        return [(key, {kind for out in found for kind in out.get("data", {"text": ""})}) for key, found in outputs]

    assert kinds(committed) == kinds(executed[0]), "run python scripts/run_notebook.py"


# ---------------------------------------------------------------------- as it is kept


def check_shown(notebook: Any) -> None:
    """No error, warning, path of a machine, user or time in the outputs."""
    kinds = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [out for out in kinds if out.output_type == "error" or out.get("name") == "stderr"] == []
    for pattern in (MACHINE, TIME, re.escape(str(Path.home())) + r"\b"):
        assert re.findall(pattern, shown(notebook)) == [], pattern


def test_the_kept_notebook_is_valid_small_and_for_any_python(committed: Any) -> None:
    pytest.importorskip("nbformat").validate(committed)
    assert NOTEBOOK.stat().st_size < LIMIT
    assert committed.metadata == {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def test_the_kept_outputs_are_of_one_whole_run_and_have_no_errors(committed: Any) -> None:
    check_shown(committed)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [cell.id for cell in committed.cells if cell.metadata]


def test_cells_are_short_and_have_text_before_them(committed: Any) -> None:
    kinds = [cell.cell_type for cell in committed.cells]
    assert kinds[0] == kinds[-1] == "markdown"
    assert all(before == "markdown" for before, kind in zip(kinds, kinds[1:], strict=False) if kind == "code")
    assert max(len(cell.source.splitlines()) for cell in committed.cells) <= 45
    sources = "\n".join(cell.source for cell in committed.cells)
    assert re.findall(MACHINE, sources) == []
    assert [line for line in sources.splitlines() if len(line) > 130] == []
    prose = "\n".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
    assert re.findall(rf"\b(?:{WORDS})\b", prose, re.IGNORECASE) == []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        assert (NOTEBOOK.parent / link.partition("#")[0]).is_file(), link


def test_the_yaml_is_that_of_the_page_on_photographs(committed: Any) -> None:
    """But for the encoder, whose weights would be downloaded."""
    page = (ROOT / "docs/start/photographs.md").read_text(encoding="utf-8")
    (printed,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (written,) = [cell.source for cell in committed.cells if cell.source.startswith("%%writefile photos.yaml")]
    lines = [line for line in printed.splitlines() if not line.startswith("encoder:")]
    assert written.splitlines()[1 : 1 + len(lines)] == lines
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("wrote /home/me/x.csv", True),
        ("in /tmp/quickstart_ab12/photos", True),
        (r"C:\\Users\\me", True),
        ("[2026-01-02 INFO] epoch", True),
        ("saved_models/own/results.json, 0 s left, epoch 1/7, ../docs/tmp", False),
    ],
)
def test_traces_of_a_machine_are_found(text: str, found: bool) -> None:
    assert bool(re.search(f"{MACHINE}|{TIME}", text)) == found
