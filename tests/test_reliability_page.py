"""The page of promises names tests that exist, and the script that fills it reads a report right."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NODES = re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE)
REPORT = """<testsuites><testsuite>
  <testcase classname="tests.test_a" name="test_one[x]" />
  <testcase classname="tests.test_a" name="test_one[y]"><failure /></testcase>
  <testcase classname="tests.test_a" name="test_one_more"><properties><property name="kills" value="50" /></properties>
  </testcase>
  <testcase classname="tests.test_b" name="test_one"><skipped /></testcase>
</testsuite></testsuites>"""


def test_the_page_names_tests() -> None:
    assert len(NODES) > 20


@pytest.mark.parametrize("node", NODES)
def test_every_test_of_the_page_exists(node: str) -> None:
    file, _, name = node.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
    assert name in functions if name else any(one.startswith("test_") for one in functions)


def test_what_a_report_says_of_a_test_and_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "reliability.py"))
    (tmp_path / "report.xml").write_text(REPORT)
    cases = script["read_cases"](tmp_path / "report.xml")
    assert script["printed"]("tests/test_a.py::test_one", cases) == "1 passed, 1 FAILED"
    assert script["printed"]("tests/test_a.py", cases) == "2 passed, 1 FAILED, 50 kills"
    assert script["printed"]("tests/test_b.py", cases) == "0 passed, 1 skipped"
    assert script["printed"]("tests/test_c.py", cases) == "not run"
    main = script["main"]
    page = "# A title that does not run\n\n| promise | test | last |\n|---|---|---|\n| p | `tests/test_a.py` | old |\n"
    main.__globals__["PAGE"] = tmp_path / "page.md"
    for change, status in (("", 1), ("<failure />", 0)):
        (tmp_path / "page.md").write_text(page)
        (tmp_path / "report.xml").write_text(REPORT.replace(change, "") if change else REPORT)
        assert main([str(tmp_path / "report.xml")]) == status
        assert "old" not in (tmp_path / "page.md").read_text()
    assert "| `tests/test_a.py` | 3 passed, 50 kills |" in (tmp_path / "page.md").read_text()
    (tmp_path / "cut.xml").write_text(REPORT[:50])
    assert script["main"]([str(tmp_path / "cut.xml")]) == 2
    assert "make test-all" in capsys.readouterr().err
